"""Two processes with half the batch each give the gradients of one process with the whole batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from ddp_gradients import main
from factories import make_raster
from forked import run_function
from geodistill.data.manifest import Manifest

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


def gradients(manifest: Path, processes: int, batch_size: int, out: Path) -> dict[str, torch.Tensor]:
    if processes == 1:
        main(str(manifest), 1, batch_size, out)
    else:
        run_function(main, str(manifest), processes, batch_size, out)
    return torch.load(out, weights_only=True)


def test_two_processes_equal_one_with_the_doubled_batch(uneven: Path, tmp_path: Path) -> None:
    one = gradients(uneven, 1, 8, tmp_path / "one.pt")
    two = gradients(uneven, 2, 4, tmp_path / "two.pt")
    assert set(one) == set(two)
    for name, gradient in one.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6)
