"""A page about a run that was really trained: its curves are the rows that were logged."""

import csv
from pathlib import Path

import pytest

from geodistill.cli import main
from reported import figures_of
from towns import write_town


@pytest.mark.slow
def test_fit_writes_a_page_about_its_run(tmp_path: Path) -> None:
    write_town(tmp_path, count=6, size=64)
    (tmp_path / "legend.yaml").write_text("classes: {ground: 0, building: 1}\n")
    manifest = tmp_path / "manifest.parquet"
    places = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    assert main(["data", "scan", *places, "--legend", str(tmp_path / "legend.yaml"), "--out", str(manifest)]) == 0
    page, run = tmp_path / "page.html", tmp_path / "run"
    small = "--network.encoder test_resnet --trainer.max_steps 20 --trainer.val_every_steps 10 --data.crop 32"
    fixed = "--trainer.accelerator cpu --trainer.pictures 0 --data.batch_size 2 --data.workers 0 --method supervised"
    flags = ["--data.manifest", str(manifest), "--out", str(run), "--report", str(page)]
    assert main(["fit", *small.split(), *fixed.split(), *flags]) == 0
    with (run / "logs" / "csv" / "from_000000" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves = {each["name"]: each for each in figures_of(page)["training"]["curves"]}
    assert {"train/loss", "train/ce", "val/miou", "val/oa"} <= set(curves)
    for name, curve in curves.items():
        logged = [(int(row["step"]) + 1, float(row[name])) for row in rows if row[name]]
        assert list(zip(curve["steps"], curve["values"], strict=True)) == logged
    text = page.read_text()
    assert "was not evaluated yet" in text
    assert "ground" in text
