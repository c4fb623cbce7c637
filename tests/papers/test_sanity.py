"""Scores of any confusion matrix keep the arithmetic; figures that break it are named."""

from __future__ import annotations

import numpy as np
import pytest

from geodistill.metrics import ConfusionMatrix
from geodistill.papers.sanity import background_iou, complaints, f1_of, heading, is_share
from geodistill.spec import Legend


def figures(counts: np.ndarray, subset: list[str] | None = None) -> dict[str, float]:
    """All shares in per cent of a confusion matrix."""
    matrix = ConfusionMatrix(len(counts))
    matrix.counts = counts.astype(np.int64)
    legend = Legend(tuple(f"c{i}" for i in range(len(counts))))
    scores = matrix.scores(legend, subset)
    found = {"miou": scores.miou, "mf1": scores.mf1, "oa": scores.oa}
    for index, name in enumerate(legend.names):
        found |= {f"iou:{name}": scores.iou[index], f"f1:{name}": scores.f1[index]}
    if len(counts) == 2:
        found |= {"iou": scores.iou[1], "f1": scores.f1[1]}
    return {column: 100 * float(value) for column, value in found.items() if not np.isnan(value)}


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_no_confusion_matrix_breaks_a_rule(classes: int) -> None:
    rng = np.random.default_rng(classes)
    for _ in range(300):
        counts = rng.integers(0, 10 ** int(rng.integers(1, 6)), (classes, classes))
        counts[rng.random((classes, classes)) < rng.random()] = 0
        names = [f"c{i}" for i in range(classes)]
        assert complaints(figures(counts), 1e-6) == []
        assert counts.sum(0).min() * counts.sum(1).min() == 0 or complaints(figures(counts), 1e-6, names) == []
        # Rounded as in print, they pass with its tolerance too.
        assert complaints({name: round(value, 2) for name, value in figures(counts).items()}) == []


def test_a_subset_of_classes_keeps_the_rules_too() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert complaints(figures(rng.integers(0, 1000, (6, 6)), ["c0", "c2", "c4"]), 1e-6) == []


def test_the_background_of_two_classes() -> None:
    found = figures(np.array([[80, 5], [3, 12]]))
    assert background_iou(found["miou"], found["iou"]) == pytest.approx(found["iou:c0"])
    assert f1_of(found["iou"]) == pytest.approx(found["f1"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"miou": 86.53, "iou": 70.76}, "background IoU of 102.30"),
        ({"miou": 86.0, "iou": 75.0, "oa": 96.0}, "background IoU of 97.00, above OA 96.00"),
        ({"miou": 30.0, "iou": 70.0}, "background IoU of -10.00"),
        ({"iou:car": 93.30, "f1:car": 94.47}, "IoU car 93.30 is an F1 of 96.53, not of 94.47"),
        ({"iou": 50.0, "f1": 70.0}, "IoU 50.00 is an F1 of 66.67, not of 70.00"),
        ({"miou": 50.0, "mf1": 70.0}, "above 66.67"),
        ({"miou": 50.0, "mf1": 49.0}, "below mIoU"),
        ({"oa": 101.0}, "OA 101.00 is no share"),
        ({"miou": 64.0, "iou:a": 62.0, "iou:b": 62.4}, "mIoU 64.00 is not the mean of its classes, 62.20"),
        ({"mf1": 62.26, "f1:a": 62.0, "f1:b": 62.4}, "mF1 62.26 is not the mean of its classes, 62.20"),
        ({"miou": 51.0, "f1:a": 80.0, "f1:b": 50.0}, "mIoU 51.00 beside class F1 that make 50.00"),
        ({"precision": -1.0}, "is no share"),
    ],
)
def test_figures_that_cannot_be_right_are_named(wrong: dict[str, float], told: str) -> None:
    (found,) = complaints(wrong, classes=("a", "b"))
    assert told in str(found)
    assert set(found.metrics) <= set(wrong)


@pytest.mark.parametrize(
    "fine",
    [
        {},
        {"miou": 75.17, "iou": 55.72, "oa": 94.97},  # printed for FCN: within its rounding
        {"oa": 94.0, "iou": 99.0},
        {"parameters": 223.49, "gflops": 1200.0, "instances": 1_668_241},
        {"f1:car": 20.0},
    ],
)
def test_what_may_be_right_is_left_alone(fine: dict[str, float]) -> None:
    assert complaints(fine) == []


def test_headings_name_the_class() -> None:
    assert (heading("iou:cloud shadow"), heading("miou"), heading("pixels")) == ("IoU cloud shadow", "mIoU", "pixels")
    assert is_share("f1:car")
    assert not is_share("parameters")
