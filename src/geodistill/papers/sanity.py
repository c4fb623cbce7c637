"""Arithmetic that published scores and ours have to keep, and what to say where they do not."""

from __future__ import annotations

from collections.abc import Mapping

PRINTED = 0.005
"""Largest rounding error of a figure printed in per cent with two digits."""


def f1_of(iou: float) -> float:
    """Return the F1 of a class, in per cent, that an IoU in per cent means: both are of the same three pixel counts."""
    return 200 * iou / (100 + iou)


def background_iou(miou: float, iou: float) -> float:
    """Return the background's IoU in per cent that the mean over two classes and the other class's IoU mean."""
    return 2 * miou - iou


def complaints(figures: Mapping[str, float], rounding: float = PRINTED) -> list[str]:
    """Return which figures of one network cannot be right together.

    * F1 = 2 IoU / (1 + IoU) for every class;
    * of two classes, the background's IoU is 2 mIoU - IoU, and at most OA and 100: no true positive of the other
      class can raise TN / (TN + FP + FN) above (TN + TP) / all;
    * over the same classes, mIoU <= mF1 <= 2 mIoU / (1 + mIoU), as the way from IoU to F1 is concave;
    * no share lies outside 0 to 100.

    Args:
        figures: Per cent by column, as `geodistill.papers.row.About` names them; any may be missing.
        rounding: Largest rounding error of each.
    """
    wrong = []
    for column, value in figures.items():
        if is_share(column) and not -rounding <= value <= 100 + rounding:
            wrong.append(f"{heading(column)} {value:.2f} is no share")
    for column, iou in figures.items():
        kind, _, name = column.partition(":")
        f1 = figures.get(f"f1:{name}" if name else "f1")
        if kind == "iou" and f1 is not None and abs(f1 - f1_of(iou)) > 3 * rounding:
            wrong.append(f"{heading(column)} {iou:.2f} is an F1 of {f1_of(iou):.2f}, not of {f1:.2f}")
    return [*wrong, *_of_two_classes(figures, rounding), *_of_means(figures, rounding)]


def _of_two_classes(figures: Mapping[str, float], rounding: float) -> list[str]:
    if "miou" not in figures or "iou" not in figures:
        return []
    background = background_iou(figures["miou"], figures["iou"])
    means = f"mIoU {figures['miou']:.2f} and IoU {figures['iou']:.2f} make a background IoU of {background:.2f}"
    if not -3 * rounding <= background <= 100 + 3 * rounding:
        return [means]
    if background > figures.get("oa", 100.0) + 4 * rounding:
        return [f"{means}, above OA {figures['oa']:.2f}"]
    return []


def _of_means(figures: Mapping[str, float], rounding: float) -> list[str]:
    if "miou" not in figures or "mf1" not in figures:
        return []
    miou, mf1 = figures["miou"], figures["mf1"]
    if mf1 > f1_of(miou) + 3 * rounding:
        return [f"mF1 {mf1:.2f} is above {f1_of(miou):.2f}, the most that an mIoU of {miou:.2f} allows"]
    return [f"mF1 {mf1:.2f} is below mIoU {miou:.2f}"] if mf1 < miou - 2 * rounding else []


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
    "parameters": "parameters (M)",
    "decoder_parameters": "decoder's parameters (M)",
    "gflops": "GFLOPs",
}
_COUNTS = ("parameters", "decoder_parameters", "gflops", "pixels", "images", "classes", "instances")


def heading(column: str) -> str:
    """Return a column as it is printed."""
    kind, _, name = column.partition(":")
    return f"{_HEADINGS.get(kind, kind)} {name}".strip()


def is_share(column: str) -> bool:
    """Whether a column is in per cent."""
    return column not in _COUNTS
