"""What a command reads changes between a kill and going on: refused or done afresh, never a mixture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from torture.cases import CASES
from torture.trials import Book, Boxes, classify, count, differences, files_of, watch

KIND = "changed inputs"


def _repaint(path: Path) -> None:
    """Other pixels, the same size."""
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        file.write(np.ascontiguousarray(pixels[:, ::-1]))


def _repaint_all(box: Path) -> None:
    for path in sorted((box / "in/set/images").iterdir()):
        _repaint(path)


def _repaint_picture(path: Path) -> None:
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), picture[::-1].copy())


def _world_file(box: Path) -> None:
    """A side-car that moves the scene."""
    (box / "in/scenes/s1.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>600000, 0.5, 0, 40000, 0, -0.5</GeoTransform></PAMDataset>", encoding="utf-8"
    )


def _other_split(box: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = box / "in/m.parquet"
    table = pyarrow.parquet.read_table(path)
    column = table.column("split").to_pylist()
    swapped = ["val" if value == "train" else "train" for value in column]
    at = table.column_names.index("split")
    table = table.set_column(at, table.schema.field("split"), pyarrow.array(swapped, table.schema.field("split").type))
    pyarrow.parquet.write_table(table, path)


def _other_boxes(box: Path) -> None:
    path = box / "in/det/boxes.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"category_id": 0', '"category_id": 1'), encoding="utf-8")


def _other_model(box: Path) -> None:
    shutil.copytree(box / "in/model2", box / "in/model", dirs_exist_ok=True)


def _other_recipe(box: Path) -> None:
    path = box / "in/early.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("8.0e-2", "4.0e-2"), encoding="utf-8")


CHANGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "raster": ("predict:scenes", lambda box: _repaint(box / "in/scenes/s0.tif")),
    "VRT source": ("predict:blocks", lambda box: _repaint(box / "in/scenes/s1.tif")),
    "VRT source's side-car": ("predict:blocks", _world_file),
    "second scene": ("predict:scenes", lambda box: _repaint(box / "in/scenes/s1.tif")),
    "model": ("predict:scenes", _other_model),
    "image": ("label:grabcut", lambda box: _repaint_picture(box / "in/det/images/scene_0.png")),
    "annotations": ("label:grabcut", _other_boxes),
    "manifest": ("fit:validation", _other_split),
    "training image": ("fit:validation", lambda box: _repaint(box / "in/set/images/scene_0.tif")),
    "training mask": ("fit:validation", lambda box: _repaint(box / "in/set/masks/scene_0.tif")),
    "all images": ("fit:validation", _repaint_all),
    "recipe": ("fit:validation", _other_recipe),
    "images of a phase": ("fit:ktda", _repaint_all),
    "images of a cache": ("fit:cache", _repaint_all),
}


def _changed(boxes: Boxes, box: Path, change: Callable[[Path], None]) -> None:
    """Change the inputs, at the same time each time: maps hold a stamp of what they are made from."""
    change(box)
    for name, content in files_of(box, "in").items():
        if boxes.inputs.get(name) != content:
            os.utime(box / name, ns=(10**18, 2 * 10**18))


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_after_a_kill(boxes: Boxes, book: Book, what: str) -> None:
    name, change = CHANGES[what]
    case, reference = CASES[name], boxes.reference(name)
    box = boxes.new(case)
    _changed(boxes, box, change)
    fresh = boxes.go(case.argv)
    wanted = files_of(box) if fresh.status == 0 else {}
    for share in (0.5, 0.7, 0.9)[: count(2)]:
        at = int(len(reference.events) * share)
        box = boxes.new(case)
        boxes.go(case.argv, lambda at=at, box=box: watch(box, at=at))
        _changed(boxes, box, change)
        begun = not case.begun or (box / case.begun).exists()
        done = boxes.go((*case.argv, *(case.resume if begun else ())))
        others = differences(case, files_of(box), wanted, reference.unsteady)
        outcome = classify(done, not others, reference.err)
        book.add(
            KIND, what, outcome, ("right", "line"), f"at {share}: {others[0] if outcome == 'silent' else done.said}"
        )
    book.finish()
