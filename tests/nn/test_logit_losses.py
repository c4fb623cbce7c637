"""Distillation losses against plain formulas in numpy, written pixel by pixel."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodistill.errors import GeodistillWarning, RecipeError
from geodistill.nn.logit_losses import channel_wise_kd, logit_kd, relation_inter, relation_intra

MASKED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kd": lambda s, t, m: logit_kd(s, t, m, 3.0),
    "cwd": lambda s, t, m: channel_wise_kd(s, t, 3.0, m),
    "inter": lambda s, t, m: relation_inter(s, t, m),
    "intra": lambda s, t, m: relation_intra(s, t, m),
}


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    return float((teacher * np.log(teacher / student)).sum())


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def reference(name: str, student: np.ndarray, teacher: np.ndarray, mask: np.ndarray) -> float:
    """The papers' sums, in float64."""
    batch, classes, _, _ = student.shape
    used = [(b, *place) for b in range(batch) for place in np.argwhere(mask[b] != 255)]
    own, target = (np.array([logits[b, :, r, c] for b, r, c in used]) for logits in (student, teacher))
    if name == "kd":
        return 9 * float(
            np.mean([divergence(softmax(t / 3), softmax(s / 3)) for s, t in zip(own, target, strict=True)])
        )
    if name == "cwd":
        image = np.array([b for b, _, _ in used])
        parts = [
            divergence(softmax(target[image == b, k] / 3), softmax(own[image == b, k] / 3))
            for b in range(batch)
            for k in range(classes)
        ]
        return 9 * float(np.mean(parts))
    own, target = (np.array([softmax(row) for row in rows]) for rows in (own, target))
    if name == "intra":
        own, target = own.T, target.T
    return 1 - float(np.mean([pearson(s, t) for s, t in zip(own, target, strict=True)]))


def pair(seed: int, shape: tuple[int, int, int, int] = (2, 4, 5, 6)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (2 * torch.randn(shape, generator=generator) for _ in range(2))
    mask = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    mask[0, :2] = 255
    mask[1, :, 0] = 255
    return student, teacher, mask


@pytest.mark.parametrize("name", MASKED)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_each_term_is_the_papers_sum_over_the_pixels_that_count(name: str, seed: int) -> None:
    student, teacher, mask = pair(seed)
    expected = reference(name, student.double().numpy(), teacher.double().numpy(), mask.numpy())
    assert MASKED[name](student, teacher, mask).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_pixels_left_out_move_neither_the_value_nor_the_gradient(name: str) -> None:
    student, teacher, mask = pair(0)
    before = MASKED[name](student, teacher, mask)
    outside = (mask == 255)[:, None].expand_as(student)
    student, teacher = student.clone(), teacher.clone()
    student[outside], teacher[outside] = 50.0, -50.0
    student.requires_grad_()
    after = MASKED[name](student, teacher, mask)
    after.backward()
    torch.testing.assert_close(after, before)
    assert student.grad is not None
    assert student.grad[outside].abs().max() == 0
    assert student.grad[~outside].abs().max() > 0


@pytest.mark.parametrize("name", MASKED)
def test_a_student_that_equals_its_teacher_pays_nothing(name: str) -> None:
    student, _, mask = pair(1)
    assert MASKED[name](student, student.clone(), mask).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_no_pixel_at_all_gives_zero_with_a_graph(name: str) -> None:
    student, teacher, mask = pair(2)
    student.requires_grad_()
    loss = MASKED[name](student, teacher, torch.full_like(mask, 255))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("name", MASKED)
def test_a_larger_image_of_the_same_content_weighs_the_same(name: str) -> None:
    student, teacher, mask = pair(3)
    twice = [t.repeat_interleave(2, -1).repeat_interleave(2, -2) for t in (student, teacher, mask)]
    torch.testing.assert_close(MASKED[name](*twice), MASKED[name](student, teacher, mask), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    student, teacher, mask = pair(4)
    student, teacher = student.bfloat16(), teacher.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = MASKED[name](student, teacher, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, MASKED[name](student.float(), teacher.float(), mask))


def test_relations_do_not_mind_scale_but_distillation_does() -> None:
    probabilities = torch.softmax(pair(5)[0], 1)
    student = torch.log(0.5 * probabilities + 0.5 / 4)  # the same ranks and distances, halved
    teacher, mask = torch.log(probabilities), torch.zeros(2, 5, 6, dtype=torch.int64)
    assert relation_inter(student, teacher, mask).item() == pytest.approx(0, abs=1e-5)
    assert relation_intra(student, teacher, mask).item() == pytest.approx(0, abs=1e-5)
    assert logit_kd(student, teacher, mask).item() > 0.01


def test_even_distributions_have_finite_relations_and_gradients() -> None:
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)
    teacher, mask = torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    loss = relation_inter(student, teacher, mask) + relation_intra(student, teacher, mask)
    loss.backward()
    assert loss.item() == pytest.approx(2)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_shapes_that_differ_are_told() -> None:
    student, teacher, mask = pair(6)
    with pytest.raises(RecipeError, match=r"\(2, 3, 5, 6\).*teacher of \(2, 4, 5, 6\)"):
        logit_kd(student[:, :3], teacher, mask)
    with pytest.raises(RecipeError, match=r"mask of \(2, 5, 5\)"):
        relation_inter(student, teacher, mask[..., :5])
    with pytest.raises(RecipeError, match="project and resize"):
        channel_wise_kd(student[..., :4], teacher)


def test_two_classes_leave_the_inter_class_relation_nothing_and_are_warned_about() -> None:
    """Centred, two probabilities are (d, -d): their correlation is a sign."""
    generator = torch.Generator().manual_seed(0)
    gradients: dict[int, float] = {}
    for classes in (2, 3):
        student = torch.randn(1, classes, 8, 8, generator=generator).requires_grad_()
        teacher, mask = torch.randn(1, classes, 8, 8, generator=generator), torch.zeros(1, 8, 8, dtype=torch.int64)
        if classes == 2:
            with pytest.warns(GeodistillWarning, match="two classes"):
                loss = relation_inter(student, teacher, mask)
            disagree = (student[:, 0] > student[:, 1]) != (teacher[:, 0] > teacher[:, 1])
            assert loss.item() == pytest.approx(2 * disagree.float().mean().item(), abs=1e-5)
        else:
            loss = relation_inter(student, teacher, mask)
        loss.backward()
        assert student.grad is not None
        gradients[classes] = student.grad.norm().item()
    assert gradients[2] < gradients[3] / 100
