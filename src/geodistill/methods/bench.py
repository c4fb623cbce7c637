"""Any teacher, any student: distillation terms that every method's recipe can switch on in ``losses.weights``.

A term is named by its kind, such as ``kd``, under the recipe's ``teacher``, or ``<name>.kd`` under one of its
``teachers``. Terms on logits need a teacher with classes, terms on features an encoder on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.frozen import FrozenTeacher, pool_logits
from geodistill.methods.method import CommonLosses, Method, Objective
from geodistill.nn.alignment import FAM, FeatureTap, map_grids, pair_levels
from geodistill.nn.distillation import channel_wise_kd, feature_kd, logit_kd, relation_inter, relation_intra
from geodistill.nn.encoders import Encoder
from geodistill.nn.output import SegmentationOutput
from geodistill.nn.weighting import build_weighting
from geodistill.spec import IGNORE_INDEX

LogitLoss = Callable[[Tensor, Tensor, Tensor, CommonLosses], Tensor]

LOGIT_LOSSES: dict[str, LogitLoss] = {
    "kd": lambda own, target, mask, losses: logit_kd(own, target, mask, losses.kd_temperature),
    "cwd": lambda own, target, mask, losses: channel_wise_kd(own, target, losses.cwd_temperature, mask),
    "dist_inter": lambda own, target, mask, losses: relation_inter(own, target, mask, losses.dist_temperature),
    "dist_intra": lambda own, target, mask, losses: relation_intra(own, target, mask, losses.dist_temperature),
}
FEATURE_LOSSES = ("feature",)
KINDS = (*LOGIT_LOSSES, *FEATURE_LOSSES)
"""Every term of the bench."""

DEFAULT = "teacher"
"""Name of the recipe's ``teacher`` among its teachers."""


@dataclass(frozen=True)
class Term:
    """A term of the bench.

    Attributes:
        name: As in ``losses.weights``.
        teacher: Name of its teacher.
        kind: One of `KINDS`.
    """

    name: str
    teacher: str
    kind: str


