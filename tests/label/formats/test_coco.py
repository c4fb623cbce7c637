from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from factories import make_picture
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.annotated_masks import checked_runs, coco_polygons, mask_of
from geodistill.label.boxes import Annotations
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs

WIDTH, HEIGHT = 60, 40
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]


def read(folder: Path, *annotations: dict[str, Any], **options: Any) -> Annotations:
    make_picture(folder / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    content = {
        "images": [{"id": 7, "file_name": "somewhere/a.png"}],
        "annotations": [{"image_id": 7, "category_id": 1} | annotation for annotation in annotations],
        "categories": [{"id": 2, "name": "tree"}, {"id": 1, "name": "house"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return read_boxes("coco", folder / "boxes.json", folder / "images", **options)


def mask_in(found: Annotations, at: int = 0) -> np.ndarray:
    segmentation = found.images[0].boxes[at].segmentation
    assert segmentation is not None
    decoded: np.ndarray = coco.decode(segmentation)
    return decoded


def test_polygons_are_true_masks_as_coco_fills_them(tmp_path: Path) -> None:
    triangle = [31.5, 7.2, 50.1, 30.4, 33, 33]
    found = read(tmp_path, {"bbox": [10, 5, 41, 28], "segmentation": [SQUARE, triangle]})
    expected = coco.decode(coco.merge(coco.frPyObjects([SQUARE, triangle], HEIGHT, WIDTH)))
    assert (mask_in(found) == expected).all()
    assert found.images[0].boxes[0].box == (10, 5, 51, 33)
    assert found.images[0].boxes[0].kind == "hbox", "a box prompt must not see the outline"
    assert found.categories == ("house", "tree"), "in the order of the ids"


def test_polygons_beyond_the_image_are_cut(tmp_path: Path) -> None:
    found = read(tmp_path, {"bbox": [-5, -5, 20, 20], "segmentation": [[-5, -5, 15, -5, 15, 15, -5, 15]]})
    assert mask_in(found).sum() == 15 * 15
    far = read(tmp_path, {"bbox": [0, 0, 9, 9], "segmentation": [[0, 0, 1e300, 0, 1e300, 1e300, 0, 1e300]]})
    assert mask_in(far).sum() == HEIGHT * WIDTH


def test_run_lengths_compressed_or_not(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:20, 10:33] = 1
    packed = coco.encode(np.asfortranarray(mask))
    runs = Runs.of(mask.astype(bool), 0, 0, HEIGHT, WIDTH)
    counts = np.diff(np.stack([runs.starts, runs.ends], 1).ravel(), prepend=0, append=mask.size).tolist()
    found = read(
        tmp_path,
        {"bbox": [10, 3, 23, 17], "segmentation": {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}},
        {"bbox": [10, 3, 23, 18], "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}},
    )
    assert (mask_in(found, 0) == mask).all()
    assert (mask_in(found, 1) == mask).all()


def test_crowds_are_counted_and_left_out(tmp_path: Path) -> None:
    crowd = {"bbox": [1, 1, 9, 9], "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}
    (image,) = read(tmp_path, {"bbox": [10, 5, 20, 20]}, crowd).images
    assert [box.index for box in image.boxes] == [0]
    assert [(d.reason, d.category) for d in image.dropped] == [("crowd", "house")]


def test_a_box_from_its_mask_where_none_is_written(tmp_path: Path) -> None:
    for bbox in ({}, {"bbox": [0, 0, 0, 0]}, {"bbox": [10, 5, -1, 20], "attributes": {"rotation": 30}}):
        (image,) = read(tmp_path, bbox | {"segmentation": [SQUARE, [1, 2]]}).images
        assert image.boxes[0].box == (10, 5, 30, 25)


@pytest.mark.parametrize("categories", [{}, {"categories": []}, {"categories": None}])
def test_without_categories_their_ids_are_the_names(tmp_path: Path, categories: dict[str, Any]) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]}, {"bbox": [10, 5, 20, 20], "category_id": 2})
    content = json.loads((tmp_path / "boxes.json").read_text())
    del content["categories"]
    (tmp_path / "boxes.json").write_text(json.dumps(content | categories))
    found = read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")
    assert found.categories == ("1", "2")
    assert [box.category for box in found.images[0].boxes] == ["1", "2"]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [WIDTH, HEIGHT], "counts": [5]},
        {"size": [HEIGHT, WIDTH], "counts": [5, HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [50, -3, 2, 9]},
        {"size": [HEIGHT, WIDTH], "counts": "oooooooooooooooooooooooooooooooooooo0"},
        {"size": [HEIGHT, WIDTH], "counts": "Häuser"},
        {"size": [HEIGHT, WIDTH]},
        {"size": "big", "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": [1, "x"]},
        {"size": [HEIGHT, WIDTH], "counts": {"a": 1}},
        {"size": [HEIGHT, WIDTH], "counts": "abc"},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": [2**62, 2**62, 2**62, 2**62 + HEIGHT * WIDTH]},
    ],
)
def test_run_lengths_that_lie_are_never_used(tmp_path: Path, segmentation: dict[str, Any]) -> None:
    odd = {"bbox": [1, 1, 9, 9], "segmentation": segmentation}
    with pytest.raises(DataError, match=r"boxes\.json:object 1: run lengths"):
        read(tmp_path, odd)
    with pytest.warns(GeodistillWarning, match=r"1 boxes are dropped .*boxes\.json:object 2: run lengths"):
        (image,) = read(tmp_path, {"bbox": [1, 1, 9, 9]}, odd).images
    assert len(image.boxes) == 1
    assert [(d.reason, d.category) for d in image.dropped] == [("malformed", "house")]


def test_half_a_text_of_run_lengths_is_no_mask() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 5:45] = True
    runs = runs_of(mask)
    assert Runs.from_coco(checked_runs(runs, WIDTH, HEIGHT, "f")).area == mask.sum()
    for end in range(len(runs["counts"])):
        with pytest.raises(DataError, match="f: run lengths that do not fill the image"):
            checked_runs(runs | {"counts": runs["counts"][:end]}, WIDTH, HEIGHT, "f")


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_run_length_text_is_read_or_refused(text: str) -> None:
    """Code in C reads what comes out; it must never leave the image."""
    try:
        found = checked_runs({"size": [HEIGHT, WIDTH], "counts": text}, WIDTH, HEIGHT, "f")
    except DataError:
        return
    assert coco.decode(found).shape == (HEIGHT, WIDTH)
    assert Runs.from_coco(found).area == coco.area(found)


