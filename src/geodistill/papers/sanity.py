"""Arithmetic that published scores and ours have to keep, and what to say where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from geodistill.metrics import PER_CLASS

PRINTED = 0.005
"""Largest rounding error of a figure printed in per cent with two digits."""


@dataclass(frozen=True)
class Complaint:
    """Figures that cannot be right together.

    Attributes:
        metrics: The figures by their metric.
        text: The arithmetic.
    """

    metrics: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def f1_of(iou: float) -> float:
    """Return the F1 of a class, in per cent, that an IoU in per cent means: both are of the same three pixel counts."""
    return 200 * iou / (100 + iou)


def background_iou(miou: float, iou: float) -> float:
    """Return the background's IoU in per cent that the mean over two classes and the other class's IoU mean."""
    return 2 * miou - iou


def complaints(figures: Mapping[str, float], rounding: float = PRINTED, classes: Sequence[str] = ()) -> list[Complaint]:
    """Return which figures of one network cannot be right together.

    * F1 = 2 IoU / (1 + IoU) for every class;
    * of two classes, the background's IoU is 2 mIoU - IoU, and at most OA and 100: no true positive of the other
      class can raise TN / (TN + FP + FN) above (TN + TP) / all;
    * over the same classes, mIoU <= mF1 <= 2 mIoU / (1 + mIoU), as the way from IoU to F1 is concave;
    * a mean is the mean of its classes, where all of them stand beside it; mIoU of their F1 too;
    * no share lies outside 0 to 100.

    Args:
        figures: Per cent by metric, as `geodistill.papers.table.Column` names them; any may be missing.
        rounding: Largest rounding error of each.
        classes: The classes that the means are over.
    """
    wrong = []
    for metric, value in figures.items():
        if is_share(metric) and not -rounding <= value <= 100 + rounding:
            wrong.append(Complaint((metric,), f"{heading(metric)} {value:.2f} is no share"))
    for metric, iou in figures.items():
        kind, _, name = metric.partition(":")
        other = f"f1:{name}" if name else "f1"
        if kind == "iou" and other in figures and abs(figures[other] - f1_of(iou)) > 3 * rounding:
            text = f"{heading(metric)} {iou:.2f} is an F1 of {f1_of(iou):.2f}, not of {figures[other]:.2f}"
            wrong.append(Complaint((metric, other), text))
    return [
        *wrong,
        *_of_two_classes(figures, rounding),
        *_of_bounds(figures, rounding),
        *_of_means(figures, rounding, classes),
    ]


def _of_two_classes(figures: Mapping[str, float], rounding: float) -> list[Complaint]:
    if "miou" not in figures or "iou" not in figures:
        return []
    background = background_iou(figures["miou"], figures["iou"])
    text = f"mIoU {figures['miou']:.2f} and IoU {figures['iou']:.2f} make a background IoU of {background:.2f}"
    if not -3 * rounding <= background <= 100 + 3 * rounding:
        return [Complaint(("miou", "iou"), text)]
    if background > figures.get("oa", 100.0) + 4 * rounding:
        return [Complaint(("miou", "iou", "oa"), f"{text}, above OA {figures['oa']:.2f}")]
    return []


def _of_bounds(figures: Mapping[str, float], rounding: float) -> list[Complaint]:
    if "miou" not in figures or "mf1" not in figures:
        return []
    miou, mf1 = figures["miou"], figures["mf1"]
    if mf1 > f1_of(miou) + 3 * rounding:
        text = f"mF1 {mf1:.2f} is above {f1_of(miou):.2f}, the most that an mIoU of {miou:.2f} allows"
    elif mf1 < miou - 2 * rounding:
        text = f"mF1 {mf1:.2f} is below mIoU {miou:.2f}"
    else:
        return []
    return [Complaint(("miou", "mf1"), text)]


def _of_means(figures: Mapping[str, float], rounding: float, classes: Sequence[str]) -> list[Complaint]:
    wrong = []
    for kind, mean in (("iou", "miou"), ("f1", "mf1")):
        values = [figures[f"{kind}:{name}"] for name in classes if f"{kind}:{name}" in figures]
        complete = mean in figures and values and len(values) == len(classes)
        if complete and abs(figures[mean] - fmean(values)) > 2 * rounding + 1e-6:
            text = f"{heading(mean)} {figures[mean]:.2f} is not the mean of its classes, {fmean(values):.2f}"
            wrong.append(Complaint((mean,), text))
    scores = [figures[f"f1:{name}"] for name in classes if f"f1:{name}" in figures]
    if "miou" in figures and scores and len(scores) == len(classes) and f"iou:{classes[0]}" not in figures:
        implied = fmean(100 * f1 / (200 - f1) for f1 in scores)
        if abs(figures["miou"] - implied) > 3 * rounding:
            text = f"mIoU {figures['miou']:.2f} beside class F1 that make {implied:.2f}"
            wrong.append(Complaint(("miou",), text))
    return wrong


_HEADINGS = {
    "miou": "mIoU",
    "mf1": "mF1",
    "mprecision": "mean precision",
    "mrecall": "mean recall",
    "oa": "OA",
    "iou": "IoU",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "instance_iou": "mIOU_I",
    "pixel_iou": "mIOU_P",
    "images_per_second": "images/s",
    "parameters": "parameters (M)",
    "decoder_parameters": "decoder's parameters (M)",
    "gflops": "GFLOPs",
}
_SHARES = (*PER_CLASS, *(f"m{key}" for key in PER_CLASS), "oa", "instance_iou", "pixel_iou")


def heading(column: str) -> str:
    """Return a column as it is printed."""
    kind, _, name = column.partition(":")
    return f"{_HEADINGS.get(kind, kind)} {name}".strip()


def is_share(column: str) -> bool:
    """Whether a column is in per cent."""
    return column.partition(":")[0] in _SHARES
