"""Peak memory is a function of width x window, not of height."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

from tiny import sparse_raster

HERE = Path(__file__).parent
WIDTH = 512
CAP = 130
"""MiB above what the imports took. The tall raster alone holds 73 MiB as bytes and 293 as float32."""


def risen(source: Path, target: Path) -> float:
    """Map a raster in a process of its own and give the rise of its memory in MiB."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, str(HERE / "peak_memory.py"), str(source), str(target), str(CAP)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and caps memory as Linux does")
def test_fifty_thousand_rows_take_no_more_memory_than_two_thousand(tmp_path: Path) -> None:
    low = risen(sparse_raster(tmp_path / "low.tif", 2_000, WIDTH), tmp_path / "low_map.tif")
    tall = risen(sparse_raster(tmp_path / "tall.tif", 50_000, WIDTH), tmp_path / "tall_map.tif")
    # What malloc keeps differs from run to run by some MiB; the scene grew by 280.
    assert tall <= low + 30, (low, tall)
    with rasterio.open(tmp_path / "tall_map.tif") as made:
        assert made.shape == (50_000, WIDTH)
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
