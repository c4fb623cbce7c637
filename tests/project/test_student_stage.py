"""The recipe ``student`` in a project: adapted to its manifest and weights, as `fit` does it."""

from pathlib import Path

import pytest

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import ArtifactError
from geodistill.methods.schema import Recipe
from geodistill.project.planning import Selection
from geodistill.project.run_project import run_project
from towns import LEGEND, write_town

TEXT = """\
device: cpu
scan: {manifest}
distil:
  recipe: student
"""


class TrainedError(Exception):
    """Training began."""


def test_student_starts_at_random_where_no_weights_are_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Recipe] = []

    def nowhere(*_: object) -> None:
        raise ArtifactError("no weights here", "weights")

    def begin(recipe: Recipe, *_: object, **__: object) -> None:
        asked.append(recipe)
        raise TrainedError

    monkeypatch.setattr("geodistill.training.student_plan.build_encoder", nowhere)
    monkeypatch.setattr("geodistill.training.fit.fit", begin)
    write_town(tmp_path / "town", count=2)
    manifest = tmp_path / "manifest.parquet"
    scan(tmp_path / "town", out=manifest, legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.5, 0)))
    (tmp_path / "town.yaml").write_text(TEXT.format(manifest=manifest), encoding="utf-8")
    with pytest.raises(TrainedError):
        run_project(tmp_path / "town.yaml", Selection(), say=lambda line: None)
    (recipe,) = asked
    assert recipe.network.encoder_weights is None
    assert recipe.optimizer.encoder_lr is None
    assert recipe.trainer.accelerator == "cpu"
