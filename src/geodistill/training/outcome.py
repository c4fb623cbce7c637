"""What a run leaves: the Segmenter of its best weights, and one for each of several data sets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from geodistill.data.data_config import SetsConfig
from geodistill.methods.method import Method
from geodistill.methods.schema import Recipe
from geodistill.methods.task import SegmentationTask
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec
from geodistill.training.folder import run_identity
from geodistill.training.recipe import recipe_dict
from geodistill.training.resume import ResumePoints, read_checkpoint


@dataclass(frozen=True)
class FitResult:
    """What a run leaves.

    Attributes:
        segmenter: Directory of the Segmenter; of the encoder where there were no steps on labels.
        miou: Validation mIoU in 0..1 of the Segmenter, or ``None`` without a validation split.
        step: Step its weights are from.
        steps: Steps trained in all.
        minutes: Wall time of this call in minutes.
    """

    segmenter: Path
    miou: float | None
    step: int
    steps: int
    minutes: float


def save_outcome(
    run: Path, recipe: Recipe, method: Method, task: SegmentationTask, points: ResumePoints, started: float
) -> FitResult:
    """Write the best weights, or the last where nothing was validated, as a Segmenter directory.

    Args:
        run: Directory of the run.
        recipe: What was trained.
        method: Built from it.
        task: Trained, with the last weights.
        points: Knows the best validation.
        started: Monotonic time in seconds at which this call of `fit` began.

    Raises:
        ArtifactError: The checkpoint of the best weights was altered.
        OutputError: A Segmenter cannot be written.
    """
    trainer = task.trainer
    weights, score, step, set_miou = task.network_weights(), None, trainer.global_step, task.set_miou
    if points.best is not None:
        saved = read_checkpoint(points.folder / points.best.name, run_identity(recipe))
        weights, score, step = task.network_weights(saved["state_dict"]), points.best.score, int(saved["global_step"])
        set_miou = saved["set_miou"]
    minutes = (time.monotonic() - started) / 60
    provenance = {
        "recipe": recipe_dict(recipe),
        "manifest": ", ".join(getattr(recipe.data, "manifests", ())) or recipe.data.manifest,
        "scores": {"validation_miou": score},
        "step": step,
        "versions": {name: version(name) for name in ("geodistill", "torch", "timm", "segmentation-models-pytorch")},
    }
    segmenter = Segmenter.from_network(method.name, method.arguments, task.spec, weights, recipe.data.crop, provenance)
    if trainer.is_global_zero:
        if isinstance(recipe.data, SetsConfig) and recipe.data.manifests:
            save_set_segmenters(run / "segmenters", segmenter, task.sets, set_miou, recipe.data)
        segmenter.save(run / "segmenter")
    return FitResult(run / "segmenter", score, step, trainer.global_step, minutes)


def save_set_segmenters(
    folder: Path, whole: Segmenter, sets: Mapping[str, Spec], miou: Mapping[str, float], data: SetsConfig
) -> None:
    """Write a Segmenter for every set: the shared encoder and decoder with the set's own head.

    Args:
        folder: Each goes into a directory of its set's name.
        whole: The Segmenter of all sets.
        sets: Spec of each set by name.
        miou: Validation mIoU in 0..1 of each set that has validation images.
        data: The recipe's, which names the manifests.

    Raises:
        OutputError: They cannot be written.
    """
    state = whole.network.network.state_dict()
    manifests = {name: config.manifest for name, config in data.by_set().items()}
    arguments = {key: value for key, value in whole.arguments.items() if key != "sets"}
    for position, (name, spec) in enumerate(sets.items()):
        own_head, prefix = f"heads.{position}.", "heads."
        shared = {key: value for key, value in state.items() if not key.startswith(prefix)}
        head = {
            f"heads.0.{key.removeprefix(own_head)}": value for key, value in state.items() if key.startswith(own_head)
        }
        about = {"set": name, "manifest": manifests[name], "scores": {"validation_miou": miou.get(name)}}
        segmenter = Segmenter.from_network(
            whole.name, arguments, spec, shared | head, whole.tile, whole.provenance | about
        )
        segmenter.save(folder / name)
