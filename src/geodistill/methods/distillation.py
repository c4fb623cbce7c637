"""Any teacher, any student: distillation terms that every method's recipe can switch on in ``losses.weights``.

A term is named by its kind, such as ``kd``, under the recipe's ``teacher``, or ``<name>.kd`` under one of its
``teachers``. Terms on logits need a teacher with classes, terms on features an encoder on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.lazy import load
from geodistill.methods.method import CommonLosses, Method, Objective
from geodistill.methods.schema import DEFAULT_TEACHER
from geodistill.methods.teacher import FrozenTeacher, TeacherOutput, pool_logits
from geodistill.nn.alignment import FAM, FeatureTap, map_grids, pair_levels
from geodistill.nn.distillation import channel_wise_kd, feature_kd, logit_kd, relation_inter, relation_intra
from geodistill.nn.encoders import Encoder
from geodistill.nn.losses import layer_normalise, mse
from geodistill.nn.output import SegmentationOutput
from geodistill.nn.weighting import build_weighting
from geodistill.spec import IGNORE_INDEX

if TYPE_CHECKING:
    from geodistill.nn.discriminator import FeatureDiscriminator

LogitLoss = Callable[[Tensor, Tensor, Tensor, CommonLosses], Tensor]

LOGIT_LOSSES: dict[str, LogitLoss] = {
    "kd": lambda student, target, mask, losses: logit_kd(student, target, mask, losses.kd_temperature),
    "cwd": lambda student, target, mask, losses: channel_wise_kd(student, target, losses.cwd_temperature, mask),
    "dist_inter": lambda student, target, mask, losses: relation_inter(student, target, mask, losses.dist_temperature),
    "dist_intra": lambda student, target, mask, losses: relation_intra(student, target, mask, losses.dist_temperature),
}
FEATURE_LOSSES = ("feature", "adversarial")
KINDS = (*LOGIT_LOSSES, *FEATURE_LOSSES)
"""Every kind of distillation term."""


@dataclass(frozen=True)
class Term:
    """A distillation term.

    Attributes:
        name: As in ``losses.weights``.
        teacher: Name of its teacher.
        kind: One of `KINDS`.
    """

    name: str
    teacher: str
    kind: str


def split_weights(weights: Mapping[str, float], of_method: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Part a recipe's ``losses.weights`` into the method's own terms and the distillation terms.

    Raises:
        UnknownNameError: A term is neither.
    """
    distilled: dict[str, float] = {}
    for name, weight in weights.items():
        if name not in of_method:
            kinds = (*LOGIT_LOSSES, *FEATURE_LOSSES)
            if name.rpartition(".")[2] not in kinds:
                raise UnknownNameError("loss term", name, [*of_method, *kinds])
            distilled[name] = weight
    return {name: weight for name, weight in weights.items() if name not in distilled}, distilled


def parse_term(name: str, teachers: Sequence[str]) -> Term:
    """Read a term's name.

    Raises:
        RecipeError: Its teacher is not in the recipe.
    """
    prefix, _, kind = name.rpartition(".")
    teacher = prefix or DEFAULT_TEACHER
    if teacher not in teachers:
        where = f"teachers.{prefix}" if prefix else "teacher"
        raise RecipeError(f"loss term {name} in a recipe without {where}", "that teacher", f"set {where}.segmenter")
    return Term(name, teacher, kind)


