"""Any teacher, any student: distillation terms that every method's recipe can switch on in ``losses.weights``.

A term is named by its kind, such as ``kd``, under the recipe's ``teacher``, or ``<name>.kd`` under one of its
``teachers``. Terms on logits need a teacher with classes, terms on features an encoder on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.method import FEATURE_LOSSES, LOGIT_LOSSES, Method, WrappedObjective, parse_term
from geodistill.methods.schema import CommonLosses
from geodistill.methods.teacher import FrozenTeacher, TeacherOutput, pool_logits
from geodistill.nn.alignment import FAM, FeatureTap, map_grids, pair_levels
from geodistill.nn.encoders import Encoder
from geodistill.nn.feature_losses import MAP_LOSSES, FeatureTerms, feature_kd
from geodistill.nn.logit_losses import channel_wise_kd, logit_kd, relation_inter, relation_intra
from geodistill.nn.losses import layer_normalise, mse
from geodistill.nn.output import SegmentationOutput

if TYPE_CHECKING:
    from geodistill.nn.discriminator import FeatureDiscriminator


def kd(student: Tensor, teacher: Tensor, mask: Tensor, losses: CommonLosses) -> Tensor:
    """Return `logit_kd` at ``kd_temperature``."""
    return logit_kd(student, teacher, mask, losses.kd_temperature)


def cwd(student: Tensor, teacher: Tensor, mask: Tensor, losses: CommonLosses) -> Tensor:
    """Return `channel_wise_kd` at ``cwd_temperature``."""
    return channel_wise_kd(student, teacher, losses.cwd_temperature, mask)


def dist_inter(student: Tensor, teacher: Tensor, mask: Tensor, losses: CommonLosses) -> Tensor:
    """Return `relation_inter` at ``dist_temperature``."""
    return relation_inter(student, teacher, mask, losses.dist_temperature)


def dist_intra(student: Tensor, teacher: Tensor, mask: Tensor, losses: CommonLosses) -> Tensor:
    """Return `relation_intra` at ``dist_temperature``."""
    return relation_intra(student, teacher, mask, losses.dist_temperature)


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
        more = [kind for kind in kinds if kind in MAP_LOSSES]
        self.whole = "feature" in kinds
        self.pairs = pairs if self.whole or more else pairs[-1:]
        levels = [level for _, level in self.pairs]
        teacher.ask(levels)
        self.strides = [teacher.strides[level] for level in levels]
        targets = [teacher.channels[level] for level in levels]
        self.align = FAM([student.channels[level] for level, _ in self.pairs], targets)
        self.more = FeatureTerms(more, targets) if more else None
        self.discriminator: FeatureDiscriminator | None = None
        if "adversarial" in kinds:
            discriminator = load("geodistill.nn.discriminator:FeatureDiscriminator")
            self.discriminator = discriminator(targets[-1], _view_of(teacher))

    def terms(self, maps: Sequence[Tensor], targets: TeacherOutput, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the losses on features by kind, of the student's maps ``(B, Ci, Hi, Wi)`` of an image of ``size``."""
        aligned = self.align([maps[level] for level, _ in self.pairs], map_grids(*size, self.strides))
        matched = [targets.features[level] for _, level in self.pairs]
        terms = {"feature": feature_kd(aligned, matched)} if self.whole else {}
        if self.more is not None:
            terms |= self.more(aligned, [layer_normalise(target) for target in matched])
        if self.discriminator is not None:
            of_teacher, of_student = self.discriminator.compare(layer_normalise(matched[-1]), aligned[-1])
            terms["adversarial"] = mse(of_teacher, of_student)
        return terms


class DistillationObjective(WrappedObjective):
    """A method's own terms, and distillation terms beside them; arguments as for `add_distillation`.

    Attributes:
        matches: The trained modules of the terms on features, by teacher.

    Raises:
        RecipeError: A term does not fit its teacher, or student and teacher have no level in common.
    """

    def __init__(
        self, method: Method, weights: Mapping[str, float], teachers: Mapping[str, FrozenTeacher], losses: CommonLosses
    ) -> None:
        self._losses = losses
        self._terms = [parse_term(name, list(teachers)) for name in weights]
        self._teachers = {term.teacher: teachers[term.teacher] for term in self._terms}
        super().__init__(method.objective, weights, self._teachers.values())
        self.matches = nn.ModuleDict()
        for name, teacher in self._teachers.items():
            kinds = [term.kind for term in self._terms if term.teacher == name]
            if any(kind in LOGIT_LOSSES for kind in kinds):
                teacher.ask(logits=True)
            if any(kind in FEATURE_LOSSES for kind in kinds):
                self.matches[name] = FeatureMatch(_encoder(method.network), teacher, kinds)
        self._tap = FeatureTap(method.network) if len(self.matches) else None

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch."""
        terms = self.inner(output, batch, step)
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
                kinds = dict.fromkeys(term.kind for term in self._terms if term.teacher == name)
                for kind in [kind for kind in kinds if kind in LOGIT_LOSSES]:  # in order, as gradients are summed
                    loss = load(LOGIT_LOSSES[kind])
                    computed[name][kind] = loss(student, targets.logits, counted, self._losses)
        return terms | {term.name: computed[term.teacher][term.kind] for term in self._terms}

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term; of the distillation terms, DIST's may rise from 0."""
        added = name not in self.inner.weights
        rising = self._losses.dist_warmup_steps if added and name.rpartition(".")[2].startswith("dist_") else 0
        return super().weight(name, step) * (min(step / rising, 1.0) if rising else 1.0)


def add_distillation(
    method: Method, weights: Mapping[str, float], teachers: Mapping[str, FrozenTeacher], losses: CommonLosses
) -> Method:
    """Return a method with distillation terms beside its own.

    Args:
        method: With its own terms; its encoder's maps are taken where a term is on features.
        weights: Factor of each distillation term.
        teachers: The recipe's, by name.
        losses: Temperatures.

    Raises:
        RecipeError: A term does not fit its teacher or student.
    """
    objective = DistillationObjective(method, weights, teachers, losses)
    adapters = objective.matches if len(objective.matches) else None
    return replace(method, objective=objective, adapters=adapters, teachers={**method.teachers, **teachers})


def counted_pixels(batch: Batch) -> Tensor:
    """Return the pixels that terms on logits look at, as a mask: the labelled ones.

    Of an image without labels, every valid pixel: a teacher needs no labels, but where a labelled image leaves pixels
    out, be it all of a crop, their classes are not among the legend's.

    Returns:
        ``(B, H, W)`` int64, `IGNORE_INDEX` where a pixel is left out.
    """
    return torch.where(batch["unlabelled"], 0, batch["mask"])


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
    view = Encoder(encoder.name, encoder.body)
    view.norms = encoder.norms
    return view
