"""Intervals against a known distribution, and calibration against counts made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geodistill.data.manifest import Row
from geodistill.evaluation.intervals import by_place, drawn_miou, miou_interval, reliability, score_intervals
from geodistill.evaluation.scoring import ImageScore
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Window
from geodistill.spec import Legend

LEGEND = Legend(("a", "b"))


def scored(name: str, right: int, wrong: int, group: str = "") -> ImageScore:
    matrix = ConfusionMatrix(2)
    matrix.counts += np.array([[right, wrong], [0, 0]])
    return ImageScore(Row(Path(name), None, "test", Window(0, 0, 1, 1), group), matrix, Window(0, 0, 1, 1))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    rights = rng.integers(0, 1001, 400)
    found = score_intervals([scored(str(k), int(n), 1000 - int(n)) for k, n in enumerate(rights)], LEGEND, ["a"])
    assert found is not None
    # All images have as many pixels, so that the accuracy of a draw is a mean of 400 uniform numbers.
    low, high = found["oa"]
    mean, half = rights.mean() / 1000, 1.96 * (rights / 1000).std() / 20
    assert (low, high) == (pytest.approx(mean - half, abs=0.004), pytest.approx(mean + half, abs=0.004))
    assert found["groups"] == 400
    assert found["miou"] == found["classes"]["a"]


def test_groups_are_drawn_whole() -> None:
    images = [scored(str(k), 10 * (k % 2), 10 * (1 - k % 2), f"place {k % 2}") for k in range(40)]
    found = score_intervals(images, LEGEND, ["a"])
    assert found is not None
    assert found["groups"] == 2
    assert found["oa"] == [0, 1]


def test_the_table_ends_with_the_interval_of_its_mean() -> None:
    images = [scored("x", 5, 5), scored("y", 9, 1), scored("y", 7, 3)]
    found = score_intervals(images, LEGEND, ["a"])
    assert found is not None
    ends = miou_interval(found)
    assert list(ends or ()) == found["miou"]
    scores = replace(images[0].matrix.scores(LEGEND, ["a"]), interval=ends, groups=found["groups"])
    assert (
        str(scores).splitlines()[-2] == "mean IoU of other places like these 50.0 to 80.0 (95 %, 2 places: uncertain)"
    )
    places = by_place(images)
    assert {name: int(counts.sum()) for name, counts in places.items()} == {
        images[0].row.key: 10,
        images[1].row.key: 20,
    }
    assert set(np.round(drawn_miou(list(places.values()), [0]), 6)) == {0.5, 0.7, 0.8}


def test_one_group_has_no_interval() -> None:
    assert score_intervals([scored("x", 1, 1, "p"), scored("y", 1, 1, "p")], LEGEND, ["a"]) is None


def test_a_class_without_pixels_has_none() -> None:
    found = score_intervals([scored("x", 5, 0), scored("y", 5, 0)], LEGEND, ["a"])
    assert found is not None
    assert found["classes"]["b"] is None
    assert found["classes"]["a"] == [1, 1]


def test_calibration_by_hand() -> None:
    counts = np.zeros((2, 251), np.int64)
    counts[1, 250], counts[0, 250] = 60, 20  # sure, and right three times in four
    counts[1, 150], counts[0, 150] = 10, 10  # 0.6 sure, right half the time
    made = reliability(counts)
    assert made is not None
    assert [pixels for _, pixels, _, _ in made.bins] == [20, 80]
    assert made.ece == pytest.approx(0.2 * 0.1 + 0.8 * 0.25)
    assert made.mce == pytest.approx(0.25)
    assert reliability(np.zeros((2, 251), np.int64)) is None


def test_a_calibrated_model_has_no_error() -> None:
    steps = np.arange(251)
    counts = np.stack([1000 - 4 * steps, 4 * steps])
    made = reliability(counts)
    assert made is not None
    assert made.ece == pytest.approx(0, abs=1e-12)
