"""The paper's three sets from made-up folders in each official layout, up to one pre-training batch of all three."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detection_layouts import dior, dota, fair1m
from geodistill.cli import main
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.find import scan_set
from geodistill.data.data_config import SetsConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest

BOXES = {"sota": ("plane", "ship"), "sior": ("airplane", "ship"), "fast": ("Boeing737", "Van")}


SPLITS = {
    "sota": {"train": 3, "val": 1},
    "sior": {"train": 4, "val": 1, "test": 3},
    "fast": {"train": 4, "val": 2},
}


def test_from_raw_boxes_to_a_batch_of_all_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, write in (("sota", dota), ("sior", dior), ("fast", fair1m)):
        given = write(tmp_path / f"raw-{name}")
        out = tmp_path / name
        built = main(["label", "build", "--preset", name, *given, "--segmenter", "box", "--out", str(out)])
        assert built == 0, capsys.readouterr().err
        # As `data scan --dataset` and `reproduce` take it.
        scanned = scan_set(CATALOG[name], out, tmp_path / f"{name}.parquet").manifest
        assert Counter(row.split for row in scanned.entries) == SPLITS[name]
        assert scanned.legend == Manifest.load(out / "manifest.parquet").legend
        if name == "sota":
            assert {row.gsd for row in scanned.entries} == {0.25}
    tests = {row.image for row in Manifest.load(tmp_path / "sior/manifest.parquet").rows("test")}
    assert {path.parent.name for path in tests} == {"JPEGImages-test"}
    data = DataModule(
        SetsConfig(
            manifests=tuple(str(tmp_path / name / "manifest.parquet") for name in BOXES),
            crop=32,
            batch_size=11,
            workers=0,
        )
    )
    assert data.parts == {"sota": 3, "sior": 4, "fast": 4}
    batch = next(iter(data.train_dataloader()))
    for position, (name, classes) in enumerate(BOXES.items()):
        values = set(np.unique(batch["mask"][batch["set"] == position])) - {255}
        legend = data.sets[name].legend.names
        assert values <= {legend.index(one) for one in classes}
    assert not any(str(path) in key for path in tests for key in batch["key"])