@pytest.mark.parametrize("segmentation", [[[1, 2, 3]], [["x", 1, 2, 3, 4, 5]], "all", [5, 6, 7, 8, 9, 10], [None]])
def test_outlines_that_are_none(tmp_path: Path, segmentation: Any) -> None:
    with pytest.raises(DataError, match=r"boxes\.json:object 1: segmentation"):
        read(tmp_path, {"bbox": [1, 1, 9, 9], "segmentation": segmentation})


def test_numbers_of_any_length(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no coordinate"):
        read(tmp_path, {"bbox": [10**400, 1, 9, 9]})


def test_a_negative_side_is_no_area(tmp_path: Path) -> None:
    assert [d.reason for d in read(tmp_path, {"bbox": [30, 5, -20, 20]}).images[0].dropped] == ["zero area"]


def test_annotations_of_images_nobody_lists(tmp_path: Path) -> None:
    found = read(tmp_path, {"bbox": [1, 1, 9, 9]}, {"bbox": [1, 1, 9, 9], "image_id": 8})
    assert found.unmatched == (f"{tmp_path / 'boxes.json'}:object 2 (of image 8)",)


def test_one_image_in_two_files_or_twice_in_one(tmp_path: Path) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]})
    folder = tmp_path / "both"
    folder.mkdir()
    content = (tmp_path / "boxes.json").read_text()
    for name in "ab":
        (folder / f"{name}.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json and .*b\.json both list a\.png"):
        read_boxes("coco", folder, tmp_path / "images")
    twice = json.loads(content)
    twice["images"] *= 2
    (tmp_path / "boxes.json").write_text(json.dumps(twice))
    with pytest.raises(DataError, match="image 2 has the id 7 of another"):
        read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")


