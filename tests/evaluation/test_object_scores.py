"""Scores of objects and boundaries, equal to reference implementations and to what is counted by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.ndimage import binary_erosion, label
from scipy.spatial.distance import cdist
from torchmetrics.detection import PanopticQuality

from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.evaluation.object_counts import THRESHOLDS, boundary_band, contour, count_objects
from geodistill.evaluation.object_scores import Figures, ObjectScoring, object_figures
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend

LEGEND = Legend(("field", "house", "tree"))


def made_up(seed: int, noise: float = 0.1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return truth of blobs and a prediction that is moved, frayed, and lacks some of them."""
    rng = np.random.default_rng(seed)
    truth = (cv2.GaussianBlur(rng.normal(size=(90, 110)), (0, 0), 4) > 0.06).astype(np.uint8)
    truth[:, 60:] *= 2
    prediction = np.roll(truth, rng.integers(0, 3, 2), (0, 1))
    prediction[rng.random(truth.shape) < noise] = 0
    prediction = cv2.medianBlur(prediction, 3)
    prediction[:20, :30] = 0
    prediction[70:80, 50:58] = 1
    return prediction, truth


def figures(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], index: int, distance: float = 2.0) -> Figures:
    return {
        key: values[0] for key, values in object_figures(count_objects(prediction, truth, [index], distance)).items()
    }


