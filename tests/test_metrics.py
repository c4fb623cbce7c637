"""The confusion matrix: what it counts, the identities of its scores, and agreement with torchmetrics."""

from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.errors import DataError, UnknownNameError
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.spec import IGNORE_INDEX, Legend


def labels(classes: int, seed: int = 0, size: int = 5000) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Predictions right in about 70 % of the pixels, and a target with 5 % of them ignored."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, size, dtype=np.uint8)
    prediction = np.where(rng.random(size) < 0.7, target, rng.integers(0, classes, size)).astype(np.uint8)
    target[rng.random(size) < 0.05] = IGNORE_INDEX
    return prediction, target


def legend(classes: int) -> Legend:
    return Legend(tuple(f"c{i}" for i in range(classes)))


def scores_of(prediction: NDArray[np.uint8], target: NDArray[np.uint8], classes: int) -> Scores:
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction, target)
    return matrix.scores(legend(classes))


@pytest.mark.parametrize("classes", [2, 6, 37])
def test_scores_equal_those_of_torchmetrics(classes: int) -> None:
    prediction, target = labels(classes)
    ours = scores_of(prediction, target, classes)
    tensors = torch.from_numpy(prediction).long(), torch.from_numpy(target).long()
    for name, metric in {
        "iou": tm.MulticlassJaccardIndex,
        "f1": tm.MulticlassF1Score,
        "precision": tm.MulticlassPrecision,
        "recall": tm.MulticlassRecall,
    }.items():
        each = metric(classes, average="none", ignore_index=IGNORE_INDEX)(*tensors)
        np.testing.assert_allclose(getattr(ours, name), each.numpy(), rtol=1e-6, err_msg=name)
        mean = metric(classes, average="macro", ignore_index=IGNORE_INDEX)(*tensors)
        assert getattr(ours, f"m{name}") == pytest.approx(float(mean), rel=1e-6)
    micro = tm.MulticlassAccuracy(classes, average="micro", ignore_index=IGNORE_INDEX)(*tensors)
    assert ours.oa == pytest.approx(float(micro), rel=1e-6)
    matrix = tm.MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX)(*tensors)
    np.testing.assert_array_equal(ours.counts, matrix.numpy())


@given(st.integers(1, 255), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_counts_are_those_of_a_plain_loop(classes: int, seed: int) -> None:
    prediction, target = labels(classes, seed, 300)
    expected = np.zeros((classes, classes), np.int64)
    for p, t in zip(prediction, target, strict=True):
        if t != IGNORE_INDEX:
            expected[t, p] += 1
    matrix = ConfusionMatrix(classes)
    matrix.update(prediction.reshape(20, 15), target.reshape(20, 15))
    np.testing.assert_array_equal(matrix.counts, expected)


@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_identities(classes: int, seed: int) -> None:
    scores = scores_of(*labels(classes, seed, 400), classes)
    seen = ~np.isnan(scores.iou)
    np.testing.assert_allclose(scores.f1[seen], (2 * scores.iou / (1 + scores.iou))[seen], rtol=1e-12)
    assert (scores.iou[seen] <= scores.f1[seen]).all()
    harmonic = 2 * scores.precision * scores.recall / (scores.precision + scores.recall)
    both = scores.f1 > 0
    np.testing.assert_allclose(scores.f1[both], harmonic[both], rtol=1e-12)
    assert scores.oa == pytest.approx(np.trace(scores.counts) / scores.counts.sum())
    # Recall, weighted by support, is overall accuracy.
    assert scores.oa == pytest.approx(np.nansum(scores.recall * scores.support) / scores.support.sum())
    if classes == 2:
        assert scores.iou[0] <= scores.oa


def test_batches_and_sums_count_like_one_call() -> None:
    prediction, target = labels(5, size=3_000_000)
    whole, left, right = (ConfusionMatrix(5) for _ in range(3))
    whole.update(prediction, target)
    left.update(prediction[:1_234_567], target[:1_234_567])
    right.update(prediction[1_234_567:], target[1_234_567:])
    np.testing.assert_array_equal((left + right).counts, whole.counts)
    assert whole.counts.sum() == np.count_nonzero(target != IGNORE_INDEX)


def test_more_pixels_of_one_class_than_float32_can_count() -> None:
    matrix = ConfusionMatrix(2)
    ones = np.ones(2**24 + 5, np.uint8)
    matrix.update(ones, ones)
    assert matrix.counts[1, 1] == 2**24 + 5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32])
def test_tensors_of_any_integer_type_and_layout(dtype: torch.dtype) -> None:
    prediction = torch.tensor([[0, 1, 2], [2, 1, 0]], dtype=dtype)
    target = torch.tensor([[0, 2], [1, 1], [IGNORE_INDEX, 0]], dtype=torch.int64).T
    matrix = ConfusionMatrix(3)
    matrix.update(prediction, target)
    assert matrix.counts.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 1]]


def test_means_over_a_declared_subset() -> None:
    prediction, target = labels(6)
    matrix = ConfusionMatrix(6)
    matrix.update(prediction, target)
    scores = matrix.scores(legend(6), ["c0", "c1", "c2", "c3", "c4"])
    assert scores.miou == pytest.approx(scores.iou[:5].mean())
    assert scores.mf1 == pytest.approx(scores.f1[:5].mean())
    assert scores.oa == matrix.scores(legend(6)).oa
    assert scores.to_dict()["means_over"] == ["c0", "c1", "c2", "c3", "c4"]
    with pytest.raises(UnknownNameError, match="unknown class 'clutter'; expected one of c0"):
        matrix.scores(legend(6), ["c0", "clutter"])


def test_a_class_that_never_occurs_is_left_out_or_counts_as_zero() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1]), np.array([0, 1, 1]))
    left_out, zero = matrix.scores(legend(3)), matrix.scores(legend(3), nan_policy="zero")
    assert np.isnan(left_out.iou[2])
    assert left_out.miou == pytest.approx((0.5 + 0.5) / 2)
    assert zero.miou == pytest.approx((0.5 + 0.5) / 3)
    assert left_out.to_dict()["classes"]["c2"]["iou"] is None


def test_without_a_labelled_pixel_there_is_no_score() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((4, 4), np.uint8), np.full((4, 4), IGNORE_INDEX, np.uint8))
    matrix.update(np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    assert np.isnan(matrix.scores(legend(2)).miou)
    assert matrix.scores(legend(2)).to_dict()["oa"] is None


def test_what_stands_under_an_ignored_pixel_does_not_matter() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0, 255]), np.array([0, IGNORE_INDEX]))
    assert matrix.counts.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("prediction", "target", "says"),
    [
        ([0, 1], [0], r"prediction \(2,\) for labels \(1,\)"),
        ([[0], [1]], [[0, 1]], r"prediction \(2, 1\) for labels \(1, 2\)"),
        ([0, 1], [0, 2], "class 2 under 2 classes"),
        ([0, 7], [0, 1], "class 7 under 2 classes"),
        ([0, -1], [0, 1], "class indices from -1 to 0"),
        ([0, 1], [0, 300], "class indices from 0 to 300"),
    ],
)
def test_wrong_labels_are_refused_and_not_counted(prediction: list[Any], target: list[Any], says: str) -> None:
    matrix = ConfusionMatrix(2)
    with pytest.raises(DataError, match=says):
        matrix.update(np.array(prediction), np.array(target))
    assert matrix.counts.sum() == 0


def test_a_legend_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="legend of 3 classes for 2 rows"):
        ConfusionMatrix(2).scores(legend(3))
