"""What estimates from any sample hold: sums, names, units, and how errors shrink."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodistill.assess.estimators import SampleEstimates, StratifiedSample, estimate_from_sample

CLASSES = 3


@st.composite
def samples(draw: st.DrawFn) -> StratifiedSample:
    """Two to four strata with points of any classes, two at least in each, of far more pixels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = draw(st.lists(st.integers(2, 40), min_size=2, max_size=4))
    stratum = np.repeat(np.arange(len(points)), points)
    mapped, reference = rng.integers(0, CLASSES, (2, len(stratum)))
    true = np.where(rng.random(len(stratum)) < draw(st.floats(0, 1)), mapped, reference)
    sizes = rng.uniform(1, 1000, len(points))
    return StratifiedSample(stratum, mapped, true, sizes, np.full(len(points), 10**7))


def figures(found: SampleEstimates) -> list[np.ndarray]:
    """Values and errors, one row of classes each."""
    by_class = (found.area, found.mapped, found.user, found.producer)
    return [part for figure in by_class for part in (figure.value, figure.error)]


def assert_same(one: SampleEstimates, other: SampleEstimates) -> None:
    np.testing.assert_allclose(other.shares, one.shares, atol=1e-9)
    np.testing.assert_allclose([other.overall.value, other.overall.error], [one.overall.value, one.overall.error])
    for first, second in zip(figures(one), figures(other), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@given(samples())
def test_all_figures_are_read_off_one_table_of_shares(sample: StratifiedSample) -> None:
    found = estimate_from_sample(sample, CLASSES)
    assert found.counts.sum() == len(sample.stratum)
    np.testing.assert_allclose(found.shares.sum(), 1)
    np.testing.assert_allclose(found.mapped.value, found.shares.sum(1), atol=1e-12)
    np.testing.assert_allclose(found.area.value, found.shares.sum(0), atol=1e-12)
    hits = np.diag(found.shares)
    np.testing.assert_allclose(found.overall.value, hits.sum(), atol=1e-12)
    for ratio, whole in ((found.user, found.mapped), (found.producer, found.area)):
        some = whole.value > 0
        np.testing.assert_allclose(ratio.value[some], hits[some] / whole.value[some])
        assert np.isnan(ratio.value[~some]).all()
        assert np.isnan(ratio.error[~some]).all()
        assert ((ratio.value[some] >= 0) & (ratio.value[some] <= 1 + 1e-12)).all()
    assert all((part[~np.isnan(part)] >= 0).all() for part in figures(found))


@pytest.mark.slow
@given(samples(), st.integers(0, 1000))
def test_neither_the_order_of_points_nor_the_unit_of_areas_matters(sample: StratifiedSample, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(sample.stratum))
    other = replace(
        sample,
        stratum=sample.stratum[order],
        mapped=sample.mapped[order],
        reference=sample.reference[order],
        sizes=sample.sizes * 1e-4,
    )
    assert_same(estimate_from_sample(sample, CLASSES), estimate_from_sample(other, CLASSES))


@pytest.mark.slow
@given(samples())
def test_other_names_of_strata_and_classes_are_names_alone(sample: StratifiedSample) -> None:
    found, count = estimate_from_sample(sample, CLASSES), len(sample.sizes)
    turned = replace(
        sample, stratum=count - 1 - sample.stratum, sizes=sample.sizes[::-1].copy(), pixels=sample.pixels[::-1].copy()
    )
    assert_same(found, estimate_from_sample(turned, CLASSES))
    names = np.array([2, 0, 1])  # class k becomes names[k]
    renamed = estimate_from_sample(
        replace(sample, mapped=names[sample.mapped], reference=names[sample.reference]), CLASSES
    )
    np.testing.assert_allclose(renamed.shares[np.ix_(names, names)], found.shares, atol=1e-12)
    for first, second in zip(figures(found), figures(renamed), strict=True):
        np.testing.assert_allclose(second[names], first, rtol=1e-6, atol=1e-9)


@given(samples())
def test_map_and_reference_change_places(sample: StratifiedSample) -> None:
    found = estimate_from_sample(sample, CLASSES)
    other = estimate_from_sample(replace(sample, mapped=sample.reference, reference=sample.mapped), CLASSES)
    np.testing.assert_allclose(other.shares, found.shares.T, atol=1e-12)
    np.testing.assert_allclose(other.user.value, found.producer.value)
    np.testing.assert_allclose(other.user.error, found.producer.error, atol=1e-12)
    np.testing.assert_allclose(other.overall.error, found.overall.error)


@pytest.mark.slow
@given(samples())
def test_four_times_the_points_have_half_of_the_error(sample: StratifiedSample) -> None:
    once = estimate_from_sample(sample, CLASSES)
    parts = {name: np.tile(getattr(sample, name), 4) for name in ("stratum", "mapped", "reference")}
    more = estimate_from_sample(replace(sample, **parts), CLASSES)
    np.testing.assert_allclose(more.shares, once.shares, atol=1e-12)
    # Within a stratum the spread is divided by n - 1: of n points by a little more than of 4 n.
    bound = once.area.error / 2
    assert (more.area.error <= bound + 1e-12).all()
    fewest = np.bincount(sample.stratum).min()
    assert (more.area.error >= bound * np.sqrt((fewest - 1) / fewest) - 1e-12).all()


@pytest.mark.slow
@given(samples())
def test_a_stratum_all_of_whose_pixels_were_seen_adds_no_error(sample: StratifiedSample) -> None:
    pixels = sample.pixels.copy()
    pixels[0] = (sample.stratum == 0).sum()
    found, whole = estimate_from_sample(sample, CLASSES), estimate_from_sample(replace(sample, pixels=pixels), CLASSES)
    np.testing.assert_allclose(whole.area.value, found.area.value)
    assert (whole.area.error <= found.area.error + 1e-12).all()
    everything = replace(sample, pixels=np.bincount(sample.stratum))
    assert all((part[~np.isnan(part)] == 0).all() for part in figures(estimate_from_sample(everything, CLASSES))[1::2])
