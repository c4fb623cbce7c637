"""What losses between a student's maps and a teacher's hold, and which of them minds what."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from geodistill.nn.feature_losses import QueryAttention, cosine_distance, feature_kd, token_relation
from geodistill.nn.losses import kl, layer_normalise, mse

Term = Callable[[Tensor, Tensor], Tensor]
CHANNELS = 6


def query(student: Tensor, teacher: Tensor) -> Tensor:
    torch.manual_seed(0)
    return QueryAttention(CHANNELS)(student, teacher)


TERMS: dict[str, Term] = {
    "mse": mse,
    "mse-norm": partial(mse, reduction="norm"),
    "kl": kl,
    "kl-student": partial(kl, direction="student_teacher"),
    "kl-warm": partial(kl, temperature=4.0),
    "feature": lambda student, teacher: feature_kd([student], [teacher]),
    "cosine": cosine_distance,
    "relation": token_relation,
    "query": query,
}
MATCHING = [name for name in TERMS if name != "query"]
"""Those that ask for the teacher's map itself: the query's own weights stand between."""


@pytest.fixture(params=TERMS)
def term(request: pytest.FixtureRequest) -> Term:
    return TERMS[request.param]


def example(seed: int = 0, shape: tuple[int, int] = (5, 7)) -> tuple[Tensor, Tensor]:
    """Return maps (2, 6, 5, 7) of a student and its teacher."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, CHANNELS, *shape, generator=generator) for _ in range(2))
    return student, teacher


def value_and_gradient(term: Term, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    student = student.clone().requires_grad_()
    value = term(student, teacher)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_costs_something(term: Term, seed: int) -> None:
    assert float(term(*example(seed)).detach()) > 1e-3


@pytest.mark.parametrize("name", MATCHING)
def test_the_teachers_own_maps_cost_nothing_and_pull_nowhere(name: str) -> None:
    teacher = layer_normalise(example()[1])  # as `feature_kd` wants its target
    value, gradient = value_and_gradient(TERMS[name], teacher, teacher)
    assert float(value) == pytest.approx(0, abs=2e-6)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("name", MATCHING)
def test_half_of_the_way_is_cheaper_and_a_small_step_down_the_gradient_too(name: str) -> None:
    student, teacher = example()
    value, gradient = value_and_gradient(TERMS[name], student, teacher)
    assert TERMS[name]((student + teacher) / 2, teacher) < value
    assert TERMS[name](student - 1e-2 * gradient / gradient.norm(), teacher) < value


def test_neither_the_order_of_images_nor_that_of_pixels_matters(term: Term) -> None:
    student, teacher = example()
    value = term(student, teacher)
    torch.testing.assert_close(term(student.flip(0), teacher.flip(0)), value)
    order = torch.randperm(35, generator=torch.Generator().manual_seed(2))
    mixed = [maps.flatten(2)[..., order].reshape(maps.shape) for maps in (student, teacher)]
    torch.testing.assert_close(term(*mixed), value)


@pytest.mark.parametrize("name", MATCHING)
def test_the_order_of_channels_does_not_matter(name: str) -> None:
    student, teacher = example()
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(TERMS[name](student[:, order], teacher[:, order]), TERMS[name](student, teacher))


@pytest.mark.parametrize(("name", "minds"), [(name, name not in ("cosine", "relation")) for name in MATCHING])
def test_who_minds_how_loud_the_student_is(name: str, minds: bool) -> None:
    student, teacher = example()
    once, twice = TERMS[name](student, teacher), TERMS[name](2 * student, teacher)
    assert torch.isclose(once, twice, rtol=1e-4) != minds


@pytest.mark.parametrize(("name", "minds"), [(name, name == "feature" or name.startswith("kl")) for name in MATCHING])
def test_who_minds_a_rotation_of_all_channels(name: str, minds: bool) -> None:
    student, teacher = example()
    turn, _ = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(5)))
    turned = [torch.einsum("oc,bchw->bohw", turn, maps) for maps in (student, teacher)]
    assert torch.isclose(TERMS[name](*turned), TERMS[name](student, teacher), rtol=1e-4) != minds


@pytest.mark.parametrize(("name", "minds"), [(name, name != "relation") for name in MATCHING])
def test_who_minds_a_rotation_of_the_students_channels_alone(name: str, minds: bool) -> None:
    student, teacher = example()
    turn, _ = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(5)))
    turned = torch.einsum("oc,bchw->bohw", turn, student)
    assert torch.isclose(TERMS[name](turned, teacher), TERMS[name](student, teacher), rtol=1e-4) != minds


@pytest.mark.parametrize("loudness", [0.0, 1e3])
def test_silent_and_loud_maps_have_a_finite_price_and_gradient(term: Term, loudness: float) -> None:
    student, teacher = example()
    for given in (
        (loudness * student, teacher),
        (student, loudness * teacher),
        (loudness * student, loudness * teacher),
    ):
        value, gradient = value_and_gradient(term, *given)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_single(term: Term, dtype: torch.dtype) -> None:
    student, teacher = (maps.to(dtype) for maps in example())
    value = term(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, term(student.float(), teacher.float()))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_slope(term: Term, seed: int) -> None:
    student, teacher = example()
    _, gradient = value_and_gradient(term, student, teacher)
    way = torch.randn(student.shape, generator=torch.Generator().manual_seed(seed))
    slope = (term(student + 1e-2 * way, teacher) - term(student - 1e-2 * way, teacher)) / 2e-2
    torch.testing.assert_close((gradient * way).sum(), slope, rtol=2e-2, atol=5e-4)
