"""Matching by least cost, against every permutation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodistill.methods.sep.assignment import assign


def least(costs: np.ndarray) -> float:
    """The least sum over all ways to pair the shorter side off."""
    table = costs if costs.shape[0] <= costs.shape[1] else costs.T
    rows, columns = table.shape
    return min(
        sum(table[row, column] for row, column in enumerate(chosen))
        for chosen in itertools.permutations(range(columns), rows)
    )


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    whole=st.booleans(),
)
def test_no_other_pairing_costs_less(rows: int, columns: int, seed: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers make ties, which must not lead round in circles.
    costs = rng.integers(-3, 4, (rows, columns)) if whole else rng.normal(0, 5, (rows, columns))
    first, second = assign(costs.astype(np.float64))
    assert len(first) == len(second) == min(rows, columns)
    assert len(set(first.tolist())) == len(set(second.tolist())) == len(first)
    assert first.tolist() == sorted(first.tolist())
    assert costs[first, second].sum() == pytest.approx(least(costs))


def test_a_hundred_queries_find_their_masks() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.permutation(100)[:20]
    costs = rng.uniform(1, 2, (100, 20))
    costs[hidden, np.arange(20)] = 0
    first, second = assign(costs)
    assert (hidden[second] == first).all()
