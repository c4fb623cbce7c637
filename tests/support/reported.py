"""A run of training as `fit` leaves one, with an evaluation in it, made without any training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from geodistill.data.measure import measure
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.folders import mark_folder
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend
from geodistill.training.folder import KIND, OURS
from scored import make_scored_set
from tiny import tiny_segmenter

ROWS = ((10, 1.25, 0.75, None), (20, 0.5, 0.25, None), (20, None, None, 0.625), (30, 0.25, 0.125, None))
"""Step, whole loss, loss term, validation mIoU."""


def make_run(folder: Path, names: tuple[str, ...] = ("c0", "c1", "c2")) -> Path:
    """Write a run ``run`` with results ``run/test`` of a set of three images; call it inside `tiny_networks`."""
    manifest = make_scored_set(folder)
    legend = Legend(names)
    entries = tuple(replace(row, group=f"place {k}") for k, row in enumerate(manifest.entries))
    manifest = replace(manifest, entries=entries, legend=legend)
    manifest = replace(manifest, statistics=measure(manifest)).save(folder / "manifest.parquet")
    run = folder / "run"
    run.mkdir()
    mark_folder(run, KIND, OURS)
    recipe = {
        "method": "supervised",
        "data": {"manifest": str(manifest.path), "crop": 16, "batch_size": 4},
        "teacher": None,
        "trainer": {"max_steps": 30},
    }
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    logs = run / "logs" / "csv" / "from_000000"
    logs.mkdir(parents=True)
    lines = ["epoch,step,train/ce,train/loss,val/miou"]
    for step, loss, term, miou in ROWS:
        cells = [0, step - 1, *("" if value is None else value for value in (term, loss, miou))]
        lines.append(",".join(map(str, cells)))
    (logs / "metrics.csv").write_text("\n".join(lines) + "\n")
    model(legend).save(run / "segmenter")
    evaluate(run, manifest, "test", run / "test", EvaluateOptions(device="cpu"))
    return run


def model(legend: Legend) -> Segmenter:
    """Return the model that is right wherever a band is brightest, under these classes."""
    plain = tiny_segmenter("band")
    about = {"scores": {"validation_miou": 0.625}, "step": 20, "versions": {"geodistill": "1.0"}}
    named = Segmenter("band", {}, replace(plain.spec, legend=legend), plain.tile, about).eval()
    named.load_state_dict(plain.state_dict())
    return named


def figures_of(page: Path) -> dict[str, Any]:
    """Return the figures that a page holds as JSON, cut out of its text."""
    text = page.read_text(encoding="utf-8")
    start = text.index('<script type="application/json" id="figures">')
    return dict(json.loads(text[text.index(">", start) + 1 : text.index("</script>", start)]))
