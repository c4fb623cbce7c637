from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from geodistill.cli import main
from geodistill.data.catalog.benchmark import pattern
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.find import find_set, list_files, scan_set
from geodistill.data.catalog.unpack import unpack
from geodistill.data.manifest import Manifest
from geodistill.data.mask_files import read_mask
from geodistill.errors import DataError, GeodistillWarning, RecipeError, UnknownNameError
from geodistill.spec import IGNORE_INDEX, Legend
from official_sets import BUILDERS, SIDE, colours, image, write

# Images of each split in the official split of the small folders.
COUNTS = {
    "vaihingen": {"train": 16, "test": 17},
    "potsdam": {"train": 24, "test": 14},
    "loveda": {"train": 4, "val": 4, "unlabelled": 4},
    "openearthmap": {"train": 2, "val": 1, "unlabelled": 1},
    "isaid": {"train": 2, "val": 1, "unlabelled": 1},
    "l8-biome": {"train": 6, "val": 2, "test": 2},
    "l8-biome-patches": {"train": 1, "val": 1, "test": 1},
    "grass": {"train": 2, "test": 1},
    "cas-landslide": {"train": 32, "val": 4, "test": 4},
    "sota": {"train": 2, "val": 1},
    "sior": {"train": 2, "val": 1},
    "fast": {"train": 2, "val": 1},
}


