"""KTDA's training: cross-entropy on both heads, and the transfer terms under a frozen teacher (paper Eq. 3-5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.ktda.network import KtdaNetwork, KtdaNetworkConfig
from geodistill.methods.method import CommonLosses, Method, Objective
from geodistill.methods.schema import DEFAULT_TEACHER, BuildContext, MethodPlug, Recipe, all_weights
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig
from geodistill.nn.losses import (
    KlAxis,
    KlReduction,
    RunningStatistics,
    TargetNorm,
    cross_entropy,
    kl,
    layer_normalise,
    mse,
)
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "aux": 0.4, "kt_mse": 0.5, "kt_kl": 0.5}
"""The released code's factors; its alpha of 0.5 shares the transfer between squared error and divergence."""


@dataclass(frozen=True)
class TransferPhase:
    """Transfer alone, before the labels: the encoder, and FAM where there is one, learn the teacher's features.

    Attributes:
        steps: Length in optimiser steps; 0 leaves the phase out.
        lr: Peak learning rate of its AdamW, far above what labels bear: ten steps of warm-up, then a cosine to 0.
        forced: Share of the steps, from the first, in which each stage of the student reads the teacher's map of
            the level before instead of its own. Student and teacher must have the same channels and strides.
        weights: Factor of ``kt_mse`` and ``kt_kl`` in this phase.
    """

    steps: int = 0
    lr: float = 1e-2
    forced: float = 0.0
    weights: dict[str, float] = field(default_factory=lambda: {"kt_mse": 1.0, "kt_kl": 0.0})


@dataclass(frozen=True)
class KtdaLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce`` (main head), ``aux`` (auxiliary head), ``kt_mse`` and ``kt_kl``
            (transfer, the mean over levels), and any distillation term. A term left out keeps its default; 0 switches
            it off.
        target_norm: The teacher's features as the student is to match them: ``raw`` as published, ``standardised``
            (mean 0 and deviation 1 a channel, over all batches so far) or ``layernorm`` (the same over the channels
            of a pixel). Raw features let a few loud channels rule the squared error.
        kl_axis: What the divergence's softmax runs over.
        kl_reduction: Mean over distributions, or the released code's sum over the batch size.
        temperature: Softmax temperature of the divergence.
        transfer_decay: How the transfer's factors fall to 0 from the first step to `transfer_end`.
        transfer_end: Step at which a decaying transfer reaches 0.
        phase: Transfer alone, before the labels.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    target_norm: TargetNorm = "raw"
    kl_axis: KlAxis = "channel"
    kl_reduction: KlReduction = "mean"
    temperature: float = 1.0
    transfer_decay: Literal["none", "linear", "cosine"] = "none"
    transfer_end: int | None = None
    phase: TransferPhase = field(default_factory=TransferPhase)


