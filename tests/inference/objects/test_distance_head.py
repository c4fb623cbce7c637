"""Touching squares, which neither outline nor confidence parts, by what a distance head says of them."""

from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

from class_maps import LEGEND, read, write_map
from geodistill.inference.objects.separate import separate
from geodistill.inference.objects.write_objects import write_objects
from geodistill.nn.distance import distance_targets

HOUSE = LEGEND.names.index("house")


def touching() -> np.ndarray:
    """Numbers of three squares that share two walls, 0 outside."""
    numbers = np.zeros((40, 80), np.int64)
    numbers[10:26, 8:24], numbers[10:26, 24:40], numbers[26:36, 24:34] = 1, 2, 3
    return numbers


def test_squares_that_share_a_wall_are_told_apart_by_it_alone() -> None:
    numbers = touching()[5:38, 4:44]
    numbers[numbers == 3] = 0
    inside, sure = numbers > 0, np.full(numbers.shape, 0.9, np.float32)
    assert separate(inside, sure).max() == 1
    labels = separate(inside, sure, distance_targets(numbers))
    np.testing.assert_array_equal(labels, numbers)
    # One object whose distances say so stays one, however long.
    assert separate(inside, sure, distance_targets(inside.astype(np.int64))).max() == 1


def test_a_roof_under_an_uneven_head_stays_one() -> None:
    inside = np.zeros((40, 60), bool)
    inside[6:34, 6:54] = True
    says = distance_targets(inside.astype(np.int64))
    says[:, 26:34] *= 0.65  # a darker strip across the roof, of which the head is less sure
    assert separate(inside, None, says).max() == 1
    says[:, 29:31] = 0  # a wall
    assert separate(inside, None, says).max() == 2


def test_objects_of_a_map_go_by_its_map_of_distances(tmp_path: Path) -> None:
    numbers = touching()
    place = from_origin(500_000, 40_000, 0.5, 0.5)
    made = write_map(tmp_path / "map.tif", np.where(numbers > 0, HOUSE, 0).astype(np.uint8), "EPSG:32636", place)
    steps = np.round(250 * distance_targets(numbers)).astype(np.uint8)
    distance = write_map(tmp_path / "map_distance.tif", steps, "EPSG:32636", place)
    frame = read(write_objects(made, ["house"], "gpkg", distance=distance).path)
    # Where three meet a pixel or two go to the neighbour.
    np.testing.assert_allclose(sorted(frame["pixels"]), sorted(np.bincount(numbers.ravel())[1:]), atol=4)
    first, second = sorted(frame.geometry, key=lambda polygon: -polygon.area)[:2]
    assert first.touches(second)