def test_every_set_with_masks_is_tested() -> None:
    assert set(BUILDERS) == set(COUNTS) == {name for name, b in CATALOG.items() if b.kind == "masks"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_official_layout_gives_pairs_by_name_in_the_official_split(name: str, tmp_path: Path) -> None:
    BUILDERS[name](tmp_path / "set")
    report = scan_set(CATALOG[name], tmp_path / "set", tmp_path / "m.parquet")
    manifest = Manifest.load(tmp_path / "m.parquet")
    assert Counter(row.split for row in manifest.entries) == COUNTS[name]
    assert manifest.problems == report.missing == ()
    assert manifest.bands == CATALOG[name].bands
    assert manifest.legend == CATALOG[name].legend
    assert manifest.legend is not None
    for row in manifest.entries:
        assert (row.mask is None) == (row.split == "unlabelled")
        if row.mask is not None:
            # The image's own number stands in its mask's name too.
            assert row.image.stem.removesuffix("_RGB") in row.mask.stem.replace("_label", "")
            labels = read_mask(row.mask, manifest.legend)
            assert set(np.unique(labels)) <= {*range(len(manifest.legend)), IGNORE_INDEX}
            # iSAID and CAS name every pixel; all others have a colour or a value for no label.
            assert bool((labels[0] == IGNORE_INDEX).all()) == (name not in ("isaid", "cas-landslide"))


@pytest.mark.slow
def test_variants_of_files_and_of_splits(tmp_path: Path) -> None:
    BUILDERS["potsdam"](tmp_path)
    found = find_set(CATALOG["potsdam"], tmp_path, "rgbir-eroded", "val-2_10")
    assert Counter(split for *_, split in found.pairs) == {"train": 22, "val": 1, "test": 14}
    assert {key for key, *_, split in found.pairs if split == "val"} == {"2_10"}
    assert [path.name for path in found.unlisted] == ["top_potsdam_7_10_RGBIR.tif"]
    assert all(mask is not None and mask.stem.endswith("_noBoundary") for _, _, mask, _ in found.pairs)
    report = scan_set(CATALOG["potsdam"], tmp_path, tmp_path / "m", layout="rgbir")
    assert report.manifest.bands == ("red", "green", "blue", "near infrared")
    with pytest.raises(UnknownNameError, match="layout 'erode'"):
        find_set(CATALOG["potsdam"], tmp_path, "erode")
    with pytest.raises(UnknownNameError, match="split 'val30'"):
        find_set(CATALOG["potsdam"], tmp_path, None, "val30")


def test_full_and_eroded_labels_of_vaihingen_do_not_mix(tmp_path: Path) -> None:
    BUILDERS["vaihingen"](tmp_path)
    for layout, eroded in (("full", False), ("eroded", True)):
        found = find_set(CATALOG["vaihingen"], tmp_path, layout, "val-30")
        assert all(mask is not None and mask.stem.endswith("_noBoundary") == eroded for _, _, mask, _ in found.pairs)
        assert {key for key, *_, split in found.pairs if split == "val"} == {"30"}


@pytest.mark.slow
def test_missing_files_are_named_exactly(tmp_path: Path) -> None:
    BUILDERS["potsdam"](tmp_path / "set")
    (tmp_path / "set/2_Ortho_RGB/top_potsdam_2_10_RGB.tif").unlink()
    (tmp_path / "set/5_Labels_all/top_potsdam_7_7_label.tif").unlink()
    with pytest.raises(DataError, match="2 files of potsdam are missing") as caught:
        scan_set(CATALOG["potsdam"], tmp_path / "set", tmp_path / "m")
    assert "top_potsdam_2_10_RGB.tif (train)" in str(caught.value)
    assert "mask of 2_Ortho_RGB/top_potsdam_7_7_RGB.tif" in str(caught.value)
    report = scan_set(CATALOG["potsdam"], tmp_path / "set", tmp_path / "m", partial=True)
    assert len(report.missing) == 2
    assert len(report.manifest.entries) == 36


def test_lists_name_what_is_not_there(tmp_path: Path) -> None:
    BUILDERS["openearthmap"](tmp_path)
    with (tmp_path / "OpenEarthMap_wo_xBD/train.txt").open("a") as file:
        file.write("joplin_7.tif\n")
    with pytest.raises(DataError, match=r"joplin_7.*xBD images apart"):
        scan_set(CATALOG["openearthmap"], tmp_path, tmp_path / "m")
    for split in ("train", "val", "test"):
        (tmp_path / f"OpenEarthMap_wo_xBD/{split}.txt").write_text(f"{split}_7.tif\n")
    with pytest.raises(DataError, match="3 files of openearthmap are missing"):
        scan_set(CATALOG["openearthmap"], tmp_path, tmp_path / "m", partial=True)


def test_a_folder_of_another_set_is_recognised(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    with pytest.raises(DataError, match="looks like LoveDA") as caught:
        scan_set(CATALOG["isaid"], tmp_path / "set", tmp_path / "m")
    assert "--dataset loveda" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image of isaid"):
        scan_set(CATALOG["isaid"], tmp_path / "empty", tmp_path / "m")
    with pytest.raises(DataError, match="no folder"):
        scan_set(CATALOG["isaid"], tmp_path / "none", tmp_path / "m")
    with pytest.raises(RecipeError, match=r"label build --format dota --preset sota"):
        scan_set(CATALOG["dota"], tmp_path / "set", tmp_path / "m")


def test_two_files_of_one_id_are_told(tmp_path: Path) -> None:
    BUILDERS["potsdam"](tmp_path)
    image(tmp_path / "copy" / "top_potsdam_2_10_RGB.tif", 0)
    with pytest.raises(DataError, match="both 2_10"):
        find_set(CATALOG["potsdam"], tmp_path)


@pytest.mark.slow
def test_colours_off_the_palette_go_to_the_nearest_and_are_counted(tmp_path: Path) -> None:
    BUILDERS["potsdam"](tmp_path / "set")
    legend = CATALOG["potsdam"].legend
    assert legend is not None
    label = tmp_path / "set/5_Labels_all/top_potsdam_2_10_label.tif"
    mask = np.zeros((3, SIDE, SIDE), np.uint8)
    mask[2] = 255  # building
    mask[:, 0, :3] = np.array([[250, 251, 249], [3, 2, 250], [4, 4, 1]]).T  # near white, near blue, near black
    write(label, mask)
    labels = read_mask(label, legend, ignore_unknown=True)
    assert labels[0, :4].tolist() == [0, 1, IGNORE_INDEX, 1]
    report = scan_set(CATALOG["potsdam"], tmp_path / "set", tmp_path / "m")
    statistics = report.manifest.statistics
    assert statistics is not None
    assert statistics.unknown_labels == {"#fafbf9": 1, "#0302fa": 1, "#040401": 1}
    assert report.manifest.problems == ()
    assert Legend.from_dict(json.loads(json.dumps(legend.to_dict()))) == legend


def test_loveda_is_its_values_less_one_with_0_as_no_data() -> None:
    legend = CATALOG["loveda"].legend
    assert legend is not None
    indices, odd = legend.indices_from_values(np.arange(8)[None])
    assert indices[0].tolist() == [IGNORE_INDEX, 0, 1, 2, 3, 4, 5, 6]
    assert odd == {}


def test_drawn_splits_are_whole_and_sites_may_stay_together(tmp_path: Path) -> None:
    BUILDERS["cas-landslide"](tmp_path)
    drawn = find_set(CATALOG["cas-landslide"], tmp_path)
    assert len({key for key, *_ in drawn.pairs}) == 40
    whole = find_set(CATALOG["cas-landslide"], tmp_path, None, "by-site")
    split_of_site = {(key.rpartition("/")[0], split) for key, _, _, split in whole.pairs}
    assert len(split_of_site) == 4  # every site in one split
    assert {split for _, split in split_of_site} >= {"train", "test"}


def test_patterns() -> None:
    assert pattern("top/a_{tile}.tif").match("x/y/top/a_12.tif")
    assert not pattern("top/a_{tile}.tif").match("x/stop/a_12.tif")
    assert pattern("{region}/images/{id}.tif").match("base/lima/images/lima_3.tif")
    assert pattern("{p}/**/m/{i}.png").match("train/m/a.png")
    assert not pattern("a_{tile}.tif").match("a_1_2/b.tif")


# Zips -----------------------------------------------------------------------------------------------------------------


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


@pytest.mark.slow
def test_a_zip_of_zips_is_read_straight(tmp_path: Path) -> None:
    BUILDERS["potsdam"](tmp_path / "set")
    (tmp_path / "zips").mkdir()
    for folder in ("2_Ortho_RGB", "5_Labels_all"):
        zipped(tmp_path / "set" / folder, tmp_path / "zips" / f"{folder}.zip")
    whole = zipped(tmp_path / "zips", tmp_path / "Potsdam.zip")
    report = scan_set(CATALOG["potsdam"], whole, tmp_path / "out" / "m.parquet")
    assert len(report.manifest.entries) == 38
    assert all(str(row.image).startswith(str(tmp_path / "out")) for row in report.manifest.entries)
    # One part by hand, one as a zip.
    (tmp_path / "zips/2_Ortho_RGB.zip").unlink()
    (tmp_path / "set/2_Ortho_RGB").rename(tmp_path / "zips/2_Ortho_RGB")
    assert len(scan_set(CATALOG["potsdam"], tmp_path / "zips", tmp_path / "out2").manifest.entries) == 38


def test_zips_of_one_name_lie_in_folders_as_they_did(tmp_path: Path) -> None:
    BUILDERS["isaid"](tmp_path / "set")
    for folder in sorted((tmp_path / "set").glob("iSAID/*/*")):
        place = tmp_path / "zips" / folder.relative_to(tmp_path / "set")
        place.mkdir(parents=True)
        zipped(folder, place / "part.zip")
    report = scan_set(CATALOG["isaid"], tmp_path / "zips", tmp_path / "out")
    assert Counter(row.split for row in report.manifest.entries) == COUNTS["isaid"]


def test_a_root_that_moved_is_found_and_another_one_refused(tmp_path: Path) -> None:
    """One part by hand, the others as zips."""
    roots = [tmp_path / name for name in ("one", "two")]
    for number, root in enumerate(roots):
        BUILDERS["loveda"](tmp_path / f"set{number}")
        write(tmp_path / f"set{number}/Train/Rural/images_png/0.png", np.full((3, SIDE, SIDE), number, np.uint8))
        root.mkdir()
        (tmp_path / f"set{number}/Val").rename(root / "Val")
        zipped(tmp_path / f"set{number}", root / "Train.zip")
    out = tmp_path / "out"
    scan_set(CATALOG["loveda"], roots[0], out)
    moved = roots[0].rename(tmp_path / "moved")
    entries = scan_set(CATALOG["loveda"], moved, out).manifest.entries
    assert Counter(row.split for row in entries) == COUNTS["loveda"]
    with pytest.raises(DataError, match=r"holds Train, unpacked of other zips; .*two/Train\.zip; remove those"):
        scan_set(CATALOG["loveda"], roots[1], out)


def test_what_was_unpacked_before_there_was_a_record_moves_to_its_name(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    for part, place in (("Test", "."), ("Train", "sub"), ("Val", "sub/sub")):
        (tmp_path / "zips" / place).mkdir(parents=True, exist_ok=True)
        zipped(tmp_path / "set" / part, tmp_path / "zips" / place / f"{part}.zip")
    into = tmp_path / "out/loveda-unpacked"
    shutil.copytree(tmp_path / "set", into)
    for _ in range(2):
        entries = scan_set(CATALOG["loveda"], tmp_path / "zips", tmp_path / "out").manifest.entries
        assert Counter(row.split for row in entries) == COUNTS["loveda"]
    assert {path.name for path in into.iterdir()} == {"Test", "sub", "zips.json"}
    # Of two zips of one name it is not known which one was unpacked; nor may a folder move into itself.
    (into / "zips.json").unlink()
    (tmp_path / "zips/Test").mkdir()
    shutil.copy(tmp_path / "zips/Test.zip", tmp_path / "zips/Test/Test.zip")
    for _ in range(2):
        with pytest.raises(DataError, match=r"remove .*loveda-unpacked/Test; it is unpacked again"):
            scan_set(CATALOG["loveda"], tmp_path / "zips", tmp_path / "out")
        (tmp_path / "zips/Test.zip").unlink(missing_ok=True)


def test_a_zip_may_go_once_it_is_unpacked(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    (tmp_path / "zips").mkdir()
    archives = [zipped(tmp_path / "set" / part, tmp_path / "zips" / f"{part}.zip") for part in ("Test", "Train", "Val")]
    scan_set(CATALOG["loveda"], tmp_path / "zips", tmp_path / "out")
    archives[1].unlink()
    for _ in range(2):
        with pytest.warns(GeodistillWarning, match="holds Train, unpacked of zips that are no longer there"):
            entries = scan_set(CATALOG["loveda"], tmp_path / "zips", tmp_path / "out").manifest.entries
        assert Counter(row.split for row in entries) == COUNTS["loveda"]
    zipped(tmp_path / "set/Val", archives[1])
    with pytest.raises(DataError, match="holds Train, unpacked of other zips"):
        scan_set(CATALOG["loveda"], tmp_path / "zips", tmp_path / "out")


def test_the_manifest_may_lie_in_the_root(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    (tmp_path / "root").mkdir()
    (tmp_path / "set/Val").rename(tmp_path / "root/Val")
    zipped(tmp_path / "set", tmp_path / "root/Train.zip")
    for _ in range(2):
        entries = scan_set(CATALOG["loveda"], tmp_path / "root", tmp_path / "root").manifest.entries
        assert Counter(row.split for row in entries) == COUNTS["loveda"]


def test_links_to_folders_beside_them_count_and_circles_do_not(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    files = list_files(tmp_path / "set")
    (tmp_path / "set/Val/back").symlink_to(tmp_path / "set")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert list_files(tmp_path / "set") == files
    assert len(list_files(tmp_path)) == 2 * len(files)
    # The folders beside their official names: whichever is read first, no image is left out in silence.
    for part in ("Train", "Val", "Test"):
        (tmp_path / "set" / part).rename(tmp_path / "set" / f"{part}.d")
        (tmp_path / "set" / part).symlink_to(tmp_path / "set" / f"{part}.d")
    with pytest.raises(DataError, match="are both"):
        scan_set(CATALOG["loveda"], tmp_path / "set", tmp_path / "m")


def test_links_among_folders_are_followed_within_bounds(tmp_path: Path) -> None:
    folders = [tmp_path / f"d{number}" for number in range(8)]
    for folder in folders:
        folder.mkdir()
        (folder / "a.png").touch()
    for folder in folders:
        for other in folders:
            if other != folder:
                (folder / f"to_{other.name}").symlink_to(other)
    files = list_files(tmp_path)
    assert {f"d{number}/a.png" for number in range(8)} < {*files}
    assert len(files) <= 8 + 8 * (7 + 20)
    (tmp_path / "chain/0").mkdir(parents=True)
    (tmp_path / "chain/0/a.png").touch()
    for number in range(1, 6):  # a chain is followed to its end
        (tmp_path / f"chain/{number}").mkdir()
        (tmp_path / f"chain/{number}/next").symlink_to(tmp_path / f"chain/{number - 1}")
    assert list_files(tmp_path / "chain/5") == ["next/next/next/next/next/a.png"]


def test_every_fold_that_links_to_one_folder_is_followed(tmp_path: Path) -> None:
    image(tmp_path / "shared/a.png", 0)
    for number in range(25):
        (tmp_path / f"fold{number}").mkdir()
        (tmp_path / f"fold{number}/images").symlink_to("../shared")
    assert len(list_files(tmp_path)) == 25 + 1


def test_images_in_folders_of_no_split_are_named(tmp_path: Path) -> None:
    BUILDERS["loveda"](tmp_path / "set")
    for number, part in enumerate(("Train", "Val", "Test")):
        (tmp_path / "set" / part).rename(tmp_path / "set" / f"Part{number}")
    with pytest.raises(DataError, match="in folders part0, part1, part2; expected train, val, test"):
        scan_set(CATALOG["loveda"], tmp_path / "set", tmp_path / "m")


def test_a_zip_cut_short_leaves_nothing(tmp_path: Path) -> None:
    BUILDERS["grass"](tmp_path / "set")
    whole = zipped(tmp_path / "set", tmp_path / "grass.zip")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(DataError, match="cut short"):
        scan_set(CATALOG["grass"], whole, tmp_path / "out" / "m.parquet")
    assert not (tmp_path / "out" / "grass-unpacked" / "grass").exists()


@pytest.mark.parametrize("name", ["../out.tif", "/abs.tif", "a/../../b.tif", "C:/x.tif"])
def test_a_zip_may_not_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(name, b"x")
    with pytest.raises(DataError, match="outside its folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "into")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


def test_a_zip_inside_a_zip_is_unpacked_also_where_a_folder_has_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as inner:
        inner.writestr("deep.tif", b"deep")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.write(tmp_path / "in.zip", "in.zip")
        file.writestr("in/other.tif", b"other")
    unpack(tmp_path / "set.zip", tmp_path / "into")
    found = {path.name: path.read_bytes() for path in (tmp_path / "into").rglob("*.*") if path.suffix != ".json"}
    assert found == {"deep.tif": b"deep", "other.tif": b"other"}


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.tif")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(link, "/etc/hosts")
    with pytest.raises(DataError, match="link"):
        unpack(tmp_path / "bad.zip", tmp_path / "into")


# Commands -------------------------------------------------------------------------------------------------------------


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in CATALOG)
    assert main(["datasets", "potsdam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["splits"]["val-2_10"] == {"train": 22, "val": 1, "test": 14}
    for name in CATALOG:
        assert main(["datasets", name]) == 0
    BUILDERS["grass"](tmp_path / "set")
    capsys.readouterr()
    command = ["data", "scan", "--dataset", "grass", "--root", str(tmp_path / "set")]
    assert main([*command, "--out", str(tmp_path / "m.parquet")]) == 0
    assert "3 images (train 2, test 1)" in capsys.readouterr().out
    assert main(["data", "scan", "--dataset", "gras", "--root", str(tmp_path)]) == 2
    assert "such as grass" in capsys.readouterr().err
    assert main(["data", "scan", "--dataset", "grass"]) == 2
    assert main(["data", "scan"]) == 2


def test_black_of_eroded_labels_is_ignored(tmp_path: Path) -> None:
    legend = CATALOG["vaihingen"].legend
    assert legend is not None
    path = colours(tmp_path / "a.tif", 0, legend)
    labels = read_mask(path, legend)
    assert bool((labels[0] == IGNORE_INDEX).all())
    assert int((labels[1:] == IGNORE_INDEX).sum()) == 0
