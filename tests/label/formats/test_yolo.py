"""The forms of YOLO's text: key points, outlines, confidences, separators, and lists of class names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factories import make_picture
from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.boxes import ImageBoxes
from geodistill.label.formats.detection import read_boxes
from geodistill.label.tiles import annotation_files

WIDTH, HEIGHT = 100, 50


def read(folder: Path, *lines: str, names: str | None = None, listed: str = "data.yaml") -> ImageBoxes:
    make_picture(folder / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3)))
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "labels" / "a.txt").write_text("\n".join(lines))
    if names is not None:
        (folder / listed).write_text(names)
    (image,) = read_boxes("yolo", folder / "labels", folder / "images").images
    return image


def joined(*values: object) -> str:
    return " ".join(str(value) for part in values for value in (part if isinstance(part, list) else [part]))


CORNERS = [0.6, 0.3, 0.8, 0.3, 0.8, 0.5, 0.6, 0.5]
"""Four key points at the corners of the box with the centre 0.7, 0.4 and the sides 0.2."""
SEEN = [0.6, 0.3, 2, 0.8, 0.3, 1, 0, 0, 0]
"""Three of them with their visibility, the last not marked."""


def test_rows_of_key_points_are_boxes(tmp_path: Path) -> None:
    image = read(tmp_path, joined(0, 0.7, 0.4, 0.2, 0.2, CORNERS))
    assert [(box.kind, box.box) for box in image.boxes] == [("hbox", pytest.approx((60, 15, 80, 25)))]
    assert image.boxes[0].segmentation is None


@pytest.mark.parametrize("points", [SEEN, SEEN[:6], SEEN[:3], [0.6, 0.3, 2] * 17])
def test_key_points_with_their_visibility(tmp_path: Path, points: list[float]) -> None:
    (box,) = read(tmp_path, joined(0, 0.7, 0.4, 0.2, 0.2, points)).boxes
    assert (box.kind, box.box) == ("hbox", pytest.approx((60, 15, 80, 25)))


@pytest.mark.parametrize(("shape", "points"), [([2, 2], CORNERS[:4]), ([1, 2], CORNERS[:2]), ([4, 2], CORNERS)])
@pytest.mark.parametrize("confidence", [[], [0.9]])
def test_the_shape_of_key_points_is_believed(
    tmp_path: Path, shape: list[int], points: list[float], confidence: list[float]
) -> None:
    names = f"kpt_shape: {shape}\nnames: [pole]\n"
    (box,) = read(tmp_path, joined(0, 0.7, 0.4, 0.2, 0.2, points, confidence), names=names).boxes
    assert (box.kind, box.box) == ("hbox", pytest.approx((60, 15, 80, 25)))


@pytest.mark.parametrize("shape", ["5", "[1]", "[0, 2]", "[4, 5]", "[a, 2]", "{a: 1}"])
def test_shapes_of_key_points_that_are_none(tmp_path: Path, shape: str) -> None:
    with pytest.raises(DataError, match=r"data\.yaml: kpt_shape"):
        read(tmp_path, "0 .5 .5 .1 .1", names=f"kpt_shape: {shape}\nnames: [pole]\n")


def test_outlines_stay_outlines(tmp_path: Path) -> None:
    """Round objects all over the image, of one number of vertices or of many, far from and near the origin."""
    rng = np.random.default_rng(3)
    turns = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    for count in (1, 2, 20):
        for _ in range(10):
            rows = []
            for _ in range(count):
                radius = rng.uniform(0.03, 0.2)
                x, y = rng.uniform(radius, 1 - radius, 2)
                ring = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], 1).round(4)
                rows.append(joined(0, ring.ravel().tolist()))
            found = read_quietly(tmp_path, *rows)
            assert {box.kind for box in found.boxes} == {"polygon"}
    mixed = read(tmp_path, "0 .1 .1 .5 .1 .5 .5", "0 .1 .1 .5 .1 .5 .5 .3 .7 .1 .5", "0 .5 .5 .1 .1")
    assert [box.kind for box in mixed.boxes] == ["polygon", "polygon", "hbox"]


TRIANGLE, SCORED_TRIANGLE = "0 .5 .5 .9 .5 .5 .9", "0 .5 .5 .9 .5 .5 .9 .8"
QUADRILATERALS = ("0 .5 .1 .9 .15 .8 .3 .5 .3", "0 .6 .6 .9 .75 .6 .9 .75 .75")
"""The second is a chevron: as corners of a box, in any order, they would go round another area."""


def test_outlines_of_four_vertices_among_others_are_outlines(tmp_path: Path) -> None:
    for triangle, quadrilaterals in (
        (TRIANGLE, QUADRILATERALS),
        (SCORED_TRIANGLE, [f"{row} .9" for row in QUADRILATERALS]),
    ):
        with pytest.warns(GeodistillWarning, match="four vertices are read as outlines.*2 of 2 are no rectangles"):
            image = read(tmp_path, *quadrilaterals, triangle)
        assert [box.kind for box in image.boxes] == ["polygon"] * 3
        assert (image.boxes[1].polygon / (WIDTH, HEIGHT)).ravel().tolist() == pytest.approx(
            [0.6, 0.6, 0.9, 0.75, 0.6, 0.9, 0.75, 0.75]
        )
        assert all(box.segmentation is not None for box in image.boxes)


TURNED = ("0 .2 .2 .6 .3 .55 .5 .15 .4", "0 .1 .12 .3 .1 .3 .3 .1 .3")
"""Rectangles in pixels or nearly so, as people draw them."""


def several(rows: Sequence[str]) -> list[str]:
    """Return rows five times, a little apart each."""
    return [joined(0, [float(n) + 0.01 * step for n in row.split()[1:]]) for step in range(5) for row in rows]


@pytest.mark.parametrize(
    ("odd", "kinds"),
    [
        (["0 .2 .2 .6 .3 .55 .5"], ["polygon"]),  # a vertex was lost
        (several(["0 .2 .2 .6 .3 .58 .4 .55 .5 .15 .4"]), ["polygon"] * 5),  # outlines of other objects
        (["0 a b c d e f"] * 9, []),  # no numbers
    ],
)
@pytest.mark.parametrize("boxes", [TURNED, (*TURNED, *QUADRILATERALS)])
def test_oriented_boxes_stay_oriented_boxes_beside_odd_rows(
    boxes: tuple[str, ...], odd: list[str], kinds: list[str], tmp_path: Path
) -> None:
    """Unless both, many rows that are no rectangles and many of other lengths, say that all are outlines."""
    outlined = len(kinds) > 1 and len(boxes) > 2
    image = read_quietly(tmp_path, *several(boxes), *odd)
    assert [box.kind for box in image.boxes] == ["polygon" if outlined else "rbox"] * 5 * len(boxes) + kinds


def test_a_run_of_oriented_boxes_does_not_go_on_with_outlines(tmp_path: Path) -> None:
    read_quietly(tmp_path, *QUADRILATERALS, TRIANGLE)
    with pytest.warns(GeodistillWarning, match="read as outlines"):
        outlines = read_boxes("yolo", tmp_path / "labels", tmp_path / "images")
    assert annotation_files(outlines) != annotation_files(replace(outlines, reading=""))


def test_four_vertices_everywhere_are_oriented_boxes(tmp_path: Path) -> None:
    """Beside upright boxes, boxes with the number of a track and key points too."""
    assert [box.kind for box in read(tmp_path, *QUADRILATERALS).boxes] == ["rbox"] * 2
    poses = ["0 .3 .3 .2 .2 .3 .3 2 .25 .25 1", "0 .6 .3 .2 .2 .6 .3 2 .65 .35 1"]
    beside = ["0 .5 .5 .1 .1", "0 .5 .5 .2 .2 .9 7", *poses, QUADRILATERALS[0]]
    assert [box.kind for box in read(tmp_path, *beside).boxes] == ["hbox"] * 4 + ["rbox"]


def read_quietly(folder: Path, *lines: str) -> ImageBoxes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeodistillWarning)
        return read(folder, *lines)


def test_rows_that_could_be_both_are_told(tmp_path: Path) -> None:
    row = joined(0, 0.5, 0.5, 0.55, 0.52, 0.52, 0.56, 0.5, 0.58, 0.47, 0.56, 0.46, 0.52)
    with pytest.warns(GeodistillWarning, match="rows of 13 numbers are read as outlines.*kpt_shape"):
        (box,) = read(tmp_path, row).boxes
    assert box.kind == "polygon"


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("0 .5 .5 .2 .2 .93", "hbox"),
        ("0 .1 .1 .5 .1 .5 .5 .1 .5 .93", "hbox"),
        ("0 .1 .1 .5 .1 .5 .5 .93", "polygon"),
    ],
)
def test_a_confidence_is_taken_off(tmp_path: Path, row: str, kind: str) -> None:
    (box,) = read(tmp_path, row).boxes
    (same,) = read(tmp_path, row.rpartition(" ")[0]).boxes
    assert box.kind == same.kind == kind
    assert box.polygon.tolist() == same.polygon.tolist()


def test_what_is_no_confidence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt:1: the last of 6 fields is 7; expected a confidence"):
        read(tmp_path, "0 .5 .5 .2 .2 7")
    with pytest.warns(GeodistillWarning, match=r"a\.txt:2: 8 fields"):  # an outline that lost a number
        image = read(tmp_path, "0 .5 .5 .2 .2", "0 .1 .1 .5 .1 .5 .5 .1")
    assert [dropped.reason for dropped in image.dropped] == ["malformed"]


@pytest.mark.parametrize("number", ["1", "1.0", "1.000000000000000000e+00", "+1", "01"])
def test_class_numbers_in_any_writing(tmp_path: Path, number: str) -> None:
    (box,) = read(tmp_path, f"{number} .5 .5 .2 .2", names="names: [ship, plane]").boxes
    assert box.category == "plane"


@pytest.mark.parametrize("number", ["1.5", "nan", "inf", "ship", "1e400", "9" * 5000, "٣x"])
def test_class_numbers_that_are_none(tmp_path: Path, number: str) -> None:
    with pytest.raises(DataError, match=r"a\.txt:1: class"):
        read(tmp_path, f"{number} .5 .5 .2 .2")


@pytest.mark.parametrize(
    "row", ["0,.5,.5,.2,.2", "0, .5, .5, .2, .2", "0 .5,.5,.2,.2", "0,.5,.5,.2,.2,", "0\t.5\t.5\t.2 .2"]
)
def test_separators(tmp_path: Path, row: str) -> None:
    (box,) = read(tmp_path, row).boxes
    assert box.box == pytest.approx((40, 20, 60, 30))


def test_decimal_commas_are_not_taken_for_separators(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt:1: '0,5 0,5 0,2 0,2'"):
        read(tmp_path, "0 0,5 0,5 0,2 0,2")


ROWS = [f"{number} .5 .5 .{number + 2} .2" for number in range(3)]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("classes.txt", "ship\n\nplane\n"),
        ("obj.names", "ship\r\n\r\nplane\r\n\r\n\r\n"),
        ("classes.txt", "\ufeffship\n  \nplane"),
        ("data.yaml", "names:\n  0: ship\n  2: plane\n"),
        ("data.yaml", "names:\n  '0': ship\n  '2': plane\n"),
        ("dataset.yaml", "nc: 3\nnames: {0: ship, 2: plane}\n"),
    ],
)
def test_a_number_without_a_name_keeps_the_others_in_place(tmp_path: Path, listed: str, names: str) -> None:
    image = read(tmp_path, *ROWS, names=names, listed=listed)
    assert [box.category for box in image.boxes] == ["ship", "plane"]
    assert [(dropped.reason, dropped.category) for dropped in image.dropped] == [("unknown class", "1")]


@pytest.mark.parametrize(
    "names", ["names: [ship, dock, plane]", "names:\n- ship\n- dock\n- plane\n", "names: [ship, 7, plane]"]
)
def test_lists_of_names(tmp_path: Path, names: str) -> None:
    image = read(tmp_path, *ROWS, names=names)
    assert [box.category for box in image.boxes] == ["ship", "7" if "7" in names else "dock", "plane"]


@pytest.mark.parametrize("names", ["names: [ship, [a]]", "names: {0: ship, '0': plane}", "names: [ship, null]", "\n\n"])
def test_lists_of_names_that_are_none(tmp_path: Path, names: str) -> None:
    with pytest.raises(DataError, match=r"(data\.yaml|classes\.txt) has no class names"):
        read(tmp_path, *ROWS, names=names, listed="classes.txt" if names == "\n\n" else "data.yaml")


def test_other_text_beside_the_labels_is_not_read(tmp_path: Path) -> None:
    """CVAT puts lists of images there, others a README in any encoding."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "README.txt").write_bytes(b"H\xe4user, labelled 0 1 2 3 4 5 6 7\n")
    (tmp_path / "labels" / "train.txt").write_text("data/obj_train_data/a.png\n")
    (box,) = read(tmp_path, "0 .1 .1 .5 .1 .5 .5 .93").boxes
    assert box.kind == "polygon"


def test_a_tracker_s_numbers_are_no_outline(tmp_path: Path) -> None:
    image = read(tmp_path, "0 0.7 0.4 0.2 0.2 0.9 1", "0 0.3 0.4 0.2 0.2 0.8 17")
    assert [box.box for box in image.boxes] == [pytest.approx((60, 15, 80, 25)), pytest.approx((20, 15, 40, 25))]


def test_three_corners_of_which_one_is_at_the_edge_stay_an_outline(tmp_path: Path) -> None:
    (box,) = read(tmp_path, "0 0.2 0.2 0.6 0.2 0.4 1").boxes
    assert (box.kind, box.box) == ("polygon", pytest.approx((20, 10, 60, 50)))
