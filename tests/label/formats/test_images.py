"""Sizes and angles that annotations give: boxes drawn over another size, and boxes that were turned in the tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco

from factories import make_picture
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.boxes import Annotations, ImageBoxes
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs

WIDTH, HEIGHT = 80, 60
"""Of the image file."""

TURNED_30 = [[17.6795, 11.3397], [52.3205, 31.3397], [42.3205, 48.6603], [7.6795, 28.6603]]
"""The box x 10 to 50, y 20 to 40 turned clockwise by 30 degrees about its centre, worked out by hand."""
ABOUT_CORNER_30 = [[10, 20], [44.641, 40], [34.641, 57.3205], [0, 37.3205]]
"""The same about its top left corner."""


def read_coco(folder: Path, *annotations: dict[str, Any], **size: Any) -> Annotations:
    make_picture(folder / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    content = {
        "images": [{"id": 1, "file_name": "a.png"} | size],
        "annotations": [{"image_id": 1, "category_id": 1} | annotation for annotation in annotations],
        "categories": [{"id": 1, "name": "house"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return read_boxes("coco", folder / "boxes.json", folder / "images")


VOC = """<annotation><filename>a.png</filename><size><width>{0}</width><height>{1}</height><depth>3</depth></size>
  <object><name>house</name>{2}<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>40</ymax></bndbox></object>
</annotation>"""
FAIR1M = """<annotation><source><filename>a.png</filename></source><size><width>{0}</width><height>{1}</height></size>
  <objects><object><possibleresult><name>house</name></possibleresult><points><point>10,20</point><point>50,20</point>
  <point>50,40</point><point>10,40</point><point>10,20</point></points></object></objects></annotation>"""
HRSC = """<HRSC_Image><Img_FileName>a</Img_FileName>
  <Img_SizeWidth>{0}</Img_SizeWidth><Img_SizeHeight>{1}</Img_SizeHeight>
  <HRSC_Object><box_xmin>10</box_xmin><box_ymin>20</box_ymin><box_xmax>50</box_xmax><box_ymax>40</box_ymax>
  <mbox_cx>30</mbox_cx><mbox_cy>30</mbox_cy><mbox_w>40</mbox_w><mbox_h>20</mbox_h><mbox_ang>0</mbox_ang></HRSC_Object>
