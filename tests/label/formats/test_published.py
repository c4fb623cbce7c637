from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from detection_sets import make_detection_set, settings_of
from geodistill.data.catalog.declarations import SIOR
from geodistill.errors import DataError, RecipeError
from geodistill.label.build_labels import build
from geodistill.label.export import export_labels
from geodistill.label.formats.published import find_instances, read_objects
from geodistill.label.stats import stats


def entry(name: str, rows: slice, cols: slice) -> dict[str, Any]:
    """An object as the authors' script writes it."""
    mask = np.zeros((20, 30), np.uint8)
    mask[rows, cols] = 1
    rle = coco.encode(np.asfortranarray(mask))
    rle["counts"] = rle["counts"].decode("ascii")
    box = np.array([cols.start, rows.start, cols.stop, rows.stop], np.float32)
    size = np.sum(mask.astype(bool))
    return {"mask": rle, "bbox": box, "category": name, "label": SIOR.index(name), "size": size}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "sior/hbox_segs_trainvaltest_init/ins"
    folder.mkdir(parents=True)
    first = [entry("ship", slice(2, 6), slice(3, 10)), entry("vehicle", slice(4, 8), slice(5, 9))]
    (folder / "00001.pkl").write_bytes(pickle.dumps(first))
    (folder / "00002.pkl").write_bytes(pickle.dumps([entry("ship", slice(0, 1), slice(0, 1))]))
    return tmp_path / "sior"


def test_published_instances_are_counted(published: Path) -> None:
    measured = stats(published)
    assert measured.classes == SIOR
    assert (measured.images, measured.instances[SIOR.index("ship")], sum(measured.instances)) == (2, 2, 3)
    assert measured.mask_pixels[SIOR.index("ship")] == 28 + 1
    assert measured.mask_pixels[SIOR.index("vehicle")] == 16, "an overlap counts in both"
    assert measured.per_image == {1: 1, 2: 1}


def test_one_value_has_one_class(published: Path) -> None:
    for file, name in zip(find_instances(published), ("zebra", "horse"), strict=True):
        file.write_bytes(pickle.dumps([entry("ship", slice(2, 6), slice(3, 10)) | {"category": name}]))
    with pytest.raises(DataError, match=r"00002\.pkl: class 'horse' of value \d+; expected 'zebra'"):
        stats(published)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"category": "zebra"}, "zebra"),
        ({"label": 300}, "value 300"),
        ({"mask": {"size": [20, 30], "counts": [5, 700]}}, "object 1"),
        ({"mask": {"size": [10**9, 10**9], "counts": ""}}, "1000000000"),
        ({"mask": None}, "object 1"),
    ],
)
def test_an_object_of_another_form_is_refused(published: Path, change: dict[str, Any], told: str) -> None:
    file = find_instances(published)[0]
    file.write_bytes(pickle.dumps([entry("ship", slice(2, 6), slice(3, 10)) | change]))
    with pytest.raises(DataError, match=told):
        stats(published)


def test_instances_are_written_as_the_authors_code_reads_them(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 4)
    account = build(settings_of(source), tmp_path / "out")
    export_labels(tmp_path / "out", "samrs", tmp_path / "samrs", pickles=True)
    count = 0
    for file in find_instances(tmp_path / "samrs"):
        trusted = pickle.loads(file.read_bytes())
        ours = list(read_objects(file))
        assert [(one["category"], one["label"]) for one in trusted] == [(one.category, one.value) for one in ours]
        for one, read in zip(trusted, ours, strict=True):
            assert int(coco.decode(one["mask"]).sum()) == one["size"] == read.runs.area
            assert (one["bbox"].shape, one["rbox"].shape) == ((4,), (4, 2))
            count += 1
    assert count == account["instances"]
    measured, built = stats(tmp_path / "samrs"), stats(tmp_path / "out")
    kept = [at for at, name in enumerate(built.classes) if name in measured.classes]
    assert measured.classes == tuple(built.classes[at] for at in kept), "the classes of the objects themselves"
    assert measured.instances == tuple(built.instances[at] for at in kept)
    assert sum(measured.instances) == count
    assert measured.mask_pixels == tuple(built.mask_pixels[at] for at in kept)
    with pytest.raises(RecipeError, match="pickles of the form yolo-seg"):
        export_labels(tmp_path / "out", "yolo-seg", tmp_path / "yolo", pickles=True)
