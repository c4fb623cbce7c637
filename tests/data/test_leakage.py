from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio.transform import from_origin

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
    assert (leak.kind, leak.splits, leak.amount) == ("overlap", ("train", "test"), 0.5)


def test_the_command_says_how_many_test_images(tmp_path: Path, capsys: object) -> None:
    a, b = (make_raster(tmp_path / f"{n}.tif", pixels=smooth(0), crs=None) for n in "ab")
    manifest = Manifest((row(a, "train"), row(b, "test")), ("r", "g", "b")).save(tmp_path / "m.parquet")
    told = format_leaks(find_leaks(manifest), manifest)
    assert "1 pairs of different splits look alike (1 of 1 test images)" in told
    assert "divide by group" in told
    assert main(["data", "leakage", "--manifest", str(tmp_path / "m.parquet"), "--json"]) == 0
