from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geodistill.label.boxes import Annotations, Box, ImageBoxes, boxes_in, rectangle
from geodistill.label.tiles import ImageTask, annotation_files, batches, image_names, plan


def images(*boxes: tuple[float, float, float, float], key: str = "a", side: int = 100) -> ImageBoxes:
    made = tuple(Box(rectangle(*box), "ship", 0, "here", "hbox", index) for index, box in enumerate(boxes))
    return ImageBoxes(key, Path(f"{key}.png"), side, side, made, ())


def tasks_of(*found: ImageBoxes, tile: int | None = None, overlap: int = 0) -> list[ImageTask]:
    return list(plan(Annotations(found, (), ("ship",), ()), tile, overlap))


def test_rows_of_tiles_are_read_together() -> None:
    tasks = tasks_of(images(), tile=40, overlap=10)
    assert [[tile[1:] for tile in task.ids()] for task in tasks] == [
        [(0, 0), (0, 30), (0, 60)],
        [(30, 0), (30, 30), (30, 60)],
        [(60, 0), (60, 30), (60, 60)],
    ]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-20, 100), st.floats(-20, 100), st.floats(1, 60), st.floats(1, 60)), max_size=6),
    st.integers(20, 120),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_box_is_kept_from_its_tile(
    corners: list[tuple[float, float, float, float]], tile: int, share: float
) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    image = images(*boxes)
    clipped = images(*(tuple(np.clip(box, 0, 100).tolist()) for box in boxes))  # type: ignore[arg-type]
    inside = [box for box in clipped.boxes if box.box[0] < box.box[2] and box.box[1] < box.box[3]]
    for task in tasks_of(image, tile=tile):
        for part in task.tiles:
            held = {box.index for box in boxes_in(part.boxes, part.window, share)}
            assert held == {box.index for box in boxes_in(inside, part.window, share)}


def test_an_image_without_size_is_not_planned() -> None:
    assert tasks_of(ImageBoxes("a", Path("a.png"), 0, 0, (), ())) == []


def test_items_fill_a_batch_and_leave_out_what_is_done() -> None:
    tasks = tasks_of(*(images(key=key) for key in "abcdef"))
    done = {(key, 0, 0) for key in "bdef"}
    items = batches(iter(tasks), done, 3)
    assert [[task.key for task in item] for item in items] == [["a", "b", "c"]], "a batch is done whole or not at all"
    rows = tasks_of(images(), tile=40, overlap=10)
    assert [len(item[0].tiles) for item in batches(iter(rows), {("a", 0, 30)}, 1)] == [2, 3, 3]
    assert batches(iter(tasks), {task.ids()[0] for task in tasks}, 2) == []


def test_what_is_done_does_not_change_which_tiles_share_an_item() -> None:
    tasks = tasks_of(*(images(key=key) for key in "abcdefg"))
    whole = batches(iter(tasks), set(), 2)
    done = {name for item in whole[:2] for task in item for name in task.ids()}
    left = batches(iter(tasks), done, 2)
    assert [[task.ids() for task in item] for item in left] == [[task.ids() for task in item] for item in whole[2:]]


def test_the_digests_follow_names_classes_and_annotations(tmp_path: Path) -> None:
    source = tmp_path / "boxes.txt"
    source.write_text("1 2 3 4")
    first = ImageBoxes("a", Path("a.png"), 9, 9, (), ())
    other = ImageBoxes("b", Path("b.png"), 9, 9, (), ())
    assert len({image_names(Annotations(found, (), (), ())) for found in ((first,), (other,), (first, other))}) == 3
    before = annotation_files(Annotations((first,), (), ("ship",), (source,)))
    assert annotation_files(Annotations((other,), ("lost",), ("ship",), (source, source))) == before
    assert annotation_files(Annotations((first,), (), ("ship", "dock"), (source,))) != before
    source.write_text("1 2 3 5")
    assert annotation_files(Annotations((first,), (), ("ship",), (source,))) != before
