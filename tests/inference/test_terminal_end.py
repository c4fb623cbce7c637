"""The installed command as a shell runs it: readers that go away, and requests to end, with one process or several."""

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
    words = [sys.executable, "-m", "geodistill", "predict", "--model", str(folder / "model"), "--backend", "torch"]
    return [*words, "--device", "cpu", "--input", *named, "--out", str(folder / out), *flags]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(("reader", "workers"), [("true", "2"), ("head -1", "1")])
def test_a_reader_that_goes_away_ends_no_work(folder: Path, reader: str, workers: str) -> None:
    out = f"{reader.replace(' ', '')}-{workers}"
    line = " ".join(f"'{word}'" for word in command(folder, out, "--workers", workers))
    script = f"set -o pipefail; {line} | {reader}"
    done = subprocess.run(["bash", "-c", script], env=environment(), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (folder / out).glob("*.tif")) == ["a.tif", "b.tif", "c.tif"]


def test_output_that_cannot_be_written_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            command(folder, "full"), env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=300
        )
    assert done.returncode == 2
    assert done.stderr.startswith("geodistill: error: standard output cannot be written (No space left on device)")
    assert done.stderr.count("\n") == 1
    assert len(list((folder / "full").glob("*.tif"))) == 3


@pytest.mark.parametrize(
    ("number", "status", "workers"), [(signal.SIGTERM, 143, "1"), (signal.SIGTERM, 143, "2"), (signal.SIGINT, 130, "2")]
)
def test_a_request_to_end_is_followed_and_work_can_go_on(
    folder: Path, number: signal.Signals, status: int, workers: str
) -> None:
    out = folder / f"{number.name}-{workers}"
    scenes = folder / f"scenes-{out.name}"
    for name, height in {"a": 2000, "b": 1000, "c": 40}.items():
        make_raster(scenes / f"{name}.tif", pixels=noise((3, height, 200)))
    flags = ("--workers", workers, "--vector", "gpkg", "--batch", "1")
    words = command(folder, out.name, *flags, scenes=scenes)
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not any(path.stat().st_size for path in out.glob(".*.work/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=100)
    assert (process.returncode, told) == (status, "geodistill: stopped\n")
    hidden = {path.name for path in out.glob(".*")}
    assert hidden <= {".a.tif.work", ".b.tif.work"}
    assert not [path.name for path in out.rglob("*") if "part-" in path.name]
    done = subprocess.run([*words, "--resume"], env=environment(), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(out.glob(".*"))
    assert {path.name for path in out.glob("*.gpkg")} == {"a.gpkg", "b.gpkg", "c.gpkg"}