class FeatureMatch(nn.Module):
    """The student's side of a loss on features: it brings the student's maps to the teacher's channels and grid.

    Args:
        student: The student's encoder.
        teacher: The teacher; it is asked for the levels that are matched.
        kinds: Which of `FEATURE_LOSSES` are wanted. ``adversarial`` alone matches the last level only; it sees the
            maps through the teacher's own encoder.

    Raises:
        RecipeError: No level of the student meets one of the teacher, or the teacher has no encoder of 3 bands.
    """

    def __init__(self, student: Encoder, teacher: FrozenTeacher, kinds: Sequence[str]) -> None:
        super().__init__()
        pairs = pair_levels(student.strides, teacher.strides)
        self.whole = "feature" in kinds
        self.pairs = pairs if self.whole else pairs[-1:]
        levels = [level for _, level in self.pairs]
        teacher.ask(levels)
        self.strides = [teacher.strides[level] for level in levels]
        targets = [teacher.channels[level] for level in levels]
        self.align = FAM([student.channels[level] for level, _ in self.pairs], targets)
        self.discriminator: FeatureDiscriminator | None = None
        if "adversarial" in kinds:
            discriminator = load("geodistill.nn.discriminator:FeatureDiscriminator")
            self.discriminator = discriminator(targets[-1], _view_of(teacher))

    def terms(self, maps: Sequence[Tensor], targets: TeacherOutput, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the losses on features by kind.

        Args:
            maps: ``(B, Ci, Hi, Wi)``, every level of the student.
            targets: The teacher's.
            size: Height and width of the image.
        """
        aligned = self.align([maps[level] for level, _ in self.pairs], map_grids(*size, self.strides))
        matched = [targets.features[level] for _, level in self.pairs]
        terms = {"feature": feature_kd(aligned, matched)} if self.whole else {}
        if self.discriminator is not None:
            of_teacher, of_student = self.discriminator.compare(layer_normalise(matched[-1]), aligned[-1])
            terms["adversarial"] = mse(of_teacher, of_student)
        return terms


class DistillationObjective(Objective):
    """A method's own terms, and distillation terms beside them.

    Args:
        inner: The method's own objective.
        weights: Factor of each distillation term.
        teachers: By name.
        network: The student; its encoder's maps are taken where a term is on features.
        losses: Temperatures.

    Attributes:
        matches: The trained modules of the terms on features, by teacher.

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
        super().__init__(inner.weights | dict(weights))
        self._inner, self._losses = inner, losses
        self._terms = [parse_term(name, list(teachers)) for name in weights]
        self.label_free = inner.label_free | frozenset(weights)
        self._teachers = {term.teacher: teachers[term.teacher] for term in self._terms}
        self.matches = nn.ModuleDict()
        for name, teacher in self._teachers.items():
            kinds = [term.kind for term in self._terms if term.teacher == name]
            if any(kind in LOGIT_LOSSES for kind in kinds):
                teacher.ask(logits=True)
            if any(kind in FEATURE_LOSSES for kind in kinds):
                self.matches[name] = FeatureMatch(_encoder(network), teacher, kinds)
        self._tap = FeatureTap(_encoder(network)) if len(self.matches) else None

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch."""
        terms = self._inner(output, batch, step)
        height, width = batch["image"].shape[-2:]
        maps = [] if self._tap is None else self._tap.take(height, width)
        mask = counted_pixels(batch)
        computed: dict[str, dict[str, Tensor]] = {}
        for name, teacher in self._teachers.items():
            targets = teacher.targets(batch)
            computed[name] = {}
            if name in self.matches:
                match = self.matches[name]
                assert isinstance(match, FeatureMatch)
                computed[name] |= match.terms(maps, targets, (height, width))
            if targets.logits is not None:
                stride = teacher.logits_stride
                student, counted = pool_logits(output.logits.float(), stride), mask[:, ::stride, ::stride]
                kinds = {term.kind for term in self._terms if term.teacher == name}
                for kind in kinds & set(LOGIT_LOSSES):
                    computed[name][kind] = LOGIT_LOSSES[kind](student, targets.logits, counted, self._losses)
        return terms | {term.name: computed[term.teacher][term.kind] for term in self._terms}

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term; distillation terms have the same at every step."""
        return self._inner.weight(name, step) if name in self._inner.weights else self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Move the teachers."""
        self._inner.to(device)
        for teacher in self._teachers.values():
            teacher.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Return all teachers' modules together, each once."""
        modules = [self._inner.teacher_module(), *(teacher.module for teacher in self._teachers.values())]
        return nn.ModuleList([module for module in modules if module is not None])

    def state_dict(self) -> dict[str, Any]:
        """Return the method's own state: distillation terms have none."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the method's own state back."""
        self._inner.load_state_dict(state)


def add_distillation(
    method: Method, weights: Mapping[str, float], teachers: Mapping[str, FrozenTeacher], losses: CommonLosses
) -> Method:
    """Return a method with distillation terms, where any has a factor, and with the recipe's weighting.

    Args:
        method: With its own terms.
        weights: Factor of each distillation term; those of 0 are left out.
        teachers: The recipe's, by name.
        losses: Temperatures and weighting.

    Raises:
        RecipeError: A term does not fit its teacher or student.
        UnknownNameError: No such weighting.
    """
    used = {name: weight for name, weight in weights.items() if weight != 0}
    if used:
        objective = DistillationObjective(method.objective, used, teachers, method.network, losses)
        adapters = objective.matches if len(objective.matches) else None
        method = replace(method, objective=objective, adapters=adapters, teachers={**method.teachers, **teachers})
    return replace(method, weighting=build_weighting(losses.weighting, tuple(method.objective.weights)))


def counted_pixels(batch: Batch) -> Tensor:
    """Return the pixels that terms on logits look at, as a mask: the labelled ones.

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


def _view_of(teacher: FrozenTeacher) -> Encoder:
    """Return the teacher's encoder for a discriminator to look through: the same weights, without forward hooks."""
    if len(teacher.bands) != 3 or teacher.encoder is None:
        raise RecipeError(
            f"the loss 'adversarial' under a teacher of {len(teacher.bands)} bands",
            "a teacher of 3 bands with an encoder, through which the discriminator looks",
        )
    encoder = teacher.encoder
    view = Encoder(encoder.name, encoder.body, encoder.channels, encoder.strides)
    view.norms = encoder.norms
    return view
