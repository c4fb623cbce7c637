"""Manifests that others wrote, or that were altered: read as they stand or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geodistill.data.manifest import Manifest, Row
from geodistill.data.statistics import Statistics
from geodistill.errors import DataError
from geodistill.raster import Window
from geodistill.spec import Legend

STATISTICS = Statistics(
    ("train",), (5.0,), (2.0,), (0.0,), (9.0,), {"train": 1}, {"train": 4}, {"train": 4}, {"train": (4,)}, {"train": 0}
)


def written(folder: Path) -> Path:
    rows = (Row(folder / "a.tif", folder / "b.tif", "train", Window(0, 0, 2, 2), "g", 3.0, 4.0, 0.5, "2020-01-01"),)
    path = folder / "m.parquet"
    Manifest(rows, ("red",), Legend(("a",)), False, STATISTICS).save(path)
    return path


def refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.parquet") as caught:
        Manifest.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


METADATA: list[dict[str, Any]] = [
    {"bands": 5},
    {"bands": [5]},
    {"bands": []},
    {"bands": None},
    {"legend": 5},
    {"legend": {"names": []}},
    {"legend": {"names": ["a"], "values": [[]]}},
    {"ignore_unknown": "no"},
    {"problems": None},
    {"problems": [{}]},
    {"statistics": []},
    {"statistics": {}},
    {"format_version": [1]},
    *({"statistics": change} for change in (
        {"mean": [float("nan")]}, {"std": [float("inf")]}, {"mean": [1.0, 2.0]}, {"mean": 5}, {"mean": ["x"]},
        {"splits": "train"}, {"images": []}, {"images": {"train": -1}}, {"class_pixels": {"train": 5}},
        {"class_pixels": {"train": [None]}}, {"height": 5}, {"height": {"minimum": 1}}, {"gsd": {"minimum": 1,
        "median": "x", "maximum": 2}}, {"unknown_labels": None}, {"more": 1},
    )),
]  # fmt: skip


@pytest.mark.parametrize("change", METADATA, ids=lambda change: json.dumps(change)[:60])
def test_what_it_says_of_itself(tmp_path: Path, change: dict[str, Any]) -> None:
    path = written(tmp_path)
    table = pq.read_table(path)
    data = json.loads(table.schema.metadata[b"geodistill"])
    for key, value in change.items():
        data[key] = data[key] | value if key == "statistics" and value else value
    pq.write_table(table.replace_schema_metadata({"geodistill": json.dumps(data)}), path)
    refused(path)


@pytest.mark.parametrize("key", ["bands", "legend", "ignore_unknown", "statistics", "problems", "format_version"])
def test_a_key_that_is_missing(tmp_path: Path, key: str) -> None:
    path = written(tmp_path)
    table = pq.read_table(path)
    data = json.loads(table.schema.metadata[b"geodistill"])
    del data[key]
    pq.write_table(table.replace_schema_metadata({"geodistill": json.dumps(data)}), path)
    refused(path)


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"[1]", b"{", b"[" * 100_000, b'{"format_version": 1, "format_version": 1}']
)
def test_text_that_is_no_description(tmp_path: Path, raw: bytes) -> None:
    path = written(tmp_path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"geodistill": raw}), path)
    refused(path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("image", pa.array([None], pa.string())),
        ("image", pa.array([[1]])),
        ("image", pa.array([b"\xff\xfe"])),
        ("split", pa.array(["trian"])),
        ("split", pa.array([None], pa.string())),
        ("height", pa.array([10**12])),
        ("height", pa.array([-1])),
        ("height", pa.array(["tall"])),
        ("height", pa.array([None], pa.int64())),
        ("width", pa.array([2.5])),
        ("row", pa.array([None], pa.int64())),
        ("row", pa.array([-(2**40)])),
        ("gsd", pa.array([float("nan")])),
        ("gsd", pa.array([0.0])),
        ("gsd", pa.array([-1.0])),
        ("lat", pa.array([float("inf")])),
        ("lon", pa.array([1e9])),
    ],
)
def test_cells(tmp_path: Path, column: str, values: pa.Array) -> None:
    path = written(tmp_path)
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    refused(path)


def test_numbers_of_another_width_are_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    table, before = pq.read_table(path), Manifest.load(path)
    for column in ("row", "col", "height", "width"):
        table = table.set_column(table.column_names.index(column), column, table[column].cast(pa.int32()))
    pq.write_table(table, path)
    assert Manifest.load(path) == before


@pytest.mark.parametrize("stored", ["a.tif", "deep/er/a.tif", "/a.tif", "/x/a.tif", "..", "./a.tif", "x//a.tif"])
def test_paths_are_those_of_pathlib(tmp_path: Path, stored: str) -> None:
    path = written(tmp_path)
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "image", pa.array([stored])), path)
    assert Manifest.load(path).entries[0].image == tmp_path / stored


def test_a_path_that_goes_up_is_one_without_dots(tmp_path: Path) -> None:
    image = tmp_path / "images" / "a.tif"
    (tmp_path / "set").mkdir()
    Manifest((Row(image, None, "train", Window(0, 0, 2, 2)),), ("red",)).save(tmp_path / "set" / "m.parquet", tmp_path)
    assert pq.read_table(tmp_path / "set" / "m.parquet")["image"].to_pylist() == ["../images/a.tif"]
    assert Manifest.load(tmp_path / "set" / "m.parquet").entries[0].image == image