def test_json_nested_without_end(tmp_path: Path) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]})
    (tmp_path / "boxes.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"nested too deep|malformed"):
        read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")


def test_outlines_with_holes_and_parts_of_no_area() -> None:
    ring = np.array([[0, 0], [20, 0], [20, 20], [0, 20]], float)
    hole = ring / 2 + 5
    cut = mask_of([ring], [hole], WIDTH, HEIGHT)
    assert cut is not None
    assert Runs.from_coco(cut).area == 400 - 100
    outside = mask_of([ring - 100], [], WIDTH, HEIGHT)
    assert outside is not None
    assert Runs.from_coco(outside).area == 0
    touching = mask_of([ring - (20, 0)], [], WIDTH, HEIGHT)
    assert touching is not None
    assert Runs.from_coco(touching).area == 0, "an edge in common is not an area"
    assert mask_of([ring * np.nan], [], WIDTH, HEIGHT) is None
    assert coco_polygons([ring + np.inf], WIDTH, HEIGHT) is None


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def test_a_box_from_run_lengths_where_none_is_written(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:20, 10:33] = True
    for bbox in ({}, {"bbox": None}, {"bbox": []}, {"bbox": [0, 0, 0, 0]}, {"bbox": [9, 9, 0, 5]}):
        (image,) = read(tmp_path, bbox | {"segmentation": runs_of(mask)}).images
        assert image.boxes[0].box == (10, 3, 33, 20)
    (image,) = read(tmp_path, {"bbox": [1, 1, 9, 9]}, {"segmentation": runs_of(mask * 0)}).images
    assert [dropped.reason for dropped in image.dropped] == ["zero area"]


@pytest.mark.parametrize("odd", [{}, {"bbox": [], "segmentation": []}, {"bbox": None, "segmentation": None}])
def test_objects_without_any_place_have_no_area(tmp_path: Path, odd: dict[str, Any]) -> None:
    (image,) = read(tmp_path, {"bbox": [10, 5, 20, 20]}, odd).images
    assert len(image.boxes) == 1
    assert [(dropped.reason, dropped.category) for dropped in image.dropped] == [("zero area", "house")]


@pytest.mark.parametrize(
    "odd",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, 4, 5]},
        {"bbox": [None, 1, 2, 3]},
        {"bbox": "1 2 3 4"},
        {"bbox": {"x": 1}},
        {"bbox": [10**400, 1, 9, 9]},
        {"bbox": [1, 1, 9, 9], "category_id": None},
        {"bbox": [1, 1, 9, 9], "category_id": [1]},
        {"bbox": [1, 1, 9, 9], "category_id": {}},
        {"bbox": [1, 1, 9, 9], "segmentation": [[1, 2, 3]]},
    ],
)
def test_one_odd_object_is_dropped_and_told(tmp_path: Path, odd: dict[str, Any]) -> None:
    with pytest.warns(GeodistillWarning, match=r"1 boxes are dropped \(malformed\): .*:object 2"):
        (image,) = read(tmp_path, {"bbox": [10, 5, 20, 20]}, odd).images
    assert [box.index for box in image.boxes] == [0]
    assert [dropped.reason for dropped in image.dropped] == ["malformed"]


@pytest.mark.parametrize("odd", ["text", None, [], {"image_id": [7]}, {"image_id": None}, {"image_id": {}}])
def test_objects_of_no_image_are_counted(tmp_path: Path, odd: Any) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]})
    content = json.loads((tmp_path / "boxes.json").read_text())
    content["annotations"].append(odd)
    content["images"].append(odd)
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.warns(GeodistillWarning, match="2 boxes are dropped"):
        found = read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")
    assert len(found.images[0].boxes) == 1
    assert [name.rpartition(":")[2] for name in found.unmatched] == [
        "image 2 (no 'id' or no 'file_name')",
        "object 2 (no image_id)",
    ]


IDS = [7, 7.0, "7", " 7"]