def split_weights(weights: Mapping[str, float], own: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Part a recipe's ``losses.weights`` into the method's own terms and the bench's.

    Raises:
        UnknownNameError: A term is neither.
    """
    bench: dict[str, float] = {}
    for name, weight in weights.items():
        if name not in own:
            if name.rpartition(".")[2] not in KINDS:
                raise UnknownNameError("loss term", name, [*own, *KINDS])
            bench[name] = weight
    return {name: weight for name, weight in weights.items() if name not in bench}, bench


def parse_term(name: str, teachers: Sequence[str]) -> Term:
    """Read a term's name.

    Raises:
        RecipeError: Its teacher is not in the recipe.
    """
    prefix, _, kind = name.rpartition(".")
    teacher = prefix or DEFAULT
    if teacher not in teachers:
        where = f"teachers.{prefix}" if prefix else "teacher"
        raise RecipeError(f"loss term {name} in a recipe without {where}", "that teacher", f"set {where}.segmenter")
    return Term(name, teacher, kind)


class BenchObjective:
    """A method's own terms, and the bench's beside them.

    Args:
        inner: The method's own objective.
        weights: Factor of each of the bench's terms.
        teachers: By name.
        network: The student; its encoder is listened to where a term is on features.
        losses: Temperatures.

    Attributes:
        adapters: The student's projections to the teachers' channels, by teacher.

    Raises:
        RecipeError: A term does not fit its teacher, or student and teacher have no level in common.
    """

    def __init__(
        self,
        inner: Objective,
        weights: Mapping[str, float],
        teachers: Mapping[str, FrozenTeacher],
        network: nn.Module,
        losses: CommonLosses,
    ) -> None:
        self._inner, self._losses = inner, losses
        self._terms = [parse_term(name, list(teachers)) for name in weights]
        self.weights = inner.weights | dict(weights)
        self.label_free = inner.label_free | frozenset(weights)
        self._teachers = {term.teacher: teachers[term.teacher] for term in self._terms}
        self.adapters = nn.ModuleDict()
        self._pairs: dict[str, list[tuple[int, int]]] = {}
        for term in self._terms:
            if term.kind in LOGIT_LOSSES:
                teachers[term.teacher].ask(logits=True)
        matched = [term.teacher for term in self._terms if term.kind in FEATURE_LOSSES]
        self._tap = FeatureTap(_encoder(network)) if matched else None
        for name in matched:
            self._match(name, teachers[name], _encoder(network))

    def _match(self, name: str, teacher: FrozenTeacher, encoder: Encoder) -> None:
        """Pair the levels of student and teacher and build what aligns them."""
        pairs = pair_levels(encoder.strides, teacher.strides)
        teacher.ask([level for _, level in pairs])
        self._pairs[name] = pairs
        self.adapters[name] = FAM(
            [encoder.channels[own] for own, _ in pairs], [teacher.channels[level] for _, level in pairs]
        )

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the unweighted terms of one batch."""
        terms = self._inner(output, batch, step)
        height, width = batch["image"].shape[-2:]
        maps = [] if self._tap is None else self._tap.take(height, width)
        mask = counted_pixels(batch)
        for term in self._terms:
            teacher = self._teachers[term.teacher]
            targets = teacher.targets(batch)
            if term.kind in LOGIT_LOSSES:
                assert targets.logits is not None
                stride = teacher.logits_stride
                own = pool_logits(output.logits.float(), stride)
                terms[term.name] = LOGIT_LOSSES[term.kind](
                    own, targets.logits, mask[:, ::stride, ::stride], self._losses
                )
            else:
                pairs = self._pairs[term.teacher]
                places = map_grids(height, width, [teacher.strides[level] for _, level in pairs])
                aligned = self.adapters[term.teacher]([maps[own] for own, _ in pairs], places)
                terms[term.name] = feature_kd(aligned, [targets.features[level] for _, level in pairs])
        return terms

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term; the bench's are the same at every step."""
        return self._inner.weight(name, step) if name in self._inner.weights else self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Move the teachers."""
        self._inner.to(device)
        for teacher in self._teachers.values():
            teacher.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Give all teachers' modules together, each once."""
        modules = [self._inner.teacher_module(), *(teacher.module for teacher in self._teachers.values())]
        return nn.ModuleList([module for module in modules if module is not None])

    def state_dict(self) -> dict[str, Any]:
        """Give the method's own state: the bench has none."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the method's own state back."""
        self._inner.load_state_dict(state)


def add_bench(
    method: Method, weights: Mapping[str, float], teachers: Mapping[str, FrozenTeacher], losses: CommonLosses
) -> Method:
    """Give a method with the bench's terms, where any has a factor, and with the recipe's weighting.

    Args:
        method: With its own terms.
        weights: Factor of each of the bench's terms; those of 0 are left out.
        teachers: The recipe's, by name.
        losses: Temperatures and weighting.

    Raises:
        RecipeError: A term does not fit its teacher or student.
        UnknownNameError: No such weighting.
    """
    used = {name: weight for name, weight in weights.items() if weight != 0}
    if used:
        objective = BenchObjective(method.objective, used, teachers, method.network, losses)
        adapters = objective.adapters if len(objective.adapters) else None
        method = replace(method, objective=objective, adapters=adapters, teachers={**method.teachers, **teachers})
    return replace(method, weighting=build_weighting(losses.weighting, tuple(method.objective.weights)))


def counted_pixels(batch: Batch) -> Tensor:
    """Give the pixels that terms on logits look at, as a mask: the labelled ones.

    Of an image without any label, every valid pixel: a teacher needs no labels, but where a labelled image leaves a
    pixel out, its classes are not among the legend's.

    Returns:
        ``(B, H, W)`` int64, `IGNORE_INDEX` where a pixel is left out.
    """
    mask, valid = batch["mask"], batch["valid"]
    unlabelled = (mask == IGNORE_INDEX).flatten(1).all(1)[:, None, None]
    return torch.where(unlabelled & valid, 0, mask)


def _encoder(network: nn.Module) -> Encoder:
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise RecipeError(f"a loss on features of {type(network).__name__}", "a student with an encoder")
    return encoder