def numbered(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return label(mask)[0].astype(np.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("index", [1, 2])
def test_panoptic_quality_is_that_of_torchmetrics(seed: int, index: int) -> None:
    prediction, truth = made_up(seed)
    reference = PanopticQuality(things={1}, stuffs={0}, return_per_class=True, allow_unknown_preds_category=True)
    pairs = [np.stack([mask, numbered(mask)], -1) for mask in (prediction == index, truth == index)]
    ours, theirs = (torch.from_numpy(pair.astype(np.int64))[None] for pair in pairs)
    quality = reference(ours, theirs)[0, 0]  # of the class 1, the only one of things
    assert figures(prediction, truth, index)["pq"] == pytest.approx(float(quality), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_detections_are_those_of_pycocotools(seed: int) -> None:
    prediction, truth = made_up(seed)
    ours, theirs = numbered(prediction == 1), numbered(truth == 1)
    runs = [
        [coco.encode(np.asfortranarray((numbers == n).astype(np.uint8))) for n in range(1, numbers.max() + 1)]
        for numbers in (ours, theirs)
    ]
    iou = np.asarray(coco.iou(*runs, [0] * len(runs[1])))
    f1 = []
    for threshold in THRESHOLDS:
        hits = int((iou > threshold).sum())
        f1.append(2 * hits / (len(runs[0]) + len(runs[1])))
    hits = int((iou > 0.5).sum())
    scores = figures(prediction, truth, 1)
    assert scores["precision"] == pytest.approx(hits / len(runs[0]))
    assert scores["recall"] == pytest.approx(hits / len(runs[1]))
    assert scores["f1"] == pytest.approx(f1[0])
    assert scores["f1_averaged"] == pytest.approx(np.mean(f1))


def reference_band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Boundary of a mask as Cheng et al. 2021 publish it: erosion step by step, outside the image being outside."""
    eroded = np.pad(mask, 1)
    for _ in range(width):
        eroded = binary_erosion(eroded, np.ones((3, 3)), border_value=0)
    return mask & ~eroded[1:-1, 1:-1]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_boundary_iou_is_that_of_cheng_2021(width: int) -> None:
    for seed in range(3):
        prediction, truth = made_up(seed)
        bands = [reference_band(classes == 1, width) for classes in (prediction, truth)]
        assert (boundary_band(prediction == 1, width) == bands[0]).all()
        expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
        assert figures(prediction, truth, 1, width)["boundary_iou"] == pytest.approx(expected)


@pytest.mark.parametrize("distance", [1.0, 1.5, 3.0])
def test_boundary_f1_is_that_of_all_distances(distance: float) -> None:
    prediction, truth = made_up(1)
    edges = []
    for classes in (prediction, truth):
        mask = classes == 1
        cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
        edges.append(np.argwhere(mask & ~binary_erosion(mask, cross, border_value=1)))
    assert (np.argwhere(contour(truth == 1)) == edges[1]).all()
    apart = cdist(*edges)
    precision, recall = ((apart.min(axis) <= distance).mean() for axis in (1, 0))
    expected = 2 * precision * recall / (precision + recall)
    assert figures(prediction, truth, 1, distance)["boundary_f1"] == pytest.approx(expected)


def test_pixels_without_label_take_no_part() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[5:15, 5:15] = 1
    truth[20:, :] = IGNORE_INDEX
    prediction = np.zeros_like(truth)
    prediction[5:15, 5:15] = 1
    prediction[25:35, 5:15] = 1  # on pixels that nobody labelled
    prediction[17:19, 30:34] = 1  # false
    scores = figures(prediction, truth, 1)
    assert scores["precision"] == 0.5
    assert scores["recall"] == 1
    assert scores["pq"] == pytest.approx(1 / 1.5)


@given(seed=st.integers(0, 10_000), distance=st.sampled_from([1.0, 2.0, 4.0]))
def test_a_prediction_that_is_right_wherever_there_are_labels_has_the_true_boundary(seed: int, distance: float) -> None:
    """Whatever it says of the other pixels."""
    rng = np.random.default_rng(seed)
    truth = made_up(seed)[1]
    prediction = truth.copy()
    row, col = rng.integers(0, 60, 2)
    hidden = np.zeros(truth.shape, bool)
    hidden[row : row + 20, col : col + 25] = True
    hidden[:, 80:83] = True
    prediction[hidden] = rng.integers(0, 3, int(hidden.sum()))
    truth[hidden] = IGNORE_INDEX
    scores = figures(prediction, truth, 1, distance)
    assert scores["boundary_iou"] == scores["boundary_f1"] == 1


@pytest.mark.parametrize("distance", [1.0, 3.0])
def test_boundaries_beside_pixels_without_label(distance: float) -> None:
    """By all distances: of contours of labelled pixels that touch no other, to any of the other mask, filled up."""
    prediction, truth = made_up(2)
    truth[30:45, 20:50] = truth[:, 70] = IGNORE_INDEX
    known = truth != IGNORE_INDEX
    masks = [prediction == 1, np.where(known, truth == 1, prediction == 1)]
    height, width = truth.shape
    edges, counted = [], []
    for mask in masks:
        edge, sure = [], []
        for y, x in np.argwhere(mask).tolist():
            sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            sides = [(v, u) for v, u in sides if 0 <= v < height and 0 <= u < width]
            if not all(mask[side] for side in sides):
                edge.append((y, x))
                sure += [(y, x)] if known[y, x] and all(known[side] for side in sides) else []
        edges.append(edge)
        counted.append(sure)
    precision, recall = ((cdist(counted[k], edges[1 - k]).min(1) <= distance).mean() for k in (0, 1))
    bands = [reference_band(mask, round(distance)) & known for mask in masks]
    scores = figures(prediction, truth, 1, distance)
    assert scores["boundary_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores["boundary_iou"] == pytest.approx((bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum())


def test_scores_at_the_ends() -> None:
    empty, some = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    some[5:20, 5:20] = 1
    assert all(math.isnan(value) for value in figures(empty, empty, 1).values())
    perfect = figures(some, some, 1)
    assert all(value == 1 for value in perfect.values())
    missed, invented = figures(empty, some, 1), figures(some, empty, 1)
    assert missed["recall"] == missed["f1"] == missed["pq"] == missed["boundary_f1"] == missed["boundary_iou"] == 0
    assert invented["precision"] == invented["f1"] == invented["boundary_f1"] == 0
    assert math.isnan(invented["recall"])


def row(number: int, group: str = "", gsd: float | None = 0.5) -> Row:
    return Row(Path(f"{number}.tif"), None, "test", Window(0, 0, 90, 110), group, gsd=gsd)


def watched(scoring: ObjectScoring, rows: list[Row]) -> ObjectScoring:
    scoring.check(LEGEND)
    for at, one in enumerate(rows):
        prediction, truth = made_up(at)
        scoring.begin(one)
        for first in range(0, 90, 40):
            scoring.add(first, prediction[first : first + 40], truth[first : first + 40])
        scoring.end(one)
    return scoring


def test_images_are_summed_and_intervals_go_by_groups() -> None:
    rows = [row(n, f"place {n // 2}") for n in range(6)]
    scores = watched(ObjectScoring(["house", "tree"], 1.0), rows).scores()
    total = sum(count_objects(*made_up(n), [1, 2], 2.0) for n in range(6))
    for key, values in object_figures(np.asarray(total)).items():
        np.testing.assert_allclose(scores.figures[key], values)
        low, high = scores.intervals[key]
        assert (low <= values).all()
        assert (values <= high).all()
    assert scores.true.tolist() == np.asarray(total)[:, 0].tolist()
    again = watched(ObjectScoring(["house", "tree"], 1.0), rows).scores()
    assert again.to_dict() == scores.to_dict()
    single = watched(ObjectScoring(["house"], 1.0), rows[:2]).scores()
    assert single.intervals == {}
    assert single.rows()[0]["f1_low"] is None
    assert "boundaries at 1 m" in str(scores)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown class 'hose'"):
        ObjectScoring(["hose"], 1.0).check(LEGEND)
    with pytest.raises(RecipeError, match="metres above 0"):
        ObjectScoring(["house"], 0.0)
    with pytest.raises(DataError, match="no ground sampling distance"):
        ObjectScoring(["house"], 1.0).begin(row(0, gsd=None))


@pytest.mark.slow
def test_the_command_line_scores_objects(
    manifest: Manifest, segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tuple(replace(row, gsd=0.5) for row in manifest.entries)
    replace(manifest, entries=rows).save(tmp_path / "manifest.parquet")
    segmenter.save(tmp_path / "model")
    command = ["evaluate", str(tmp_path / "model"), str(tmp_path / "manifest.parquet"), "--out", str(tmp_path / "out")]
    assert main([*command, "--objects", "c1", "c2", "--boundary-metres", "1", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["objects"]
    assert about == json.loads((tmp_path / "out" / "objects.json").read_text(encoding="utf-8"))
    assert about["boundary_metres"] == 1
    assert [one["name"] for one in about["classes"]] == ["c1", "c2"]
    assert 0 < about["classes"][0]["f1_low"] <= about["classes"][0]["f1"] <= 1
    assert main([*command, "--objects", "c1"]) == 0
    assert "boundaries at 2 m" in capsys.readouterr().out
    assert main([*command, "--boundary-metres", "1"]) == 2
