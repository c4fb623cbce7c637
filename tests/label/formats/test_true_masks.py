"""True masks from pictures with an instance a colour: HRSC2016's LandMask, iSAID's instance pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from box_formats import FORMATS, Thing
from factories import make_picture, make_raster
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.boxes import Box, ImageBoxes, rectangle
from geodistill.label.formats.detection import read_boxes
from geodistill.label.formats.true_masks import (
    ISAID_COLOURS,
    ColourMask,
    Instance,
    instances_of,
    with_true_masks,
)
from geodistill.label.masks import Runs

WIDTH, HEIGHT = 60, 40


def hrsc(folder: Path, colours: list[str], mask: np.ndarray | None) -> ImageBoxes:
    """Write a set of HRSC2016 in which the objects lie side by side, 10 pixels apart."""
    things = [Thing(10 + 15 * n, 20, 10, 30, 0.1) for n in range(len(colours))]
    text = FORMATS["hrsc"].text("100000001", things, (WIDTH, HEIGHT))
    for colour in colours:
        text = text.replace("<seg_color></seg_color>", f"<seg_color>{colour} </seg_color>", 1)
    (folder / "Annotations").mkdir(parents=True)
    (folder / "Annotations" / "100000001.xml").write_text(text)
    make_picture(folder / "AllImages" / "100000001.bmp", np.zeros((HEIGHT, WIDTH, 3)))
    if mask is not None:
        make_picture(folder / "LandMask" / "100000001.png", mask)
    (image,) = read_boxes("hrsc", folder / "Annotations", folder / "AllImages").images
    return image


def test_ships_have_the_pixels_of_their_colour(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[5:30, 6:14] = (255, 0, 10)
    mask[5:30, 21:29] = (0, 1, 0)
    image = hrsc(tmp_path, ["255,0,10", "0, 1, 0", "", "9,9,9"], mask)
    found = [box.segmentation for box in image.boxes]
    assert found[0] is not None
    assert found[1] is not None
    assert Runs.from_coco(found[0]).bounds == (5, 6, 30, 14)
    assert Runs.from_coco(found[1]).bounds == (5, 21, 30, 29)
    assert found[2] is None, "no colour"
    assert found[3] is not None
    assert Runs.from_coco(found[3]).area == 0, "a colour that does not occur"
    assert {box.category for box in image.boxes} == {"ship"}
    for box, thing in zip(image.boxes, [Thing(10 + 15 * n, 20, 10, 30, 0.1) for n in range(4)], strict=True):
        assert box.kind == "rbox"
        assert box.horizontal == pytest.approx(thing.edges)


@pytest.mark.parametrize(("height", "boxes"), [(HEIGHT, 1), (HEIGHT - 10, 0)])
def test_a_mask_of_the_size_that_was_annotated_is_brought_to_the_images(
    height: int, boxes: int, tmp_path: Path
) -> None:
    """Images three times smaller than they were; where their aspect ratio is another, it is no matter of the mask."""
    small = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    small[5:30, 6:14] = (255, 0, 10)
    text = FORMATS["hrsc"].text("1", [Thing(30, 60, 30, 90)], (3 * WIDTH, 3 * HEIGHT))
    size = f"<Img_SizeWidth>{3 * WIDTH}</Img_SizeWidth><Img_SizeHeight>{3 * HEIGHT}</Img_SizeHeight>"
    text = text.replace("<HRSC_Objects>", f"{size}<HRSC_Objects>", 1)
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_text(text.replace("<seg_color>", "<seg_color>255,0,10", 1))
    other = text.replace(f">{3 * HEIGHT}<", f">{HEIGHT}<").replace(f">{3 * WIDTH}<", f">{WIDTH}<")
    (tmp_path / "Annotations" / "2.xml").write_text(other.replace("<Img_FileName>1<", "<Img_FileName>2<"))
    make_picture(tmp_path / "AllImages" / "1.bmp", np.zeros((height, WIDTH, 3)))
    make_picture(tmp_path / "AllImages" / "2.bmp", np.zeros((HEIGHT, WIDTH, 3)))
    make_picture(tmp_path / "LandMask" / "1.png", small.repeat(3, axis=0).repeat(3, axis=1))
    with pytest.warns(GeodistillWarning, match="another size"):
        found = read_boxes("hrsc", tmp_path / "Annotations", tmp_path / "AllImages").images[0]
    assert [len(found.boxes), len(found.dropped)] == [boxes, 1 - boxes]
    for box in found.boxes:
        crop = Runs.from_coco(box.segmentation or {}).crop()
        painted = np.zeros((HEIGHT, WIDTH), bool)
        painted[crop.place] = crop.pixels
        assert np.array_equal(painted, small[..., 0] == 255)


def test_without_landmask_there_are_boxes_only(tmp_path: Path) -> None:
    assert [box.segmentation for box in hrsc(tmp_path, ["255,0,10"], None).boxes] == [None]


@pytest.mark.parametrize(
    ("colour", "message"), [("1,2", "seg_color '1,2'"), ("1,2,999", "in 0..255"), ("a,b,c", "r,g,b")]
)
def test_colours_that_are_none(tmp_path: Path, colour: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        hrsc(tmp_path, [colour], None)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"100000001\.png is 9 x 8.*60 x 40"):
        hrsc(tmp_path, ["1,2,3"], np.zeros((8, 9, 3), np.uint8))


@settings(max_examples=40)
@given(data=st.data())
def test_every_colour_is_cut_out_exactly(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    palette = [(0, 0, 0), (1, 0, 0), (0, 0, 1), (255, 255, 255)]
    indices = np.array(data.draw(st.lists(st.integers(0, 3), min_size=height * width, max_size=height * width)))
    picture = np.array(palette, np.uint8)[indices].reshape(height, width, 3)
    mask = ColourMask(picture.transpose(2, 0, 1))
    assert set(mask.colours) == {palette[index] for index in set(indices.tolist()) - {0}}
    for colour in palette[1:]:
        expected = Runs.of((picture == colour).all(axis=2), 0, 0, height, width)
        assert mask.runs(colour).starts.tolist() == expected.starts.tolist()
        assert mask.runs(colour).ends.tolist() == expected.ends.tolist()


def isaid(folder: Path) -> tuple[Path, Path]:
    ids, classes = (np.zeros((HEIGHT, WIDTH, 3), np.uint8) for _ in range(2))
    for number, (name, rows, cols) in enumerate(
        [("ship", (2, 12), (2, 12)), ("plane", (4, 20), (20, 40)), ("storage-tank", (25, 35), (5, 15))], 1
    ):
        ids[slice(*rows), slice(*cols)] = (number, 0, 200)
        classes[slice(*rows), slice(*cols)] = ISAID_COLOURS[name]
    return make_picture(folder / "i.png", ids), make_picture(folder / "c.png", classes)


def image_with(*boxes: tuple[str, tuple[float, float, float, float]]) -> ImageBoxes:
    made = [Box(rectangle(*bounds), name, 0, f"f:{n}", "hbox", n) for n, (name, bounds) in enumerate(boxes)]
    return ImageBoxes("a", Path("a.png"), WIDTH, HEIGHT, tuple(made), ())


def test_objects_of_isaid_find_their_boxes(tmp_path: Path) -> None:
    ids, classes = isaid(tmp_path)
    found = instances_of(ids, classes, WIDTH, HEIGHT)
    assert sorted((one.category, one.runs.area) for one in found) == [
        ("plane", 320),
        ("ship", 100),
        ("storage-tank", 100),
    ]
    image = image_with(
        ("plane", (1, 1, 13, 13)),  # lies where the ship does: another class
        ("plane", (19, 4, 41, 20)),
        ("Storage Tank", (5, 25, 15, 35)),
        ("ship", (9, 9, 20, 20)),  # overlaps too little
    )
    matched, boxes_left, objects_left = with_true_masks(image, found)
    assert [box.segmentation is not None for box in matched.boxes] == [False, True, True, False]
    assert (boxes_left, objects_left) == (2, 1)
    assert Runs.from_coco(matched.boxes[1].segmentation or {}).bounds == (4, 20, 20, 40)
    assert [box.polygon.tolist() for box in matched.boxes] == [box.polygon.tolist() for box in image.boxes]


def test_one_object_has_one_box(tmp_path: Path) -> None:
    ids, _ = isaid(tmp_path)
    found = instances_of(ids, None, WIDTH, HEIGHT)
    assert {one.category for one in found} == {""}
    image = image_with(("ship", (2, 2, 11, 12)), ("ship", (2, 2, 12, 12)), ("ship", (2, 2, 12, 11)))
    matched, boxes_left, objects_left = with_true_masks(image, found)
    assert [box.segmentation is not None for box in matched.boxes] == [False, True, False], "the nearest one"
    assert (boxes_left, objects_left) == (2, 2)
    assert with_true_masks(image_with(), found)[1:] == (0, 3)
    assert with_true_masks(image, [])[1:] == (3, 0)


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    ids, classes = isaid(tmp_path)
    with pytest.raises(DataError, match=r"60 x 40.*61 x 40"):
        instances_of(ids, classes, WIDTH + 1, HEIGHT)
    with pytest.raises(DataError, match=r"has the colour \(0, 0, 63\)"):
        instances_of(ids, classes, WIDTH, HEIGHT, {"plane": (0, 127, 255), "tank": (0, 63, 63)})
    grey = make_raster(tmp_path / "grey.tif", channels=1, height=HEIGHT, width=WIDTH)
    with pytest.raises(DataError, match="1 bands of uint8"):
        instances_of(grey, None, WIDTH, HEIGHT)
    palette = make_picture(tmp_path / "p.png", np.eye(HEIGHT, WIDTH), [(0, 0, 0), (7, 8, 9)])
    (one,) = instances_of(palette, None, WIDTH, HEIGHT)
    assert isinstance(one, Instance)
    assert one.runs.area == HEIGHT
