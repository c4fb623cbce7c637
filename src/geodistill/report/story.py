"""What was trained on what and what came of it, in plain sentences; and the few figures to see first."""

from __future__ import annotations

import re
from pathlib import Path

from geodistill.data.manifest import Manifest
from geodistill.description import network_words
from geodistill.errors import counted, listed
from geodistill.report.evaluated import Evaluation
from geodistill.report.trained import Training
from geodistill.segmenter import Segmenter
from geodistill.training.recipe import is_own_student


def plain_encoder(name: str) -> str:
    """Return an encoder's name, or words with one, without its settings in brackets."""
    return re.sub(r"\(.*?\)", "", name)


def model_sentence(segmenter: Segmenter, training: Training | None) -> str:
    """Say what a model is."""
    words = plain_encoder(network_words(segmenter.name, segmenter.arguments, ("architecture", "encoder")))
    spec = segmenter.spec
    gsd = "" if spec.gsd is None else f" at {spec.gsd:.3g} m per pixel"
    classes = (
        f"{len(spec.legend)} classes ({', '.join(spec.legend.names[:12])}{' ...' if len(spec.legend) > 12 else ''})"
    )
    teacher = "" if training is None else teacher_words(training)
    return (
        f"A {words} network of {parameters(segmenter):,} parameters{teacher} that divides images of"
        f" {spec.channels} bands{gsd} into {classes}."
    )


def training_sentences(training: Training, manifest: Manifest | None) -> list[str]:
    """Say how a model was trained, as its recipe and logs have it."""
    steps, crop, batch = (training.key(key) for key in ("trainer.max_steps", "data.crop", "data.batch_size"))
    data = _data_words(training)
    images = "" if manifest is None else f"{counted(len(manifest.rows('train')), 'image')} of "
    logged = [curve.steps[-1] for curve in training.curves if not curve.phase]
    reached = max(logged, default=0)
    method, crops = training.key("method"), f"{batch} crops of {crop} pixels"
    sentences = [f"It was trained for {steps} steps of {crops} on {images}{data} (method {method})."]
    phases = {curve.phase: curve.steps[-1] for curve in training.curves if curve.phase}
    sentences += [
        f"Before that came {counted(last, 'step')} of {phase} without labels." for phase, last in phases.items()
    ]
    if training.segmenter is None:
        sentences.append(f"The run is not finished: {reached:,} of {steps} steps are logged.")
        return sentences
    provenance = training.segmenter.provenance
    scores, step = provenance.get("scores"), provenance.get("step")
    miou = scores.get("validation_miou") if isinstance(scores, dict) else None
    if isinstance(miou, int | float) and isinstance(step, int):
        count = "the validation images"
        if manifest is not None:
            count = f"the {counted(len(manifest.rows('val')), 'validation image')}"
        sentences.append(f"The weights are those of step {step:,}, the best on {count}: mIoU {100 * miou:.1f} %.")
    return sentences


def score_sentence(evaluation: Evaluation) -> str:
    """Say how well a model does on a split."""
    scores, ends = evaluation.scores, evaluation.intervals.get("miou")
    interval = "" if ends is None else f" (95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    known = [(float(iou), name) for iou, name in zip(scores.iou, scores.names, strict=True) if iou == iou]
    range_of = f" The best class is {max(known)[1]}, the worst {min(known)[1]}." if len(known) > 1 else ""
    where = f"split {evaluation.split} of {short_path(evaluation.manifest)}"
    return (
        f"On the {counted(evaluation.images, 'image')} of {where} mIoU is {100 * scores.miou:.1f} %{interval};"
        f" {100 * scores.oa:.1f} % of the pixels are right.{range_of}"
    )


def key_figures(segmenter: Segmenter | None, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Return the figures to see first."""
    keys = []
    if evaluation is not None:
        keys.append((f"mIoU on {evaluation.split}", f"{100 * evaluation.scores.miou:.1f} %"))
        keys.append(("pixels right", f"{100 * evaluation.scores.oa:.1f} %"))
        if evaluation.calibration is not None:
            keys.append(("calibration error", f"{100 * evaluation.calibration.ece:.1f} %"))
    if segmenter is not None:
        keys.append(("parameters", _short_count(parameters(segmenter))))
    return keys


def parameters(segmenter: Segmenter) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in segmenter.parameters())


def teacher_words(training: Training) -> str:
    """Return what taught a model, for the middle of a sentence; nothing where it learned from labels alone."""
    named = training.key("teacher.segmenter") or training.key("teacher.encoder")
    if is_own_student("teacher.segmenter", named):
        return ", taught by the average of its own weights,"
    teachers = [short_path(str(name)) for name in (named if isinstance(named, list) else [named]) if name]
    return f", taught by {listed(teachers)}," if teachers else ""


def short_path(name: str) -> str:
    """Return a file's name with its folder's, which is how people know a manifest."""
    return "/".join(Path(name).parts[-2:]) if name else "the data set"


def _data_words(training: Training) -> str:
    several = training.key("data.manifests")
    if isinstance(several, list) and several:
        return ", ".join(short_path(str(name)) for name in several)
    return short_path(str(training.key("data.manifest") or ""))


def _short_count(count: int) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)
