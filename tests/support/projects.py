"""Made-up projects, and stages that only write a file, so that plans can be tested without training anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from geodistill.errors import DataError
from geodistill.folders import mark_folder
from geodistill.project import data_stages, stage_keys
from geodistill.project import run_project as running
from geodistill.project.stage_job import StageJob, StageResult
from geodistill.project.stage_recipe import overrides_of
from geodistill.project.stage_table import KINDS, kind_of

TOWN = """\
label:
  images: images
  boxes: boxes.json
  format: coco
  legend: legend.yaml
check:
teacher:
  recipe: supervised-folder
  trainer.max_steps: 5
distil:
  recipe: distil-folder
evaluate:
predict:
  scenes: scene.tif
export:
  to: onnx
"""
ORDER = ["label", "check", "teacher", "distil", "evaluate", "predict", "export"]


def write_town(folder: Path, text: str = TOWN) -> Path:
    """Write a project file and what it names: files that no stage here opens."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in ("images/a.tif", "images/b.tif", "boxes.json", "scene.tif"):
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "legend.yaml").write_text("classes: [roof, road]\n", encoding="utf-8")
    (folder / "town.yaml").write_text(text, encoding="utf-8")
    return folder / "town.yaml"


class StubStages:
    """Stages that write one file each.

    Attributes:
        ran: Names of those that ran, with ``+`` where a part of their result was there.
        failing: Name of one that ends in an error; empty for none.
        contents: What a stage writes, by its name; else what it is told.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.failing = ""
        self.contents: dict[str, str] = {}
        monkeypatch.setattr(running, "load", lambda _: self.run)
        monkeypatch.setattr(stage_keys, "resolved_recipe", _recipe)
        monkeypatch.setattr(data_stages, "manifest_moved", lambda *_: False)  # it would read a manifest

    def run(self, job: StageJob) -> StageResult:
        """Be any stage."""
        self.ran.append(job.name + "+" * job.resumes)
        kind = KINDS[kind_of(job.name)]
        if kind.marks:
            mark_folder(job.folder, "a stage", ["*"])
        path = job.folder / ("result.txt" if kind.result == "." else kind.result)
        path.write_text(self.contents.get(job.name, str(sorted(job.plan.stage.settings.items()))), encoding="utf-8")
        if self.failing == job.name:
            raise DataError(f"stage {job.name} cannot go on")
        return StageResult("written", {"seed": 0})

    def taken(self) -> list[str]:
        """Return what ran since the last call."""
        ran, self.ran = self.ran, []
        return ran


def _recipe(project: Any, stage: Any, fingerprints: Any) -> Mapping[str, Any]:
    return {"trainer.accelerator": "auto", "recipe": stage.settings["recipe"], **overrides_of(stage)}
