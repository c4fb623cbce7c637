from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from geodistill.data.layout import PairedFiles, find_mask_places, find_pairs, no_pair_error
from geodistill.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def names(layout: PairedFiles) -> list[tuple[str, str | None]]:
    return [
        (layout.name(image), None if mask is None else Path(os.path.relpath(mask, layout.base)).as_posix())
        for image, mask in layout.pairs
    ]


def test_plain_folders_pair_by_stem(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "images/b.JPG", "masks/a.png", "masks/b.bmp", "images/notes.txt")
    assert names(find_pairs([tmp_path])) == [("images/a.tif", "masks/a.png"), ("images/b.JPG", "masks/b.bmp")]


def test_nested_folders_pair_within_their_nest(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Tile_{i}/{kind}" for i in (1, 2) for kind in ("images/p.jpg", "masks/p.png")))
    assert names(find_pairs([tmp_path])) == [
        ("Tile_1/images/p.jpg", "Tile_1/masks/p.png"),
        ("Tile_2/images/p.jpg", "Tile_2/masks/p.png"),
    ]


def test_given_folders_pair_by_relative_path(tmp_path: Path) -> None:
    touch(tmp_path, "x/north/p.png", "x/south/p.png", "y/north/p.png", "y/south/p.png")
    found = find_pairs([tmp_path / "x"], [tmp_path / "y"])
    assert names(found) == [("x/north/p.png", "y/north/p.png"), ("x/south/p.png", "y/south/p.png")]


def test_several_roots_are_named_from_their_common_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{city}/{kind}/p.png" for city in ("here", "there") for kind in ("images", "masks")))
    roots = [tmp_path / city / "images" for city in ("here", "there")]
    found = find_pairs(roots, [tmp_path / city / "masks" for city in ("here", "there")])
    assert [found.name(image) for image, _ in found.pairs] == ["here/images/p.png", "there/images/p.png"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a", "a_mask"),
        ("a", "A_LABEL"),
        ("a_sat", "a_mask"),
        ("top_2_10_RGB", "top_2_10_label"),
        ("a", "a_noBoundary"),
        ("OAM-1-2-21", "OAM-1-2-21.mask"),
    ],
)
def test_endings(tmp_path: Path, image: str, mask: str) -> None:
    touch(tmp_path, f"images/{image}.tif", f"labels/{mask}.tif")
    assert names(find_pairs([tmp_path])) == [(f"images/{image}.tif", f"labels/{mask}.tif")]


def test_masks_beside_their_images(tmp_path: Path) -> None:
    touch(tmp_path, "block0.tif", "block0_mask.tif", "block1.tif")
    assert names(find_pairs([tmp_path])) == [("block0.tif", "block0_mask.tif"), ("block1.tif", None)]


def test_a_name_with_a_mask_ending_and_no_image_is_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "unmask_seg.tif")
    assert names(find_pairs([tmp_path])) == [("unmask_seg.tif", None)]


def test_one_file_each(tmp_path: Path) -> None:
    touch(tmp_path, "scene.tif", "truth.png")
    assert names(find_pairs([tmp_path / "scene.tif"], [tmp_path / "truth.png"])) == [("scene.tif", "truth.png")]
    assert names(find_pairs([tmp_path / "scene.tif"])) == [("scene.tif", None)]


def test_what_has_no_partner_is_kept_and_told(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "images/b.tif", "masks/a.tif", "masks/c.tif", "more/images/d.tif")
    found = find_pairs([tmp_path])
    assert names(found) == [("images/a.tif", "masks/a.tif"), ("images/b.tif", None), ("more/images/d.tif", None)]
    assert [m.name for m in found.masks_without_image] == ["c.tif"]


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "images/._a.tif", "images/.cache/a.tif", "masks/a.tif")
    assert names(find_pairs([tmp_path])) == [("images/a.tif", "masks/a.tif")]


def test_include_takes_images_by_name_and_leaves_their_masks_alone(tmp_path: Path) -> None:
    touch(tmp_path, "images/a-19.png", "images/a-21.png", "masks/a-19.png", "masks/a-21.png")
    found = find_pairs([tmp_path], include="*-21.png")
    assert names(found) == [("images/a-21.png", "masks/a-21.png")]
    assert not found.masks_without_image
    with pytest.raises(DataError, match=r"matches '\*\.xyz'"):
        find_pairs([tmp_path], include="*.xyz")


def test_two_masks_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "masks/a.tif", "masks/a.png")
    with pytest.raises(DataError, match="one mask of that name"):
        find_pairs([tmp_path])


def test_two_images_of_one_mask(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "images/a.png", "masks/a.tif")
    with pytest.raises(DataError, match="share the mask"):
        find_pairs([tmp_path])


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        find_pairs([tmp_path / "none"])
    with pytest.raises(DataError, match="no image in"):
        find_pairs([tmp_path])
    touch(tmp_path, "a/x.png", "b/x.png")
    with pytest.raises(DataError, match="as many of each"):
        find_pairs([tmp_path / "a", tmp_path / "b"], [tmp_path / "a"])


def test_no_pair_says_which_names_were_tried(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.tif", "masks/other.tif")
    message = str(no_pair_error(find_pairs([tmp_path]), [tmp_path]))
    for said in ("no pair", "a.tif", "_mask", "_label", "masks, mask, labels", "1 mask without an image"):
        assert said in message


def test_masks_beside_a_folder_of_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.tif", "pics/b.tif", "labels/a.png", "labels/b.png")
    assert names(find_pairs([tmp_path / "pics"])) == [("a.tif", "../labels/a.png"), ("b.tif", "../labels/b.png")]


@pytest.mark.parametrize("beside", ["masks/other.png", "ratings/a.png"])
def test_what_lies_beside_and_fits_nothing_is_left_alone(beside: str, tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.tif", beside)
    assert [mask for _, mask in find_pairs([tmp_path / "pics"]).pairs] == [None]


def test_two_folders_of_fitting_masks_are_offered(tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.tif", "labels/a.png", "masks/a.png")
    pics = tmp_path / "pics"
    message = str(no_pair_error(find_pairs([pics]), [pics]))
    for folder in ("labels", "masks"):
        assert f"--images {pics} --masks {tmp_path / folder}" in message


def test_folders_of_fitting_names_inside_are_offered(tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.tif", "labels/a.png", "notes/x.png")
    message = str(no_pair_error(find_pairs([tmp_path]), [tmp_path]))
    assert message.endswith(f"--images {tmp_path / 'pics'} --masks {tmp_path / 'labels'}")


def test_masks_beside_a_place_given_from_within_it(tmp_path: Path) -> None:
    touch(tmp_path, "tiles/a.png", "tiles/project/p.yaml", "masks/a.png")
    assert find_mask_places([tmp_path / "tiles" / "project" / ".."]) == [tmp_path / "masks"]


def test_masks_are_told_from_thousands_of_images_in_seconds(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}{ending}.png" for number in range(2000) for ending in ("", "_mask")))
    begun = time.monotonic()
    assert all(mask is not None for _, mask in find_pairs([tmp_path]).pairs)
    assert time.monotonic() - begun < 15  # each name compared with every other one: over a minute
