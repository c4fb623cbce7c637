"""Regions as polygons: exact, valid, the same for any strips, and in memory that does not grow with the height."""

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.inference.regions import MapStrip, Region, trace_regions
from geodistill.spec import IGNORE_INDEX


def strips(classes: NDArray[np.uint8], height: int, confidence: NDArray[np.uint8] | None = None) -> Iterator[MapStrip]:
    for top in range(0, len(classes), height):
        rows = slice(top, top + height)
        yield MapStrip(classes[rows], None if confidence is None else confidence[rows])


def trace(classes: NDArray[np.uint8], height: int, simplify: float = 0.0) -> list[Region]:
    return list(trace_regions(strips(classes, height), simplify))


def count_regions(inside: NDArray[np.bool_]) -> int:
    """Count regions that hang together by sides, by flooding one after the other."""
    left = {(int(row), int(col)) for row, col in np.argwhere(inside)}
    count = 0
    while left:
        count += 1
        waiting = [left.pop()]
        while waiting:
            row, col = waiting.pop()
            near = {(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)} & left
            left -= near
            waiting += near
    return count


@st.composite
def maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Maps of speckle or of blobs, some of whose pixels have no data."""
    seed, kinds = draw(st.integers(0, 10_000)), draw(st.integers(1, 4))
    height, width, cell = draw(st.integers(1, 30)), draw(st.integers(1, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    small = rng.integers(0, kinds, (-(-height // cell), -(-width // cell)))
    classes = small.repeat(cell, 0).repeat(cell, 1)[:height, :width].astype(np.uint8)
    classes[rng.random(classes.shape) < draw(st.sampled_from([0.0, 0.1, 0.6]))] = IGNORE_INDEX
    return classes


@pytest.mark.slow
@settings(max_examples=60)
@given(classes=maps(), height=st.integers(1, 31))
def test_polygons_cover_each_pixel_once_and_are_valid(classes: NDArray[np.uint8], height: int) -> None:
    regions = trace(classes, height)
    for region in regions:
        assert region.polygon.geom_type == "Polygon"
        assert region.polygon.is_valid
        assert region.polygon.area == pytest.approx(region.pixels, abs=1e-9)
    for index in np.unique(classes[classes != IGNORE_INDEX]):
        own = [region for region in regions if region.index == index]
        assert sum(region.pixels for region in own) == (classes == index).sum()
        assert len(own) == count_regions(classes == index)
    together = shapely.union_all([region.polygon for region in regions])
    assert together.area == pytest.approx((classes != IGNORE_INDEX).sum(), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=60)
@given(classes=maps(), height=st.integers(1, 31), tolerance=st.sampled_from([0.0, 0.7, 1.0, 3.0]))
def test_polygons_are_a_coverage(classes: NDArray[np.uint8], height: int, tolerance: float) -> None:
    """Neighbours have the same points along their border, as GIS programs' topology checks ask."""
    polygons = [region.polygon for region in trace(classes, height, tolerance)]
    assert shapely.coverage_is_valid(polygons)
    assert all(polygon.is_valid for polygon in polygons)


def test_a_straight_border_has_a_point_where_a_neighbour_has_a_corner_and_no_other() -> None:
    classes = np.array([[0, 0, 0, 0], [1, 1, 2, 2], [1, 1, 2, 2]], np.uint8)
    expected = {
        0: {(0, 0), (4, 0), (4, 1), (2, 1), (0, 1)},
        1: {(0, 1), (2, 1), (2, 3), (0, 3)},
        2: {(2, 1), (4, 1), (4, 3), (2, 3)},
    }
    for height in (1, 2, 3):
        assert {r.index: set(r.polygon.exterior.coords) for r in trace(classes, height)} == expected


@pytest.mark.slow
@settings(max_examples=40)
@given(classes=maps(), heights=st.tuples(st.integers(1, 31), st.integers(1, 31)))
def test_polygons_do_not_depend_on_the_strips(classes: NDArray[np.uint8], heights: tuple[int, int]) -> None:
    first, second = ({shapely.normalize(r.polygon).wkb: r.index for r in trace(classes, h)} for h in heights)
    assert first == second


@settings(max_examples=40)
@given(classes=maps(), height=st.integers(2, 31), tolerance=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
def test_simplified_neighbours_keep_their_border(classes: NDArray[np.uint8], height: int, tolerance: float) -> None:
    classes[classes == IGNORE_INDEX] = 0
    regions = trace(classes, height, tolerance)
    polygons = [region.polygon for region in regions]
    assert all(polygon.is_valid and polygon.geom_type == "Polygon" for polygon in polygons)
    assert len(regions) == len(trace(classes, height))
    # Neither gap nor overlap: together they still are the whole map, and as large as they are one by one.
    assert shapely.union_all(polygons).area == pytest.approx(classes.size)
    assert sum(polygon.area for polygon in polygons) == pytest.approx(classes.size)


def test_simplifying_makes_stairs_a_slope() -> None:
    classes = np.tri(40, 40, dtype=np.uint8)
    plain, simpler = trace(classes, 40), trace(classes, 40, 1.0)
    corners = [sum(len(r.polygon.exterior.coords) for r in regions) for regions in (plain, simpler)]
    assert corners[0] > 150
    assert corners[1] < 20


def test_what_diverges_below_is_one_and_what_touches_at_a_corner_is_two() -> None:
    classes = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], np.uint8)
    for height in (1, 2, 3, 6):
        ones = sorted(r.pixels for r in trace(classes, height) if r.index == 1)
        assert ones == [1, 1, 7]


def test_confidence_is_the_mean_over_the_region() -> None:
    classes = np.array([[0, 0, 1], [0, IGNORE_INDEX, 1], [0, 1, 1]], np.uint8)
    confidence = np.array([[10, 20, 90], [30, 255, 80], [40, 70, 60]], np.uint8)
    for height in (1, 2, 3):
        found = {r.index: r.confidence for r in trace_regions(strips(classes, height, confidence))}
        assert found == {0: pytest.approx(25.0), 1: pytest.approx(75.0)}
    assert all(np.isnan(region.confidence) for region in trace(classes, 2))


def test_a_map_without_data_has_no_region() -> None:
    assert trace(np.full((5, 4), IGNORE_INDEX, np.uint8), 2) == []
    assert trace(np.full((5, 4), IGNORE_INDEX, np.uint8), 2, 1.0) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height() -> None:
    """Fields with gaps between them, on and on: what is finished is given away."""

    def field_strips(count: int) -> Iterator[MapStrip]:
        rows = np.full((128, 1024), IGNORE_INDEX, np.uint8)
        rows[:100, :500], rows[:100, 520:] = 0, 1
        rows[10:20, 10:20] = 1
        for _ in range(count):
            gc.collect(1)  # rasterio leaves cycles behind, which Python takes away at its own times.
            yield MapStrip(rows)

    peaks = []
    for count in (6, 60):
        tracemalloc.start()
        assert sum(1 for _ in trace_regions(field_strips(count))) == 3 * count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


def test_a_finished_region_comes_before_the_rows_below_are_read() -> None:
    seen = []

    def watched() -> Iterator[MapStrip]:
        for index in range(4):
            seen.append(index)
            yield MapStrip(np.full((2, 3), index, np.uint8))

    for region in trace_regions(watched()):
        assert seen[-1] <= region.index + 2
