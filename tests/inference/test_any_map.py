"""Maps of classes of any maker: what their values mean, and what means nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from class_maps import LEGEND, blobs, hide, write_map
from geodistill.errors import DataError
from geodistill.inference.any_map import open_map
from geodistill.inference.map_file import STRIP
from geodistill.spec import IGNORE_INDEX, Legend

COVER = Legend(("trees", "water", "built"), values=(10, 80, 50), ignore_values=(99,))
"""As of a land cover product: values with gaps, in no order."""


def foreign(path: Path, values: NDArray[Any], **more: Any) -> Path:
    height, width = values.shape
    profile = {"driver": "GTiff", "dtype": values.dtype.name, "count": 1, "height": height, "width": width, **more}
    with rasterio.open(path, "w", crs="EPSG:32636", transform=from_origin(500_000, 40_000, 10, 10), **profile) as file:
        file.write(values, 1)
    return path


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_values_become_classes(tmp_path: Path, kind: str) -> None:
    values = np.array([[10, 80, 50, 99], [50, 0, 10, 10]], kind)
    classes = open_map(foreign(tmp_path / "map.tif", values, nodata=0), COVER)
    ((top, here, rows),) = classes.haloed_strips(2)
    assert (top, here, rows.dtype) == (0, slice(0, 2), np.uint8)
    assert rows.tolist() == [[0, 1, 2, IGNORE_INDEX], [2, IGNORE_INDEX, 0, 0]]


def test_negative_and_large_values(tmp_path: Path) -> None:
    legend = Legend(("sea", "land"), values=(-5, 700))
    path = foreign(tmp_path / "map.tif", np.array([[-5, 700, -32768]], np.int16), nodata=-32768)
    ((_, _, rows),) = open_map(path, legend).haloed_strips(0)
    assert rows.tolist() == [[0, 1, IGNORE_INDEX]]
    odd = foreign(tmp_path / "odd.tif", np.array([[-5, 700, -7]], np.int16))
    with pytest.raises(DataError, match="pixels of value -7; expected those of its legend: -5, 700"):
        list(open_map(odd, legend).haloed_strips(0))


def test_a_class_that_is_the_files_nodata_stays_a_class(tmp_path: Path) -> None:
    legend = Legend(("background", "roof"), values=(0, 1))
    classes = open_map(foreign(tmp_path / "map.tif", np.array([[0, 1, 255]], np.uint8), nodata=0), legend)
    ((_, _, rows),) = classes.haloed_strips(0)
    assert rows.tolist() == [[0, 1, IGNORE_INDEX]]


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_mask_hides_is_no_data_whatever_is_stored_there(tmp_path: Path, inside: bool) -> None:
    values = np.array([[10, 80, 50], [77, 10, 99]], np.int16)  # 77 means nothing, and is hidden
    path = foreign(tmp_path / "map.tif", values, nodata=10 if inside else None)
    hide(path, np.array([[True, False, False], [True, False, False]]), inside=inside)
    ((_, _, rows),) = open_map(path, COVER).haloed_strips(0)
    assert rows.tolist() == [[IGNORE_INDEX, 1, 2], [IGNORE_INDEX, 0, IGNORE_INDEX]]


def test_a_value_that_means_nothing_is_named(tmp_path: Path) -> None:
    path = foreign(tmp_path / "map.tif", np.array([[10, 7, 0]], np.uint8))
    with pytest.raises(DataError, match=r"has pixels of value 0, 7; expected those of its legend: 10, 50, 80"):
        list(open_map(path, COVER).haloed_strips(0))
    beyond = write_map(tmp_path / "ours.tif", np.array([[0, 3]], np.uint8))
    with pytest.raises(DataError, match=r"pixels of value 3; expected those of its legend: 0, 1, 2"):
        list(open_map(beyond).haloed_strips(0))


def test_a_map_that_says_its_classes_says_it_better(tmp_path: Path) -> None:
    """The legend of its masks may have other values: the map holds the positions of the classes."""
    legend = Legend(LEGEND.names, values=(10, 20, 30))
    path = write_map(tmp_path / "ours.tif", blobs(STRIP + 30, 20), legend=legend)
    classes = open_map(path, COVER)
    assert classes.legend == legend
    strips = list(classes.haloed_strips(4))
    assert [(top, len(rows)) for top, _, rows in strips] == [(0, STRIP + 4), (STRIP, 34)]
    np.testing.assert_array_equal(np.concatenate([rows[here] for _, here, rows in strips]), blobs(STRIP + 30, 20))


def test_what_is_no_map_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no legend"):
        open_map(foreign(tmp_path / "plain.tif", np.zeros((2, 2), np.uint8)))
    with pytest.raises(DataError, match="1 bands of float32; expected a map of classes: one band of 8 or 16 bits"):
        open_map(foreign(tmp_path / "float.tif", np.zeros((2, 2), np.float32)), COVER)
