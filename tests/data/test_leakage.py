from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.leakage import find_leaks, fingerprint, format_leaks
from geodistill.data.manifest import Manifest, Row
from geodistill.raster import Window


def smooth(seed: int) -> np.ndarray:
    """A picture with large forms, as real ones have."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 230, (8, 9))
    return np.kron(coarse, np.ones((8, 8)))[None].repeat(3, 0).astype(np.uint8)


def row(path: Path, split: str, side: tuple[int, int] = (64, 72)) -> Row:
    return Row(path, None, split, Window(0, 0, *side))


def test_a_fingerprint_survives_brightness_and_noise_but_not_another_place() -> None:
    one = smooth(0)
    brighter = np.clip(one.astype(int) + 15 + noise(one.shape, seed=3) % 3, 0, 255).astype(np.uint8)
    assert (fingerprint(one) ^ fingerprint(brighter)).bit_count() <= 4
    assert (fingerprint(one) ^ fingerprint(smooth(1))).bit_count() > 16


def test_images_that_look_alike_across_splits_are_found(tmp_path: Path) -> None:
    a = make_raster(tmp_path / "a.tif", pixels=smooth(0), crs=None)
    b = make_raster(tmp_path / "b.tif", pixels=np.clip(smooth(0) + 3, 0, 255).astype(np.uint8), crs=None)
    c = make_raster(tmp_path / "c.tif", pixels=smooth(5), crs=None)
    manifest = Manifest((row(a, "train"), row(b, "test"), row(c, "test")), ("r", "g", "b"))
    (leak,) = find_leaks(manifest)
    assert (leak.kind, leak.first, leak.second, leak.splits) == ("alike", str(a), str(b), ("train", "test"))
    same = Manifest((row(a, "train"), row(b, "train"), row(c, "test")), ("r", "g", "b"))
    assert find_leaks(same) == []


def test_overlap_on_the_ground_is_found(tmp_path: Path) -> None:
    made = {}
    for name, east in (("a", 0), ("b", 36), ("c", 500)):
        transform = from_origin(500_000 + east, 40_000, 1, 1)
        made[name] = make_raster(tmp_path / f"{name}.tif", pixels=smooth(ord(name)), transform=transform)
    rows = (row(made["a"], "train"), row(made["b"], "test"), row(made["c"], "val"))
    (leak,) = find_leaks(Manifest(rows, ("r", "g", "b")), 0)
    assert (leak.kind, leak.splits, leak.amount) == ("overlap", ("train", "test"), pytest.approx(0.5, abs=1e-6))


@pytest.mark.parametrize(
    ("one", "other", "lon", "lat"),
    [
        (32635, 32636, 30.0, 0.3),
        (32635, 3857, 30.0, 61.0),
        (32601, 4326, -180.0, 0.3),
        (32660, 32601, 180.0, 50.0),
        (3413, 5041, 0.0, 90.0),
    ],
)
def test_overlap_on_the_ground_is_found_whatever_the_crs(
    one: int, other: int, lon: float, lat: float, tmp_path: Path
) -> None:
    places = []
    for split, crs in (("train", one), ("test", other)):
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon % 360 if crs == 4326 else lon, lat)
        side = 9e-6 if crs == 4326 else 1 / np.cos(np.radians(lat)) if crs == 3857 else 1
        transform = from_origin(x - 36 * side, y + 32 * side, side, side)
        pixels = smooth(len(places))
        places.append(make_raster(tmp_path / f"{split}.tif", pixels=pixels, crs=f"EPSG:{crs}", transform=transform))
    far = make_raster(tmp_path / "far.tif", pixels=smooth(9), crs="EPSG:32635", transform=from_origin(0, 9e5, 1, 1))
    rows = (row(places[0], "train"), row(places[1], "test"), row(far, "val"))
    (leak,) = find_leaks(Manifest(rows, ("r", "g", "b")), 0)
    assert (leak.kind, leak.splits) == ("overlap", ("train", "test"))
    assert leak.amount > 0.8  # over the pole they lie across each other


def test_control_points_place_an_image_and_a_turned_one_is_no_larger_than_it_is(tmp_path: Path) -> None:
    turned = Affine.translation(500_000, 40_000) @ Affine.rotation(45)
    pointed = make_raster(tmp_path / "pointed.tif", pixels=smooth(0), crs=None)
    corners = [(0, 0), (72, 0), (0, 64), (72, 64)]
    with rasterio.open(pointed, "r+") as file:
        file.gcps = ([GroundControlPoint(y, x, *(turned @ (x, y))) for x, y in corners], "EPSG:32636")
    placed = make_raster(tmp_path / "placed.tif", pixels=smooth(1), transform=turned)
    # Within the corner of the bounding box of the others.
    beside = make_raster(tmp_path / "beside.tif", pixels=smooth(2), transform=from_origin(500_040, 40_010, 0.1, 0.1))
    rows = (row(pointed, "train"), row(placed, "test"), row(beside, "val"))
    (leak,) = find_leaks(Manifest(rows, ("r", "g", "b")), 0)
    assert (leak.kind, leak.splits, leak.amount) == ("overlap", ("train", "test"), pytest.approx(1, abs=1e-3))


def test_the_command_says_how_many_test_images(tmp_path: Path, capsys: object) -> None:
    a, b = (make_raster(tmp_path / f"{n}.tif", pixels=smooth(0), crs=None) for n in "ab")
    manifest = Manifest((row(a, "train"), row(b, "test")), ("r", "g", "b")).save(tmp_path / "m.parquet")
    told = format_leaks(find_leaks(manifest), manifest)
    assert "1 pairs of different splits look alike (1 of 1 test images)" in told
    assert "divide by group" in told
    assert main(["data", "leakage", "--manifest", str(tmp_path / "m.parquet"), "--json"]) == 0