@pytest.mark.parametrize("listed", IDS)
@pytest.mark.parametrize("used", IDS)
def test_ids_are_compared_as_text(tmp_path: Path, listed: Any, used: Any) -> None:
    make_picture(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    content = {
        "images": [{"id": listed, "file_name": "a.png"}],
        "categories": [{"id": listed, "name": "house"}, {"id": 10, "name": "tree"}, {"id": 2, "name": "road"}],
        "annotations": [{"image_id": used, "category_id": used, "bbox": [10, 5, 20, 20]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    found = read_boxes("coco", tmp_path / "b.json", tmp_path / "images")
    assert [box.category for box in found.images[0].boxes] == ["house"]
    assert found.categories == ("road", "house", "tree")


def test_an_id_of_any_number_of_digits(tmp_path: Path) -> None:
    make_picture(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    content = {
        "images": [{"id": "1" * 5000, "file_name": "a.png"}],
        "categories": [{"id": "9" * 5000, "name": "house"}],
        "annotations": [{"image_id": "1" * 5000, "category_id": "9" * 5000, "bbox": [10, 5, 20, 20]}],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    found = read_boxes("coco", tmp_path / "b.json", tmp_path / "images")
    assert [box.category for box in found.images[0].boxes] == ["house"]


def test_what_datumaro_writes(tmp_path: Path) -> None:
    """As Datumaro 1.13.12 exports a box, an outline, a painted mask and a turned box; the values are its own."""
    for name in ("a.png", "sub/b.png"):
        make_picture(tmp_path / "images" / name, np.zeros((60, 80, 3)))
    plain = {"area": 384.0, "iscrowd": 0, "segmentation": []}
    outline = [50.0, 5.0, 70.0, 5.0, 70.0, 20.0, 60.0, 25.0, 50.0, 20.0]
    painted = {"counts": [3030, 10, 50, 10, 50, 10, 1640], "size": [60, 80]}
    turned = {"attributes": {"occluded": True, "rotation": 90.0}}
    content = {
        "categories": [{"id": 1, "name": "roof tile", "supercategory": ""}, {"id": 2, "name": "dächer"}],
        "images": [
            {"id": 2, "width": 80, "height": 60, "file_name": "a.png", "date_captured": 0},
            {"id": 3, "width": 80, "height": 60, "file_name": "sub/b.png", "date_captured": 0},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 1, "bbox": [20.0, 10.0, 16.0, 24.0], **plain},
            {
                "id": 2,
                "image_id": 2,
                "category_id": 2,
                "bbox": [50.0, 5.0, 20.0, 20.0],
                **plain,
                "segmentation": [outline],
            },
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [50, 30, 3, 10], "segmentation": painted, "iscrowd": 1},
            {"id": 4, "image_id": 3, "category_id": 2, "bbox": [20.0, 10.0, 16.0, 24.0], **plain, **turned},
        ],
    }
    (tmp_path / "b.json").write_text(json.dumps(content))
    first, second = read_boxes("coco", tmp_path / "b.json", tmp_path / "images").images
    assert [(box.category, box.box) for box in first.boxes] == [
        ("roof tile", (20, 10, 36, 34)),
        ("dächer", (50, 5, 70, 25)),
    ]
    assert Runs.from_coco(first.boxes[1].segmentation).area == 350
    assert [drop.reason for drop in first.dropped] == ["crowd"]
    assert [(box.category, box.box) for box in second.boxes] == [("dächer", pytest.approx((16, 14, 40, 30)))]


def test_ids_that_never_meet_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the first is of image 'seven'; expected ids as those of the images, such as 7"
    ):
        read(tmp_path, {"image_id": "seven", "bbox": [1, 1, 9, 9]})


def test_one_id_for_two_classes(tmp_path: Path) -> None:
    make_picture(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": "1", "name": "b"}]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="categories 'a' and 'b' have the id 1"):
        read_boxes("coco", tmp_path / "b.json", tmp_path / "images")


def test_a_super_category_without_boxes_is_told(tmp_path: Path) -> None:
    """Roboflow lists the name of the set as class 0, above the others."""
    read(tmp_path, {"bbox": [10, 5, 20, 20]})
    content = json.loads((tmp_path / "boxes.json").read_text())
    content["categories"] = [
        {"id": 0, "name": "town", "supercategory": "none"},
        {"id": 1, "name": "house", "supercategory": "town"},
        {"id": 2, "name": "tree", "supercategory": "town"},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.warns(GeodistillWarning, match="no box is of the super-category town,"):
        assert len(read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images").categories) == 3
    read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images", categories=["house"])


@pytest.mark.parametrize(
    ("content", "whose"),
    [
        ({"shapes": []}, "LabelMe's"),
        ({"items": []}, "Datumaro's"),
        ({"_via_img_metadata": {}}, "the VGG Image Annotator's"),
        ({"type": "FeatureCollection", "features": []}, "a GeoJSON"),
        ([{"annotations": [{"result": []}]}], "Label Studio's own"),
    ],
)
def test_json_of_other_tools_is_named(tmp_path: Path, content: Any, whose: str) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]})
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"no COCO file but {whose} json; .*export it as COCO"):
        read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"images": [], "annotations": [], "annotations": []}', "'annotations' stands twice"),
        ('{"images": [' + "9" * 5000 + '], "annotations": []}', "is not JSON that can be used"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
    ],
)
def test_json_that_is_not_taken(tmp_path: Path, text: str, told: str) -> None:
    read(tmp_path, {"bbox": [1, 1, 9, 9]})
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(DataError, match=told):
        read_boxes("coco", tmp_path / "boxes.json", tmp_path / "images")
