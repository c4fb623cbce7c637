"""Readers that go away, a full output, and requests to end, with one process or several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from factories import make_raster, noise
from forked import CLOSED, run, start
from geodistill.segmenter import Segmenter
from tiny import tiny_spec

pytestmark = pytest.mark.slow

UNET = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    torch.manual_seed(0)
    Segmenter("supervised", UNET, tiny_spec(std=60.0), 32, {"scores": {}}).save(folder / "model")
    for name in "abc":
        make_raster(folder / f"{name}.tif", pixels=noise((3, 40, 40)))
    return folder


def command(folder: Path, out: str, *flags: str, scenes: Path | None = None) -> list[str]:
    named = [str((scenes or folder) / f"{name}.tif") for name in "abc"]
    words = ["predict", "--model", str(folder / "model"), "--backend", "torch", "--device", "cpu"]
    return [*words, "--input", *named, "--out", str(folder / out), *flags]


def maps(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.tif"))


def test_a_shells_reader_that_goes_away_ends_no_work(folder: Path) -> None:
    line = " ".join(f"'{word}'" for word in [sys.executable, "-m", "geodistill", *command(folder, "head")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = ["bash", "-c", f"set -o pipefail; {line} | head -1"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert maps(folder / "head") == ["a.tif", "b.tif", "c.tif"]


def test_nor_does_one_of_several_processes(folder: Path, tmp_path: Path) -> None:
    done = run(command(folder, "closed", "--workers", "2"), tmp_path, stdout=CLOSED)
    assert (done.status, done.err) == (0, "")
    assert maps(folder / "closed") == ["a.tif", "b.tif", "c.tif"]


def test_output_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path) -> None:
    done = run(command(folder, "full"), tmp_path, stdout=Path("/dev/full"))
    assert done.status == 2
    assert done.err.startswith("geodistill: error: standard output cannot be written (No space left on device)")
    assert done.err.count("\n") == 1
    assert len(maps(folder / "full")) == 3


@pytest.mark.parametrize(("number", "status", "workers"), [(signal.SIGTERM, 143, "1"), (signal.SIGINT, 130, "2")])
def test_a_request_to_end_is_followed_and_work_can_go_on(
    folder: Path, tmp_path: Path, number: signal.Signals, status: int, workers: str
) -> None:
    out = folder / f"{number.name}-{workers}"
    scenes = folder / f"scenes-{out.name}"
    for name, height in {"a": 1200, "b": 600, "c": 40}.items():
        make_raster(scenes / f"{name}.tif", pixels=noise((3, height, 100)))
    words = command(folder, out.name, "--vector", "gpkg", "--batch", "1", scenes=scenes)
    process = start([*words, "--workers", workers], tmp_path)
    deadline = time.monotonic() + 200
    while not any(path.stat().st_size for path in out.glob(".*.work/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send(number)
    done = process.wait()
    assert (done.status, done.err) == (status, "geodistill: stopped\n")
    hidden = {path.name for path in out.glob(".*")}
    assert hidden <= {".a.tif.work", ".b.tif.work"}
    assert not [path.name for path in out.rglob("*") if "part-" in path.name]
    done = run([*words, "--resume"], tmp_path)
    assert (done.status, done.err) == (0, "")
    assert not list(out.glob(".*"))
    assert {path.name for path in out.glob("*.gpkg")} == {"a.gpkg", "b.gpkg", "c.gpkg"}