</HRSC_Image>"""
XML = {"voc": VOC, "fair1m": FAIR1M, "hrsc": HRSC}


def read_xml(format: str, folder: Path, width: object, height: object, more: str = "") -> ImageBoxes:
    """Read one box, x 10 to 50 and y 20 to 40, over an image that is said to be of this size."""
    make_picture(folder / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    (folder / "boxes").mkdir(exist_ok=True)
    (folder / "boxes" / "a.xml").write_text(XML[format].format(width, height, more))
    (image,) = read_boxes(format, folder / "boxes", folder / "images").images
    return image


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (0, 0), ("", ""), ("x", "y"), (-5, 3), ("nan", "inf"), (10**400, 1)])
@pytest.mark.parametrize("format", XML)
def test_sizes_that_agree_or_say_nothing_change_nothing(tmp_path: Path, format: str, size: tuple[Any, Any]) -> None:
    (box,) = read_xml(format, tmp_path, *size).boxes
    assert box.box == pytest.approx((10, 20, 50, 40))


@pytest.mark.parametrize("format", XML)
def test_boxes_drawn_at_another_size_are_scaled_and_told(tmp_path: Path, format: str) -> None:
    with pytest.warns(
        GeodistillWarning, match=r"boxes of 1 images were scaled .*80 x 60 and was annotated at 160 x 120"
    ):
        (box,) = read_xml(format, tmp_path, 160, 120).boxes
    assert box.box == pytest.approx((5, 10, 25, 20))
    assert box.horizontal is None or box.horizontal == pytest.approx((5, 10, 25, 20))


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (160, 100), (100, 100), (WIDTH, HEIGHT + 7)])
@pytest.mark.parametrize("format", XML)
def test_another_aspect_ratio_is_refused_with_both_sizes(tmp_path: Path, format: str, size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"a\.xml speaks of {size[0]} x {size[1]} pixels, .*a\.png has 80 x 60"):
        read_xml(format, tmp_path, *size)


def test_an_image_that_was_cut_is_left_out_and_told(tmp_path: Path) -> None:
    """At which end it was cut nobody knows, so its boxes have no place; the other images keep theirs."""
    read_xml("voc", tmp_path, WIDTH, HEIGHT)
    make_picture(tmp_path / "images" / "b.png", np.zeros((HEIGHT - 20, WIDTH, 3)))
    (tmp_path / "boxes" / "b.xml").write_text(VOC.format(WIDTH, HEIGHT, ""))
    with pytest.warns(GeodistillWarning, match=r"1 boxes are dropped \(another size\): .*b\.png has 80 x 40"):
        whole, cut = read_boxes("voc", tmp_path / "boxes", tmp_path / "images").images
    assert (len(whole.boxes), len(cut.boxes)) == (1, 0)
    assert [(dropped.reason, dropped.category) for dropped in cut.dropped] == [("another size", "house")]


def test_sides_that_are_exchanged_are_named_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sides are exchanged"):
        read_coco(tmp_path, {"bbox": [1, 2, 3, 4]}, width=HEIGHT, height=WIDTH)


def test_roundings_of_a_size_are_one_ratio(tmp_path: Path) -> None:
    """80 x 60 made 3 times smaller is 26.67 x 20: tools write 26 or 27."""
    for width in (26, 27):
        with pytest.warns(GeodistillWarning, match="were scaled"):
            found = read_coco(tmp_path, {"bbox": [0, 0, width, 20]}, width=width, height=20)
        assert found.images[0].boxes[0].box == pytest.approx((0, 0, 80, 60))


def test_boxes_outlines_and_run_lengths_of_coco_are_scaled(tmp_path: Path) -> None:
    mask = np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8)
    mask[20:60, 40:120] = 1
    packed = coco.encode(np.asfortranarray(mask))
    runs = {"size": [2 * HEIGHT, 2 * WIDTH], "counts": packed["counts"].decode()}
    ring = [[40, 20, 120, 20, 120, 60, 40, 60]]
    with pytest.warns(GeodistillWarning, match="were scaled"):
        (image,) = read_coco(
            tmp_path,
            {"bbox": [40, 20, 80, 40], "segmentation": ring},
            {"bbox": [40, 20, 80, 41], "segmentation": runs},
            {"segmentation": runs | {"counts": packed["counts"].decode()}},
            width=2 * WIDTH,
            height=2 * HEIGHT,
        ).images
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[10:30, 20:60] = True
    assert image.boxes[0].box == (20, 10, 60, 30)
    assert [d.reason for d in image.dropped] == ["duplicate"], "a box from run lengths is where the others are"
    for box in image.boxes:
        assert box.segmentation is not None
        assert (coco.decode(box.segmentation).astype(bool) == expected).all()


def test_run_lengths_are_brought_to_any_size() -> None:
    from geodistill.label.annotated_masks import resampled

    mask = np.zeros((10, 20), bool)
    mask[:, 10:] = True
    for height, width in ((10, 20), (30, 60), (5, 10), (7, 14)):
        runs = Runs.from_coco(resampled(Runs.of(mask, 0, 0, 10, 20).to_coco(), width, height))
        assert (runs.height, runs.width, runs.area) == (height, width, height * width // 2)
        assert runs.bounds == (0, width // 2, height, width)


@pytest.mark.parametrize("angle", [30, 30.0, "30", 390, -330])
def test_cvat_and_datumaro_turn_boxes_about_their_centre(tmp_path: Path, angle: Any) -> None:
    attributes = {"occluded": False, "rotation": angle}
    (box,) = read_coco(tmp_path, {"bbox": [10, 20, 40, 20], "attributes": attributes}).images[0].boxes
    assert box.polygon == pytest.approx(np.array(TURNED_30), abs=1e-3)
    assert box.kind == "rbox"
    more = f"<attributes><attribute><name>rotation</name><value>{angle}</value></attribute></attributes>"
    (box,) = read_xml("voc", tmp_path / "voc", WIDTH, HEIGHT, more).boxes
    assert box.polygon == pytest.approx(np.array(TURNED_30), abs=1e-3)
    assert box.kind == "rbox"


@pytest.mark.parametrize("angle", [0, 0.0, 360, None])
def test_no_turn_leaves_the_box_upright(tmp_path: Path, angle: Any) -> None:
    item = {"bbox": [10, 20, 40, 20], "attributes": {"rotation": angle}, "rotation": angle}
    (box,) = read_coco(tmp_path, item).images[0].boxes
    assert (box.kind, box.box) == ("hbox", (10, 20, 50, 40))


def test_a_quarter_turn_exchanges_the_sides(tmp_path: Path) -> None:
    item = {"bbox": [10, 20, 40, 20], "attributes": {"rotation": 90}}
    (box,) = read_coco(tmp_path, item).images[0].boxes
    assert box.box == pytest.approx((20, 10, 40, 50))


def test_label_studio_turns_boxes_about_their_corner(tmp_path: Path) -> None:
    (box,) = read_coco(tmp_path, {"bbox": [10, 20, 40, 20], "rotation": 30}).images[0].boxes
    assert box.polygon == pytest.approx(np.array(ABOUT_CORNER_30), abs=1e-3)


def test_turned_boxes_over_another_size(tmp_path: Path) -> None:
    item = {"bbox": [20, 40, 80, 40], "attributes": {"rotation": 30}}
    with pytest.warns(GeodistillWarning, match="were scaled"):
        (box,) = read_coco(tmp_path, item, width=2 * WIDTH, height=2 * HEIGHT).images[0].boxes
    assert box.polygon == pytest.approx(np.array(TURNED_30), abs=1e-3)


def test_the_outline_of_a_turned_box(tmp_path: Path) -> None:
    """Some tools write the upright box once more as its outline, others the true outline."""
    upright = [10, 20, 50, 20, 50, 40, 10, 40]
    true = np.array(TURNED_30).ravel().tolist()
    item = {"bbox": [10, 20, 40, 20], "attributes": {"rotation": 30}}
    for outline in (upright, true):
        (box,) = read_coco(tmp_path, item | {"segmentation": [outline]}).images[0].boxes
        assert box.segmentation is not None
        top, left, bottom, right = Runs.from_coco(box.segmentation).bounds
        assert (left, top, right, bottom) == pytest.approx((7.7, 11.3, 52.3, 48.7), abs=1.1)
        assert Runs.from_coco(box.segmentation).area == pytest.approx(800, rel=0.05)


@pytest.mark.parametrize("angle", ["left", [30], float("nan"), float("inf")])
def test_angles_that_are_none(tmp_path: Path, angle: Any) -> None:
    with pytest.raises(DataError, match=r"boxes\.json:object 1: rotation"):
        read_coco(tmp_path, {"bbox": [10, 20, 40, 20], "attributes": {"rotation": angle}})


STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores what viewers show, by EXIF orientation: the inverse of the turn that viewers make."""


