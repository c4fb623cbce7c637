"""What only one format asks for, and how annotations find their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from factories import make_picture
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.boxes import ImageBoxes, rectangle, rotated
from geodistill.label.formats.detection import read_boxes
from geodistill.label.formats.raw_boxes import Pictures
from geodistill.label.masks import Runs

SIZE = (90, 120, 3)


def picture(path: Path) -> Path:
    return make_picture(path, np.zeros(SIZE))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def one(format: str, folder: Path, name: str, text: str, **options: object) -> ImageBoxes:
    picture(folder / "images" / "a.png")
    write(folder / "boxes" / name, text)
    (image,) = read_boxes(format, folder / "boxes", folder / "images", **options).images  # type: ignore[arg-type]
    return image


def test_dota_headers_versions_and_missing_marks(tmp_path: Path) -> None:
    text = "imagesource:GF\ngsd:None\n10 10 30 10 30 20 10 20 large-vehicle 1\n5.5 5 9 6 8 12 4 11 container-crane\n"
    boxes = one("dota", tmp_path, "a.txt", text).boxes
    assert [(b.category, b.difficult, b.kind) for b in boxes] == [
        ("large-vehicle", 1, "hbox"),
        ("container-crane", 0, "rbox"),
    ]
    assert boxes[0].source.endswith("a.txt:3")


def test_a_class_may_be_called_gsd(tmp_path: Path) -> None:
    text = "10 10 30 10 30 20 10 20 ship 1\ngsd:0.5\n"
    with pytest.warns(GeodistillWarning, match=r"1 boxes are dropped \(malformed\): .*a\.txt:2: 1 fields"):
        image = one("dota", tmp_path, "a.txt", text)
    assert len(image.boxes) == 1
    assert [(d.reason, d.category) for d in image.dropped] == [("malformed", "(no class)")]


def test_voc_with_both_boxes_of_an_object(tmp_path: Path) -> None:
    text = """<annotation><object><name>Golffield</name>
      <bndbox><xmin>9</xmin><ymin>8</ymin><xmax>52</xmax><ymax>61</ymax></bndbox>
      <robndbox><cx>30</cx><cy>35</cy><w>40</w><h>20</h><angle>0.5</angle></robndbox></object></annotation>"""
    (box,) = one("voc", tmp_path, "a.xml", text, categories=["golf field", "golffield"]).boxes
    assert box.horizontal == (9, 8, 52, 61)
    assert box.kind == "rbox"
    assert box.polygon.tolist() == rotated(30, 35, 40, 20, 0.5).tolist()
    assert box.category == "golffield"


def test_annotations_find_images_by_the_name_inside(tmp_path: Path) -> None:
    edges = "".join(f"<{tag}>{at}</{tag}>" for tag, at in (("xmin", 1), ("ymin", 1), ("xmax", 9), ("ymax", 9)))
    thing = f"<object><name>ship</name><bndbox>{edges}</bndbox></object>"
    text = "<annotation><filename>{}</filename>{}</annotation>"
    assert len(one("voc", tmp_path, "annotation-1.xml", text.format("a.png", thing)).boxes) == 1
    windows = text.format("C:\\data\\images\\a.png", thing)
    assert len(one("voc", tmp_path / "w", "annotation-1.xml", windows).boxes) == 1


def test_yolo_names_and_kinds(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "path: .\nnames:\n  0: ship\n  2: plane\n")
    text = "0 .5 .5 .5 .5\n2 .1 .1 .4 .2 .3 .5 .05 .4\n0 .1 .1 .5 .1 .5 .5\n1 .5 .5 .1 .1\n"
    image = one("yolo", tmp_path, "a.txt", text)
    assert [(b.category, b.kind) for b in image.boxes] == [("ship", "hbox"), ("plane", "rbox"), ("ship", "polygon")]
    assert image.boxes[0].box == (30, 22.5, 90, 67.5)
    assert image.boxes[2].segmentation is not None
    assert Runs.from_coco(image.boxes[2].segmentation).area == pytest.approx(48 * 36 / 2, rel=0.05)
    assert [(d.reason, d.category) for d in image.dropped] == [("unknown class", "1")]


def test_yolo_without_names_takes_numbers_or_the_order_asked_for(tmp_path: Path) -> None:
    text = "1 .5 .5 .5 .5\n0 .5 .5 .4 .4\n"
    assert [b.category for b in one("yolo", tmp_path, "a.txt", text).boxes] == ["1", "0"]
    named = one("yolo", tmp_path / "n", "a.txt", text, categories=["ship", "plane"])
    assert [b.category for b in named.boxes] == ["plane", "ship"]


@pytest.mark.parametrize("content", ["names: 5", "names: [", "- a", "names: {a: b}", "nc: 3"])
def test_yolo_names_that_are_none(tmp_path: Path, content: str) -> None:
    write(tmp_path / "data.yaml", content)
    with pytest.raises(DataError, match=r"data\.yaml"):
        one("yolo", tmp_path, "a.txt", "0 .5 .5 .5 .5")


def test_fair1m_names_and_points(tmp_path: Path) -> None:
    points = "".join(f"<point>{x:.6f},{y:.6f}</point>" for x, y in rectangle(5, 6, 20, 30)[[0, 1, 2, 3, 0]])
    name = "<possibleresult><name>Small  Car</name></possibleresult>"
    text = f"<annotation><objects><object>{name}<points>{points}</points></object></objects></annotation>"
    (box,) = one("fair1m", tmp_path, "a.xml", text).boxes
    assert (box.category, box.box) == ("Small-Car", (5, 6, 20, 30))
    with pytest.raises(DataError, match="fifth point is not the first"):
        one("fair1m", tmp_path, "a.xml", text.replace("5.000000,6.000000</point></points>", "9,9</point></points>"))


def test_names_that_repeat_in_folders(tmp_path: Path) -> None:
    for part in ("part1", "part2"):
        picture(tmp_path / "train" / part / "images" / "0.png")
        write(tmp_path / "train" / part / "labels" / "0.txt", f"1 1 5 1 5 5 1 {part[-1]} {part}")
        picture(tmp_path / "flat" / "images" / part / "0.png")
        write(tmp_path / "flat" / "labels" / part / "0.txt", f"1 1 5 1 5 5 1 {part[-1]} {part}")
    beside = read_boxes("dota", tmp_path / "train", tmp_path / "train")
    assert [(i.key, i.boxes[0].category) for i in beside.images] == [
        ("part1/images/0", "part1"),
        ("part2/images/0", "part2"),
    ]
    mirrored = read_boxes("dota", tmp_path / "flat" / "labels", tmp_path / "flat" / "images")
    assert [(i.key, i.boxes[0].category) for i in mirrored.images] == [("part1/0", "part1"), ("part2/0", "part2")]


def test_names_that_fit_two_images_or_two_files(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        picture(tmp_path / "images" / folder / "a.png")
    write(tmp_path / "labels" / "a.txt", "")
    with pytest.raises(DataError, match=r"'a' could be .*a\.png and .*a\.png"):
        read_boxes("dota", tmp_path / "labels", tmp_path / "images")
    write(tmp_path / "more" / "x" / "a.txt", "")
    write(tmp_path / "more" / "z" / "a.txt", "")
    with pytest.raises(DataError, match=r"a\.txt and .*a\.txt are both of a\.png"):
        read_boxes("dota", tmp_path / "more", tmp_path / "images" / "x")
    make_picture(tmp_path / "images" / "x" / "a.jpg", np.zeros(SIZE))
    with pytest.raises(DataError, match="one image of a name"):
        Pictures(tmp_path / "images")


@pytest.mark.parametrize("images", ["images", "images/train"])
def test_labels_of_one_split_never_lie_on_an_image_of_another(images: str, tmp_path: Path) -> None:
    """An image without objects has no label file, and sets number the images of every split from 1."""
    for name in ("1", "2"):
        picture(tmp_path / "images" / "train" / f"{name}.png")
    write(tmp_path / "labels" / "train" / "1.txt", "0 .5 .5 .2 .2")
    write(tmp_path / "labels" / "valid" / "2.txt", "0 .3 .3 .1 .1")
    read = read_boxes("yolo", tmp_path / "labels", tmp_path / images)
    assert [len(image.boxes) for image in read.images] == [1, 0]
    assert read.unmatched == (str(tmp_path / "labels" / "valid" / "2.txt"),)
    content = {
        "images": [{"id": n, "file_name": f"{split}/2.png"} for n, split in enumerate(("val", "train"))],
        "annotations": [{"image_id": n, "category_id": n, "bbox": [1, 1, 9, 9]} for n in (0, 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("ship", "plane"))],
    }
    write(tmp_path / "coco.json", json.dumps(content))
    read = read_boxes("coco", tmp_path / "coco.json", tmp_path / images)
    assert [[box.category for box in image.boxes] for image in read.images] == [[], ["plane"]]
    assert read.unmatched == (f"{tmp_path / 'coco.json'}:val/2.png",)


def test_a_folder_that_the_person_chose_names_no_split_of_the_set(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "flat" / "1.png")
    write(tmp_path / "test" / "labels" / "train" / "1.txt", "0 .5 .5 .2 .2")
    (image,) = read_boxes("yolo", tmp_path / "test" / "labels", tmp_path / "test" / "flat").images
    assert len(image.boxes) == 1


@pytest.mark.parametrize("place", ["test/images", "speed-test", "test_site"])
def test_only_a_folder_called_as_a_split_holds_one(place: str, tmp_path: Path) -> None:
    """A word of a path, or a folder far above, says nothing of what the images are for."""
    for folder in ("", "val_area"):
        picture(tmp_path / place / folder / f"{len(folder)}.png")
        write(tmp_path / "labels" / "train2017" / f"{len(folder)}.txt", "0 .5 .5 .2 .2")
    read = read_boxes("yolo", tmp_path / "labels", tmp_path / place)
    assert [len(image.boxes) for image in read.images] == [1, 1]


@pytest.mark.parametrize("folder", ["val2017", "Valid", "val-2012"])
def test_folders_of_splits_may_have_a_year(folder: str, tmp_path: Path) -> None:
    for name in ("1", "2"):
        picture(tmp_path / "images" / folder / f"{name}.png")
    write(tmp_path / "labels" / "train2017" / "1.txt", "0 .5 .5 .2 .2")
    write(tmp_path / "labels" / "val" / "2.txt", "0 .5 .5 .2 .2")
    read = read_boxes("yolo", tmp_path / "labels", tmp_path / "images")
    assert [len(image.boxes) for image in read.images] == [0, 1]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("VisDrone-DET-{}/images", "VisDrone-DET-{}/labels"),
        ("{}_images", "{}_labels"),
        ("images-{}", "labels-{}"),
        ("{}/site-1", "{}2017"),
    ],
)
def test_folders_of_splits_may_have_more_to_their_names(images: str, labels: str, tmp_path: Path) -> None:
    """Of `train` are images 1 and 2, and a label 3 whose image is not there; `val` has an image 3."""
    for split, names in (("train", "12"), ("val", "123")):
        for name in names:
            picture(tmp_path / images.format(split) / f"{name}.png")
    for name in "123":
        write(tmp_path / labels.format("train") / f"{name}.txt", "0 .5 .5 .2 .2")
    read = read_boxes("yolo", tmp_path, tmp_path)
    labelled = [image.key for image in read.images if image.boxes]
    assert labelled == [f"{images.format('train')}/{name}" for name in "12"]
    assert read.unmatched == (str(tmp_path / labels.format("train") / "3.txt"),)


def test_names_made_on_a_mac_and_names_with_dots(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "Zu\u0308rich.v2.png")
    write(tmp_path / "boxes" / "Z\u00fcrich.v2.txt", "1 1 5 1 5 5 1 5 ship")
    write(tmp_path / "boxes" / ".hidden.txt", "no annotation")
    (image,) = read_boxes("dota", tmp_path / "boxes", tmp_path / "images").images
    assert len(image.boxes) == 1


def test_one_file_and_one_image(tmp_path: Path) -> None:
    path = picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    file = write(tmp_path / "boxes" / "a.txt", "1 1 5 1 5 5 1 5 ship")
    (image,) = read_boxes("dota", file, path).images
    assert (image.key, len(image.boxes)) == ("a", 1)
    assert [len(i.boxes) for i in read_boxes("dota", file, tmp_path / "images").images] == [1, 0]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 2, 1), (2, 3, 0, 1), (0, 2, 1, 3), (0, 1, 3, 2), (3, 1, 2, 0)])
def test_corners_in_any_order_go_round(tmp_path: Path, order: tuple[int, ...]) -> None:
    corners = rotated(50, 40, 30, 16, 0.4)[list(order)]
    text = " ".join(map(str, corners.ravel())) + " ship 0"
    (box,) = one("dota", tmp_path, "a.txt", text).boxes
    x, y = box.polygon.T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == pytest.approx(480)
    assert box.polygon[0].tolist() == corners[0].tolist()


def test_corners_of_the_smallest_rectangle() -> None:
    from geodistill.label.boxes import Box

    ring = np.array([[1e6, 0], [1e6 + 10, 0], [1e6 + 10, 5], [1e6 + 5, 5], [1e6 + 5, 4], [1e6, 4]])
    corners = Box(ring, "a", 0, "f", "polygon").corners
    assert corners.min(axis=0) == pytest.approx([1e6, 0], abs=1e-3)
    assert corners.max(axis=0) == pytest.approx([1e6 + 10, 5], abs=1e-3)


@pytest.mark.parametrize(
    "header",
    [
        "acquisition date: 2020-01-01",
        "acquisition dates:2020",
        "imagesource:GoogleEarth\ngsd:0.146",
        "GSD: 0.5",
        "gsd=null",
        "imagesource: GF 2\nacquisition_date: none\nlevel: 2 b",
    ],
)
def test_header_lines_of_dota(tmp_path: Path, header: str) -> None:
    assert len(one("dota", tmp_path, "a.txt", f"{header}\n10 10 30 10 30 20 10 20 ship 1\n").boxes) == 1


VOC_OBJECT = "<object><name>a</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
EDGES = "<xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>40</ymax>"


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("Unspecified", 0),
        ("unspecified", 0),
        ("False", 0),
        ("no", 0),
        ("", 0),
        ("0.0", 0),
        ("True", 1),
        ("1.0", 1),
        ("2", 2),
    ],
)
def test_words_for_difficult(tmp_path: Path, word: str, number: int) -> None:
    (box,) = one("voc", tmp_path, "a.xml", f"<annotation>{VOC_OBJECT.format(word, EDGES)}</annotation>").boxes
    assert box.difficult == number


@pytest.mark.parametrize(
    "odd",
    [
        VOC_OBJECT.format("7", EDGES),
        VOC_OBJECT.format("0", "<xmin>x</xmin>"),
        VOC_OBJECT.format("0", ""),
        f"<object><bndbox>{EDGES}</bndbox></object>",
        "<object/>",
    ],
)
def test_one_odd_object_of_voc_is_dropped_and_told(tmp_path: Path, odd: str) -> None:
    text = f"<annotation>{VOC_OBJECT.format(0, EDGES)}{odd}</annotation>"
    with pytest.warns(GeodistillWarning, match=r"1 boxes are dropped \(malformed\).*a\.xml:object 2"):
        image = one("voc", tmp_path, "a.xml", text)
    assert [box.index for box in image.boxes] == [0]
    assert [dropped.reason for dropped in image.dropped] == ["malformed"]


@pytest.mark.parametrize("format", ["voc", "fair1m", "hrsc"])
@pytest.mark.parametrize("name", ["a.xml", "annotations.xml"])
def test_cvats_own_format_is_named(tmp_path: Path, format: str, name: str) -> None:
    text = '<annotations><version>1.1</version><image id="0" name="a.png" width="120" height="90"/></annotations>'
    with pytest.raises(DataError, match=r"is CVAT's own format .*export from CVAT as 'COCO 1.0'"):
        one(format, tmp_path, name, text)


@pytest.mark.slow
def test_xml_nested_without_end(tmp_path: Path) -> None:
    text = f"<annotation>{VOC_OBJECT.format(0, EDGES)}{'<object>' * 20_000}{'</object>' * 20_000}</annotation>"
    with pytest.warns(GeodistillWarning, match="20000 boxes are dropped"):
        assert len(one("voc", tmp_path, "a.xml", text).boxes) == 1


def test_coordinates_beyond_any_image(tmp_path: Path) -> None:
    text = f"10 10 30 10 30 20 10 20 ship 0\n{'0 0 1e300 0 1e300 1e300 0 1e300'} ship 0\n"
    image = one("dota", tmp_path, "a.txt", text)
    assert len(image.boxes) == 1
    assert [dropped.reason for dropped in image.dropped] == ["not finite"]
