"""Quiet libraries, one thread, no network, repeatable property tests; and where shared real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TQDM_DISABLE", "1")

import cv2
import pytest
import torch
from hypothesis import settings

from exporter import export_with_one_table
from tiny import tiny_networks

ROOT = Path(__file__).parents[1]

torch.set_num_threads(1)
cv2.setNumThreads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _no_kept_graphs_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEODISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_operators() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export_with_one_table)
        yield


@pytest.fixture
def tiny_models() -> Iterator[None]:
    """Let Segmenters hold the networks of the module `tiny` for as long as a test runs."""
    with tiny_networks():
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real imagery and weights, named by GEODISTILL_SHARED; tests that need it skip without it."""
    folder = Path(os.environ.get("GEODISTILL_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real imagery at {folder}: set GEODISTILL_SHARED to a folder with data/ and weights/")
    return folder