def save_turned(path: Path, orientation: int) -> np.ndarray:
    """Save a picture that viewers show as 80 x 60 with one bright object, and return where that is shown."""
    shown = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    shown[10:30, 50:75] = 220
    path.parent.mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(shown)
    stored.transpose(STORED[orientation]).save(path, quality=100, exif=exif)
    with Image.open(path) as file:
        seen: np.ndarray = np.asarray(ImageOps.exif_transpose(file))[..., 0] > 128
    assert seen.shape == (HEIGHT, WIDTH)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_boxes_lie_on_the_picture_as_viewers_show_it(
    tmp_path: Path, format: str, suffix: str, orientation: int
) -> None:
    truth = save_turned(tmp_path / "images" / f"a{suffix}", orientation)
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    if format == "coco":
        item = {"image_id": 1, "category_id": 1, "bbox": [50, 10, 25, 20]}
        image = {"id": 1, "file_name": f"a{suffix}", "width": WIDTH, "height": HEIGHT}
        content = {"images": [image], "categories": [{"id": 1, "name": "roof"}], "annotations": [item]}
        (boxes / "a.json").write_text(json.dumps(content))
    elif format == "yolo":
        (boxes / "a.txt").write_text(f"0 {62.5 / WIDTH} {20 / HEIGHT} {25 / WIDTH} {20 / HEIGHT}")
    else:
        edges = "<xmin>50</xmin><ymin>10</ymin><xmax>75</xmax><ymax>30</ymax>"
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        named = f"<object><name>roof</name><bndbox>{edges}</bndbox></object>"
        (boxes / "a.xml").write_text(f"<annotation>{size}{named}</annotation>")
    asked = LabelSettings(format=format, boxes=boxes, images=tmp_path / "images", segmenter="box", background="ground")
    build(asked, tmp_path / "out")
    (gray,) = (tmp_path / "out" / "gray").iterdir()
    with Image.open(gray) as file:
        labelled = np.asarray(file) == 1
    assert labelled.shape == truth.shape
    assert (labelled & truth).sum() / (labelled | truth).sum() > 0.97


def test_sizes_of_the_unturned_picture_are_refused(tmp_path: Path) -> None:
    save_turned(tmp_path / "images" / "a.jpg", 6)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": HEIGHT, "height": WIDTH}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match=r"60 x 80 pixels, .*a\.jpg has 80 x 60 when turned as its EXIF orientation asks"
    ):
        read_boxes("coco", tmp_path / "b.json", tmp_path / "images")


def test_palettes_are_kept_in_colour(tmp_path: Path) -> None:
    """Grey levels of a shuffled palette would mean nothing: tiles of palette pictures hold its colours."""
    shown = np.zeros((HEIGHT, WIDTH), np.uint8)
    shown[10:30, 50:75] = 1
    palette = [(200, 30, 60), (10, 220, 90)]
    make_picture(tmp_path / "images" / "a.png", shown, palette)
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "roof"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [50, 10, 25, 20]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    asked = LabelSettings(
        format="coco",
        boxes=tmp_path / "b.json",
        images=tmp_path / "images",
        segmenter="box",
        tile=40,
        background="ground",
        empty="keep",
    )
    build(asked, tmp_path / "out")
    seen = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for tile in (tmp_path / "out" / "images").iterdir():
        row, col = (int(part) for part in tile.stem.split("_")[-2:])
        with Image.open(tile) as file:
            part = np.asarray(file)
        seen[row : row + part.shape[0], col : col + part.shape[1]] = part
    assert (seen == np.array(palette, np.uint8)[shown]).all()
