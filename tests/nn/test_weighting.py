"""Weightings of loss terms: where they start, where they settle, and that their state is kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geodistill.errors import UnknownNameError
from geodistill.nn.gradient_balance import GradientBalance
from geodistill.nn.weighting import WEIGHTINGS, Uncertainty, build_weighting

BASE = {"a": 0.4, "b": 0.6}


def shared() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, 2.0]))]


def terms(parameters: list[nn.Parameter], scales: tuple[float, float] = (1.0, 1.0)) -> dict[str, torch.Tensor]:
    weight = parameters[0]
    return {"a": scales[0] * weight.square().sum(), "b": scales[1] * (weight - 3).square().sum()}


@pytest.mark.parametrize("kind", ["fixed", "uncertainty"])
def test_it_begins_at_the_base_factors(kind: str) -> None:
    parameters = shared()
    total = build_weighting(kind, ["a", "b"])(terms(parameters), BASE, parameters)
    assert total.item() == pytest.approx(0.4 * 5 + 0.6 * 5)


@pytest.mark.parametrize("kind", sorted(WEIGHTINGS))
def test_a_base_of_zero_switches_a_term_off(kind: str) -> None:
    parameters = shared()
    weighting = build_weighting(kind, ["a", "b"])
    named = terms(parameters)
    total = weighting(named, {"a": 1.0, "b": 0.0}, parameters)
    assert total.item() == pytest.approx(named["a"].item())
    assert float(weighting.factors["b"]) == 0.0


@pytest.mark.parametrize("kind", sorted(WEIGHTINGS))
def test_its_state_resumes(kind: str) -> None:
    parameters = shared()
    first, second = build_weighting(kind, ["a", "b"]), build_weighting(kind, ["a", "b"])
    optimizer = torch.optim.Adam([{"params": parameters, "lr": 0.0}, *first.parameter_groups()])
    for _ in range(5):
        optimizer.zero_grad()
        first(terms(parameters, (7.0, 0.1)), BASE, parameters).backward()
        optimizer.step()
    second.load_state_dict(first.state_dict())
    named = terms(parameters)
    assert first(named, BASE, parameters).item() == pytest.approx(second(named, BASE, parameters).item(), rel=1e-6)


@pytest.mark.slow
def test_variances_settle_at_their_terms() -> None:
    weighting = Uncertainty(["a", "b"])
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    fixed = {"a": torch.tensor(20.0), "b": torch.tensor(0.05)}
    for _ in range(2000):
        optimizer.zero_grad()
        weighting(fixed, BASE, []).backward()
        optimizer.step()
    assert float(weighting.factors["a"]) == pytest.approx(0.4 / 20.0, rel=0.02)
    assert float(weighting.factors["b"]) == pytest.approx(0.6 / 0.05, rel=0.02)


def test_a_term_that_vanishes_gains_no_weight_without_end() -> None:
    weighting = Uncertainty(["a"], bound=3.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        weighting({"a": torch.tensor(0.0)}, {"a": 1.0}, []).backward()
        optimizer.step()
    assert float(weighting.factors["a"]) <= 20.1  # exp(3)


def test_a_variance_of_a_term_switched_off_stays() -> None:
    weighting = Uncertainty(["a", "b"])
    weighting({"a": torch.tensor(4.0), "b": torch.tensor(4.0)}, {"a": 1.0, "b": 0.0}, []).backward()
    gradient = weighting.log_variances.grad
    assert gradient is not None
    assert gradient.tolist() == [pytest.approx(-3.0), 0.0]


@given(st.floats(0.2, 5.0), st.floats(0.2, 5.0))
def test_gradient_norms_come_to_the_base_shares(first: float, second: float) -> None:
    parameters = shared()
    weighting = GradientBalance(["a", "b"])
    named = terms(parameters, (first, second))
    weighting(named, BASE, parameters)
    norms = {n: torch.autograd.grad(t, parameters, retain_graph=True)[0].norm().item() for n, t in named.items()}
    weighted = {name: float(weighting.factors[name]) * norm for name, norm in norms.items()}
    assert weighted["a"] / weighted["b"] == pytest.approx(0.4 / 0.6, rel=1e-3)
    assert sum(weighted.values()) == pytest.approx(sum(BASE[n] * norm for n, norm in norms.items()), rel=1e-3)


def test_a_term_without_gradient_keeps_its_factor() -> None:
    parameters = shared()
    weighting = GradientBalance(["a", "b"])
    weighting({"a": terms(parameters)["a"], "b": torch.tensor(1.0)}, BASE, parameters)
    assert float(weighting.factors["b"]) == pytest.approx(0.6)
    assert float(weighting.factors["a"]) == pytest.approx(0.4)


def test_a_step_without_gradient_leaves_the_average_alone() -> None:
    parameters = shared()
    weighting = GradientBalance(["a", "b"])
    weighting(terms(parameters), BASE, parameters)
    before = weighting.norms.clone()
    weighting({name: 0.0 * term for name, term in terms(parameters).items()}, BASE, parameters)
    assert torch.equal(weighting.norms, before)


def test_norms_are_measured_every_so_many_steps() -> None:
    parameters = shared()
    weighting = GradientBalance(["a", "b"], every=3)
    weighting(terms(parameters), BASE, parameters)
    first = weighting.norms.clone()
    for _ in range(2):
        weighting(terms(parameters, (9.0, 9.0)), BASE, parameters)
    assert torch.equal(weighting.norms, first)
    weighting(terms(parameters, (9.0, 9.0)), BASE, parameters)
    assert bool((weighting.norms > first).all())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="gradient_balance"):
        build_weighting("gradnorm", ["a"])
    with pytest.raises(UnknownNameError, match="loss term"):
        build_weighting("fixed", ["a"])(terms(shared()), BASE, [])
