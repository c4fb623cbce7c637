"""Peak memory is a function of width x window, not of height."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tiny import sparse_raster
from where import SUPPORT

pytestmark = pytest.mark.slow

WIDTH = 512
CAP = 130
"""MiB above what the imports took. The tall raster alone holds 73 MiB as bytes and 293 as float32."""


def risen(*jobs: tuple[Path, Path, int, int, str | None]) -> list[float]:
    """Map rasters, each in a process of its own, and give the rise of its memory in MiB; for a job see the script."""
    path = os.pathsep.join([str(SUPPORT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, str(SUPPORT / "peak_memory.py"), json.dumps(jobs, default=str)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and caps memory as Linux does")
def test_fifty_thousand_rows_take_no_more_memory_than_two_thousand(tmp_path: Path) -> None:
    low, tall = risen(
        (sparse_raster(tmp_path / "low.tif", 2_000, WIDTH), tmp_path / "low_map.tif", CAP, 256, None),
        (sparse_raster(tmp_path / "tall.tif", 50_000, WIDTH), tmp_path / "tall_map.tif", CAP, 256, None),
    )
    # What malloc keeps differs from run to run by some MiB; the scene grew by 280.
    assert tall <= low + 30, (low, tall)
    with rasterio.open(tmp_path / "tall_map.tif") as made:
        assert made.shape == (50_000, WIDTH)
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and caps memory as Linux does")
def test_a_wide_scene_keeps_within_the_memory_it_is_given(tmp_path: Path) -> None:
    wide = sparse_raster(tmp_path / "wide.tif", 260, 60_000)
    free, held = risen((wide, tmp_path / "free.tif", 1000, 128, None), (wide, tmp_path / "held.tif", 1000, 128, "40MB"))
    # Beside it, the map is put together at the end; without a bound the scene takes thrice as much.
    assert held <= 100, (held, free)
    assert free > held + 60, (held, free)
    with rasterio.open(tmp_path / "free.tif") as one, rasterio.open(tmp_path / "held.tif") as other:
        np.testing.assert_array_equal(one.read(1), other.read(1))