@dataclass(frozen=True)
class KtdaRecipe(Recipe):
    """KTDA: a frozen encoder's features transferred into a student."""

    needs_teacher = True

    method: Literal["ktda"] = "ktda"
    preset: Literal["coherent", "reference"] = "coherent"
    network: KtdaNetworkConfig = field(default_factory=KtdaNetworkConfig)
    losses: KtdaLossConfig = field(default_factory=KtdaLossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    @property
    def phase_steps(self) -> int:
        """Steps of the transfer alone."""
        return self.losses.phase.steps


class KtdaObjective(Objective):
    """The terms ``ce``, ``aux``, ``kt_mse`` and ``kt_kl``.

    Args:
        teacher: Returns the targets; runs only at steps where the transfer has a factor.
        levels: Teacher level of each of the network's aligned maps.
        config: Weights and choices.
        raw: Whether the student's maps stand for the teacher's raw ones, without a projection that could take the
            targets' normalisation up; they are then normalised like the targets.

    Raises:
        UnknownNameError: A weight of no such term.
        RecipeError: A decay without an end.
    """

    label_free = frozenset({"kt_mse", "kt_kl"})

    def __init__(
        self, teacher: FrozenTeacher, levels: Sequence[int], config: KtdaLossConfig, raw: bool = False
    ) -> None:
        super().__init__(all_weights(WEIGHTS, config.weights))
        if config.transfer_decay != "none" and (config.transfer_end or 0) < 1:
            raise RecipeError(
                f"losses.transfer_decay {config.transfer_decay} with transfer_end {config.transfer_end}",
                "a step above 0",
                "set losses.transfer_end",
            )
        teacher.ask(levels)
        self._teacher, self._levels, self._config, self._raw = teacher, list(levels), config, raw
        self._statistics = [RunningStatistics(teacher.channels[level]) for level in self._levels]

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch in training form."""
        terms = {
            "ce": cross_entropy(output.logits, batch["mask"]),
            "aux": cross_entropy(output.aux["aux"], batch["mask"]),
        }
        student = output.features["aligned"]
        if self.weight("kt_mse", step) == 0 and self.weight("kt_kl", step) == 0:
            # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
            nothing = torch.stack([level.float().sum() for level in student]).sum() * 0.0
            return terms | {"kt_mse": nothing, "kt_kl": nothing}
        return terms | self.transfer_terms(student, self.targets(batch))

    def targets(self, batch: Batch) -> list[Tensor]:
        """Return the teacher's raw map for each of the network's aligned maps."""
        features = self._teacher.targets(batch).features
        return [features[level] for level in self._levels]

    def transfer_terms(self, student: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return ``kt_mse`` (Eq. 3) and ``kt_kl`` (Eq. 4), the mean over levels.

        Args:
            student: ``(B, Ci, Hi, Wi)`` a level.
            targets: The teacher's raw maps, same shapes.
        """
        config, pairs = self._config, []
        for features, target, statistics in zip(student, targets, self._statistics, strict=True):
            if config.target_norm == "standardised":
                statistics.update(target)
            pairs.append(
                (self._normalise(features, statistics) if self._raw else features, self._normalise(target, statistics))
            )
        divergence = [kl(s, t, config.kl_axis, config.kl_reduction, config.temperature) for s, t in pairs]
        return {
            "kt_mse": torch.stack([mse(s, t) for s, t in pairs]).mean(),
            "kt_kl": torch.stack(divergence).mean(),
        }

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term at ``step``: the transfer may decay."""
        config, weight = self._config, self.weights[name]
        if name in ("ce", "aux") or config.transfer_decay == "none" or config.transfer_end is None:
            return weight
        done = min(step / config.transfer_end, 1.0)
        return weight * (1 - done if config.transfer_decay == "linear" else (1 + math.cos(math.pi * done)) / 2)

    def to(self, device: torch.device | str) -> None:
        """Move the teacher and the targets' statistics."""
        self._teacher.to(device)
        for statistics in self._statistics:
            statistics.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Return the teacher's encoder, for counting."""
        return self._teacher.module

    def state_dict(self) -> dict[str, Any]:
        """Return the targets' running statistics."""
        return {str(i): dict(statistics.state_dict()) for i, statistics in enumerate(self._statistics)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the targets' running statistics back."""
        for i, statistics in enumerate(self._statistics):
            statistics.load_state_dict(state[str(i)])

    def _normalise(self, maps: Tensor, statistics: RunningStatistics) -> Tensor:
        if self._config.target_norm == "standardised":
            return statistics.standardise(maps)
        return layer_normalise(maps) if self._config.target_norm == "layernorm" else maps


PRESETS: dict[str, dict[str, Any]] = {
    "coherent": {},
    # The released code: FMM on the neck's rescaled maps (16 times the tokens at level 1), auxiliary head behind it,
    # softmax over the image's width, and the sum of all rows over the batch size.
    "reference": {
        "network": {"order": "neck_fmm", "aux_from": "fmm"},
        "losses": {"kl_axis": "width", "kl_reduction": "batchmean"},
    },
}
"""Recipe values by preset, laid under the recipe's own."""


def build(recipe: KtdaRecipe, context: BuildContext) -> Method:
    """Return student, objective and the transfer phase where it has steps.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: Student and teacher do not fit each other.
        ArtifactError: Weights are not available or do not fit.
    """
    spec, network, losses = context.spec, recipe.network, recipe.losses
    frozen = context.teachers[DEFAULT_TEACHER]
    arguments: dict[str, Any] = {
        "encoder": network.encoder,
        "teacher_channels": list(frozen.channels),
        "teacher_strides": list(frozen.strides),
        "decode_from": network.decode_from,
        "align": network.align,
        "fmm_blocks": network.fmm_blocks,
        "fmm_heads": network.fmm_heads,
        "order": network.order,
        "aux_from": network.aux_from,
        "decoder": network.decoder,
        "decoder_channels": network.decoder_channels,
    }
    student = KtdaNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = student.encoder.name
    levels = [level for _, level in student.pairs]
    objective = KtdaObjective(frozen, levels, losses, raw=network.align == "none")
    method = Method("ktda", arguments, student, objective, teachers={DEFAULT_TEACHER: frozen})
    if losses.phase.steps == 0:
        return method
    if losses.phase.forced > 0:
        _check_forcing(student)
    transfer = load("geodistill.methods.ktda.transfer:transfer_task")
    method.phase = transfer(student, objective, losses.phase, spec)
    return method


def _check_forcing(student: KtdaNetwork) -> None:
    """Refuse teacher forcing where the teacher's maps cannot stand in for every level of the student's."""
    if student.fam is not None or len(student.pairs) < len(student.encoder.strides):
        raise RecipeError(
            f"losses.phase.forced with levels {[s for s, _ in student.pairs]} matched",
            "network.align none and every student level matched",
            "set losses.phase.forced: 0",
        )
    student.encoder.check_given()


METHOD = MethodPlug(KtdaRecipe, build, PRESETS)
