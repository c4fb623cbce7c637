"""Two processes with half the batch each give the gradients of one process with the whole batch."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from ddp_gradients import main
from factories import make_raster
from forked import run_function
from geodistill.data.manifest import Manifest
from geodistill.description import ModelSettings
from geodistill.segmenter import Segmenter

pytestmark = pytest.mark.slow


@pytest.fixture
def uneven(town: Path, tmp_path: Path) -> Path:
    """The town with parts of its masks ignored, so that the two halves hold different numbers of labels."""
    manifest = Manifest.load(town)
    rows = []
    for index, row in enumerate(manifest.entries):
        assert row.mask is not None
        with rasterio.open(row.mask) as file:
            mask = file.read()
        mask[:, : 30 * (index % 3), :] = 255
        rows.append(replace(row, split="train", mask=make_raster(tmp_path / row.mask.name, pixels=mask)))
        assert np.isin(mask, (0, 1, 255)).all()
    path = tmp_path / "uneven.parquet"
    replace(manifest, entries=tuple(rows)).save(path)
    return path


def gradients(
    manifest: Path, processes: int, batch_size: int, out: Path, steps: int = 1, freeze: float = 0.0
) -> dict[str, torch.Tensor]:
    if processes == 1:
        main(str(manifest), 1, batch_size, out, steps, freeze)
    else:
        run_function(main, str(manifest), processes, batch_size, out, steps, freeze)
    return torch.load(out, weights_only=True)


def test_two_processes_equal_one_with_the_doubled_batch(uneven: Path, tmp_path: Path) -> None:
    one = gradients(uneven, 1, 8, tmp_path / "one.pt")
    two = gradients(uneven, 2, 4, tmp_path / "two.pt")
    assert set(one) == set(two)
    for name, gradient in one.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("steps", "freeze"), [(2, 1.0), (4, 0.5)])
def test_an_encoder_that_stands_still_does_so_in_every_process(
    uneven: Path, tmp_path: Path, steps: int, freeze: float
) -> None:
    one = gradients(uneven, 1, 8, tmp_path / "one.pt", steps, freeze)
    two = gradients(uneven, 2, 4, tmp_path / "two.pt", steps, freeze)
    assert set(one) == set(two)
    assert any("encoder" in name for name in two) is (freeze < 1)
    assert any("head" in name for name in two)
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-3, atol=1e-6)


def test_a_command_on_two_processes_freezes_an_encoder_and_calibrates_on_all_images(
    recipe_file: Path, town: Path, tmp_path: Path
) -> None:
    flags = {"trainer.devices": "2", "trainer.accumulate": "2", "trainer.max_steps": "4", "optimizer.freeze": "0.5"}
    flags |= {"data.batch_size": "2", "data.crop": "32", "trainer.calibrate": "true"}
    command = [sys.executable, "-m", "geodistill", "fit", "--config", str(recipe_file), "--out", str(tmp_path / "run")]
    command += [word for key, value in flags.items() for word in (f"--{key}", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "reducer" not in done.stderr, "torch says that an encoder which was let go is used again"
    segmenter = Segmenter.load(tmp_path / "run")
    assert segmenter.temperature == pytest.approx(least_entropy(segmenter, town), rel=2e-3)


def least_entropy(segmenter: Segmenter, manifest: Path) -> float:
    """Look for the temperature of least cross-entropy on all validation images, each whole and read here."""
    segmenter.settings = ModelSettings()
    logits, classes = [], []
    for row in Manifest.load(manifest).rows("val"):
        assert row.mask is not None
        with rasterio.open(row.image) as image, rasterio.open(row.mask) as mask:
            pixels, labels = image.read().astype(np.float32), mask.read(1).astype(np.int64)
        for top, left in product(range(0, 96, 32), repeat=2):  # as tiles: the edge of an image matters
            tile = np.s_[top : top + 32, left : left + 32]
            with torch.inference_mode():
                logits.append(segmenter(torch.from_numpy(pixels[None][..., *tile]))[0].flatten(1).T)
            classes.append(torch.from_numpy(labels[tile]).flatten())
    found = minimize_scalar(
        lambda log: float(cross_entropy(torch.cat(logits) / np.exp(log), torch.cat(classes))), bounds=(-2.3, 3)
    )
    return float(np.exp(found.x))
