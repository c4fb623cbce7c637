from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from factories import make_dataset
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.loading import start_worker
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan


@pytest.mark.slow
def test_a_worker_that_is_started_anew_imports_no_lightning(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, 4)
    report = scan(folder, None, folder / "m.parquet", split=SplitPlan(fractions=(0.5, 0.5, 0)))
    module = DataModule(DataConfig(manifest=str(report.manifest.path), crop=24, batch_size=3))
    loaders = [module.train_dataloader(), module.val_dataloader()]
    parts = tmp_path / "parts.pickle"
    parts.write_bytes(pickle.dumps([(one.dataset, one.collate_fn, one.worker_init_fn) for one in loaders]))
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb')); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(parts)], capture_output=True, text=True, check=True)
    assert {"torch", "geodistill.data.dataset"} <= set(done.stdout.split())
    assert not {"lightning", "transformers", "torchvision"} & set(done.stdout.split())


@pytest.mark.parametrize("held", [None, "512"])
def test_workers_give_gdal_a_small_cache_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    if held:
        monkeypatch.setenv("GDAL_CACHEMAX", held)
    start_worker(0)
    assert os.environ["GDAL_CACHEMAX"] == (held or "64")
