"""The worked examples of Olofsson et al. 2014 and Stehman 2014, and what holds in general.

The papers themselves were not at hand. Their data and figures are those that others transcribed for the tests of their
own estimators: Olofsson's from github.com/NewGraphEnvironment/drift (tests/testthat/helper-accuracy.R), Stehman's from
github.com/hagc/mapaccuracy (R/stehman2014.R, the data) and github.com/boothmanrylan/accuracyAssessmentTools
(tests/test_stehman.py, the figures).
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from geodistill.assess.estimators import StratifiedSample, estimate_from_sample

OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Table 8: deforestation, forest gain, stable forest, stable non-forest; rows by map and columns by reference."""

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
PIXEL_HA = 0.09


def points_of(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, cols = np.nonzero(counts)
    return rows.repeat(counts[rows, cols]), cols.repeat(counts[rows, cols])


def letters(text: str) -> NDArray[np.int64]:
    return np.array(["ABCD".index(letter) for letter in text])


def test_the_deforestation_example_of_olofsson_2014() -> None:
    """Section 5.2 and table 9, by the digits printed but for three figures that break the paper's own arithmetic.

    The text's standard error of 34,097 pixels does not make the margin of 68,418 beside it, which is 1.96 times 34,907.
    Printed margins of two producer's accuracies, 0.23 and 0.01, are 0.254 and 0.018 by equation 7, as the R packages
    mapac and mapaccuracy have them too.
    """
    mapped, reference = points_of(OLOFSSON)
    estimates = estimate_from_sample(StratifiedSample(mapped, mapped, reference, PIXELS.astype(float), PIXELS), 4)
    shares = [[0.0176, 0, 0.0013, 0.0011], [0, 0.0110, 0.0016, 0.0024]]
    shares += [[0.0019, 0, 0.2967, 0.0213], [0.0040, 0.0020, 0.0179, 0.6212]]
    assert estimates.shares.round(4).tolist() == shares
    assert (estimates.counts == OLOFSSON).all()
    pixels = estimates.area.value * 1e7
    assert pixels.round()[0] == 235_086
    assert (estimates.area.error[0] * 1e7).round() == 34_907
    assert (estimates.area.margin[0] * 1e7).round() == 68_418
    assert (pixels * PIXEL_HA).round().tolist() == [21_158, 11_686, 285_770, 581_386]
    assert (estimates.area.margin * 1e7 * PIXEL_HA).round().tolist() == [6_158, 3_756, 15_510, 16_282]
    assert estimates.area.error[0].round(4) == 0.0035
    assert (estimates.overall.value.round(2), estimates.overall.margin.round(2)) == (0.95, 0.02)
    assert estimates.user.value.round(2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert estimates.user.margin.round(2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert estimates.producer.value.round(2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert estimates.producer.margin.round(2)[[0, 2]].tolist() == [0.21, 0.03]
    assert estimates.producer.margin.round(3)[[1, 3]].tolist() == [0.254, 0.018]


def test_the_example_of_stehman_2014_whose_strata_are_not_the_classes() -> None:
    """Table 2 and pages 4932 to 4936: ten points in each of four strata.

    By the digits printed but for the standard error of the producer's accuracy, printed as 0.114: that is with no
    variance of class B in the fourth stratum, which table 3 gives as 0.1. mapaccuracy has 0.1165.
    """
    strata = letters("A" * 10 + "B" * 10 + "C" * 10 + "D" * 10)
    mapped = letters("A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10)
    reference = letters("A" * 5 + "CBABCA" + "B" * 5 + "AABB" + "C" * 5 + "DDBBA" + "D" * 7 + "CCB")
    pixels = np.array([40_000, 30_000, 20_000, 10_000])
    estimates = estimate_from_sample(StratifiedSample(strata, mapped, reference, pixels / 1, pixels), 4)
    assert estimates.area.value[[0, 2]].round(2).tolist() == [0.35, 0.20]
    assert estimates.area.error[[0, 2]].round(3).tolist() == [0.082, 0.064]
    assert (estimates.overall.value.round(2), estimates.overall.error.round(3)) == (0.63, 0.085)
    assert (estimates.user.value[1].round(3), estimates.user.error[1].round(3)) == (0.574, 0.125)
    assert (estimates.producer.value[1].round(3), estimates.producer.error[1].round(3)) == (0.794, 0.117)
    assert estimates.shares[1, 2].round(2) == 0.08


def test_a_sample_of_every_pixel_has_no_error() -> None:
    reference = np.array([0, 0, 1, 1, 1, 0])
    strata = np.array([0, 0, 0, 1, 1, 1])
    estimates = estimate_from_sample(StratifiedSample(strata, strata, reference, np.ones(2) * 3, np.array([3, 3])), 2)
    assert estimates.area.value.tolist() == [0.5, 0.5]
    assert estimates.area.error.tolist() == [0, 0]
    assert estimates.user.error.tolist() == [0, 0]


def test_what_cannot_be_estimated_is_not_a_number() -> None:
    points = np.array([0, 0, 0])
    estimates = estimate_from_sample(StratifiedSample(points, points, points, np.ones(1), np.array([1000])), 2)
    assert estimates.user.value[0] == estimates.producer.value[0] == 1
    assert math.isnan(estimates.user.value[1])
    assert math.isnan(estimates.producer.error[1])
    unsampled = StratifiedSample(points, points, points, np.ones(2), np.array([1000, 1000]))
    assert np.isnan(estimate_from_sample(unsampled, 2).area.value).all()


@pytest.mark.slow
def test_intervals_hold_what_they_say() -> None:
    """Of many samples of a made-up land, 95 % of the intervals hold its true area."""
    rng = np.random.default_rng(3)
    mapped = rng.choice(3, 30_000, p=[0.1, 0.3, 0.6])
    true = np.where(rng.random(30_000) < 0.3, rng.integers(0, 3, 30_000), mapped)
    pixels = np.bincount(mapped)
    by_stratum = [np.flatnonzero(mapped == stratum) for stratum in range(3)]
    inside = []
    for _ in range(400):
        drawn = np.concatenate([rng.choice(own, 200, replace=False) for own in by_stratum])
        sample = StratifiedSample(mapped[drawn], mapped[drawn], true[drawn], pixels / 1, pixels)
        area = estimate_from_sample(sample, 3).area
        inside.append(np.abs(area.value - np.bincount(true) / 30_000) <= area.margin)
    assert (np.mean(inside, axis=0) > 0.92).all()
    assert (np.mean(inside, axis=0) < 0.98).all()
