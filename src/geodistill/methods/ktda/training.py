"""KTDA's training: cross-entropy on both heads (Eq. 7-8), and transfer under a frozen teacher (Eq. 3-5).

The total is Eq. 9, whose factors, all of Eq. 5, 8 and 9 multiplied out, are `WEIGHTS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.ktda.network import KtdaNetwork, KtdaNetworkConfig
from geodistill.methods.method import (
    DEFAULT_TEACHER,
    BuildContext,
    Method,
    MethodPlug,
    Objective,
    all_weights,
    network_arguments,
)
from geodistill.methods.schema import CommonLosses, Preset, Recipe
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig
from geodistill.nn.encoders import build_encoder, parse_name
from geodistill.nn.losses import (
    KlAxis,
    KlDirection,
    KlReduction,
    MseReduction,
    TargetNorm,
    TargetNormaliser,
    cross_entropy,
    kl,
    mse,
)
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "aux": 0.4, "kt_mse": 0.5, "kt_kl": 0.5}
"""Factors of Eq. 9: 1 x (1.0, 0.4) of Eq. 8, and 1 x (0.5, 0.5) of Eq. 5; the released code's are the same."""

TRANSFER = ("kt_mse", "kt_kl")
"""The terms that ask the teacher."""


@dataclass(frozen=True)
class TransferPhase:
    """Transfer alone, before the labels: the encoder, and FAM where there is one, learn the teacher's features.

    Attributes:
        steps: Length in optimiser steps; 0 leaves the phase out.
        lr: Peak learning rate of its AdamW, far above what labels bear: ten steps of warm-up, then a cosine to 0.
        forced: Share of the steps, from the first, in which each stage of the student reads the teacher's map of
            the level before instead of its own. Student and teacher must have the same channels and strides. At a
            high rate the steps after it can undo what it taught.
        weights: Factor of each term in this phase: ``kt_mse``, ``kt_kl``, ``cosine``, ``relation``, ``query`` and
            ``masked``; the last four are those of `geodistill.nn.feature_losses`.
        hidden: Share of the image's patches that the student does not see, for ``masked``.
        mixup: Share of the steps whose images are blends of two, for student and teacher alike.
    """

    steps: int = 0
    lr: float = 1e-2
    forced: float = 0.0
    weights: dict[str, float] = field(default_factory=lambda: {"kt_mse": 1.0, "kt_kl": 0.0})
    hidden: float = 0.5
    mixup: float = 0.0


@dataclass(frozen=True)
class KtdaLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce`` (main head), ``aux`` (auxiliary head), ``kt_mse`` and ``kt_kl``
            (transfer, the mean over levels), and any distillation term. A term left out keeps its default; 0 switches
            it off.
        target_norm: The teacher's features as the student is to match them: ``raw`` as published, ``standardised``
            (mean 0 and deviation 1 a channel, over all batches so far), ``layernorm`` (the same over the channels
            of a pixel) or ``phi_s`` (rotated so that one factor standardises all channels, see `PhiS`). Raw features
            let a few loud channels rule the squared error.
        mse_reduction: Mean of squares, or the squared norm of each image's difference, as Eq. 3 is printed.
        kl_axis: What the divergence's softmax runs over; the paper names neither softmax nor axis.
        kl_reduction: ``mean`` over distributions, or ``batchmean``: their sum over the batch size, as released.
        kl_direction: KL(teacher || student) as released, or KL(student || teacher) as Eq. 4 is printed.
        temperature: Softmax temperature of the divergence, which is multiplied by its square; 1 as released.
        transfer_decay: How the transfer's factors fall to 0 from the first step to `transfer_end`.
        transfer_end: Step at which a decaying transfer reaches 0.
        phase: Transfer alone, before the labels.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    target_norm: TargetNorm = "raw"
    mse_reduction: MseReduction = "mean"
    kl_axis: KlAxis = "channel"
    kl_reduction: KlReduction = "mean"
    kl_direction: KlDirection = "teacher_student"
    temperature: float = 1.0
    transfer_decay: Literal["none", "linear", "cosine"] = "none"
    transfer_end: int | None = None
    phase: TransferPhase = field(default_factory=TransferPhase)


@dataclass(frozen=True)
class KtdaRecipe(Recipe):
    """KTDA: a frozen encoder's features transferred into a student."""

    method: Literal["ktda"] = "ktda"
    preset: Preset = "coherent"
    network: KtdaNetworkConfig = field(default_factory=KtdaNetworkConfig)
    losses: KtdaLossConfig = field(default_factory=KtdaLossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    @property
    def needs_teacher(self) -> bool:
        """Whether any step transfers: without, only the shapes of the teacher's maps are looked at."""
        weights = WEIGHTS | self.losses.weights
        shapes_known = self.teacher.segmenter is None
        return self.phase_steps > 0 or any(weights[name] != 0 for name in TRANSFER) or not shapes_known

    @property
    def phase_steps(self) -> int:
        """Steps of the transfer alone."""
        return self.losses.phase.steps

    def check_teachers(self, taught: str | None, cached: bool) -> None:
        """Refuse blended images of a teacher whose outputs are kept."""
        if cached and self.losses.phase.mixup:
            raise RecipeError("losses.phase.mixup beside teacher.cache", "one of them: what is kept is of one image")

    def idle_keys(self) -> dict[str, str]:
        """Return the keys of FMM, of the decay and of the phase where there is none, and of terms that are off."""
        idle = super().idle_keys()
        if self.network.decode_from == "encoder":
            of_fmm = ("fmm_blocks", "fmm_heads", "order")
            idle |= {f"network.{name}": "network.decode_from: encoder leaves FMM out" for name in of_fmm}
        if self.losses.transfer_decay == "none":
            idle["losses.transfer_end"] = "losses.transfer_decay is none"
        if self.phase_steps == 0:
            of_phase = ("lr", "forced", "weights", "hidden", "mixup")
            idle |= {f"losses.phase.{name}": "losses.phase.steps is 0" for name in of_phase}
        elif not self.losses.phase.weights.get("masked"):
            idle["losses.phase.hidden"] = "losses.phase.weights has no masked"
        return idle


class KtdaObjective(Objective):
    """The terms ``ce``, ``aux``, ``kt_mse`` and ``kt_kl``.

    Args:
        teacher: Returns the targets; runs only at steps where the transfer has a factor. ``None`` where it never has.
        levels: Teacher level of each of the network's aligned maps.
        config: Weights and choices.
        raw: Whether the student's maps stand for the teacher's raw ones, without a projection that could take the
            targets' normalisation up; they are then normalised like the targets.

    Raises:
        UnknownNameError: A weight of no such term.
        RecipeError: A decay without an end, a temperature of 0, or a transfer without a teacher.
    """

    label_free = frozenset(TRANSFER)

    def __init__(
        self, teacher: FrozenTeacher | None, levels: Sequence[int], config: KtdaLossConfig, raw: bool = False
    ) -> None:
        super().__init__(all_weights(WEIGHTS, config.weights))
        if config.transfer_decay != "none" and (config.transfer_end or 0) < 1:
            given = f"losses.transfer_decay {config.transfer_decay} with transfer_end {config.transfer_end}"
            raise RecipeError(given, "a step above 0", "set losses.transfer_end")
        if config.temperature <= 0:
            raise RecipeError(f"losses.temperature {config.temperature}", "a number above 0")
        if teacher is not None:
            teacher.ask(levels)
        elif any(self.weights[name] != 0 for name in TRANSFER):
            raise RecipeError("a transfer without a teacher", "the model to learn from", "set teacher.encoder")
        self._teacher, self._levels, self._config, self.raw = teacher, list(levels), config, raw
        self.target_channels = [] if teacher is None else [teacher.channels[level] for level in self._levels]
        self._norms = [TargetNormaliser(config.target_norm, count) for count in self.target_channels]

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch in training form: Eq. 7, and Eq. 3-4 of `transfer_terms`."""
        mask = batch["mask"]
        terms = {"ce": cross_entropy(output.logits, mask), "aux": cross_entropy(output.aux["aux"], mask)}
        student = output.features["aligned"]
        if self.weight("kt_mse", step) == 0 and self.weight("kt_kl", step) == 0:
            # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
            nothing = torch.stack([level.float().sum() for level in student]).sum() * 0.0
            return terms | {"kt_mse": nothing, "kt_kl": nothing}
        return terms | self.transfer_terms(*self.matched(student, self.targets(batch)))

    def targets(self, batch: Batch) -> list[Tensor]:
        """Return the teacher's raw map for each of the network's aligned maps."""
        assert self._teacher is not None
        features = self._teacher.targets(batch).features
        return [features[level] for level in self._levels]

    def matched(self, student: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the student's maps and the targets as they are compared, by ``target_norm``.

        Args:
            student: ``(B, Ci, Hi, Wi)`` for each level.
            targets: The teacher's raw maps, same shapes.
        """
        for norm, target in zip(self._norms, targets, strict=True):
            norm.update(target)
        return self.normalised(student) if self.raw else list(student), self.normalised(targets)

    def transfer_terms(self, student: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return ``kt_mse`` (Eq. 3) and ``kt_kl`` (Eq. 4) of `matched` maps, the mean over levels."""
        config, pairs = self._config, list(zip(student, targets, strict=True))
        errors = [mse(s, t, config.mse_reduction) for s, t in pairs]
        how = (config.kl_axis, config.kl_reduction, config.temperature, config.kl_direction)
        divergences = [kl(s, t, *how) for s, t in pairs]
        return {"kt_mse": torch.stack(errors).mean(), "kt_kl": torch.stack(divergences).mean()}

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term at ``step``: the transfer may decay."""
        config, weight = self._config, self.weights[name]
        if name in ("ce", "aux") or config.transfer_decay == "none" or config.transfer_end is None:
            return weight
        done = min(step / config.transfer_end, 1.0)
        return weight * (1 - done if config.transfer_decay == "linear" else (1 + math.cos(math.pi * done)) / 2)

    def to(self, device: torch.device | str) -> None:
        """Move the teacher and the targets' statistics."""
        if self._teacher is not None:
            self._teacher.to(device)
        for norm in self._norms:
            norm.statistics.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Return the teacher's encoder, for counting; ``None`` where nothing is transferred."""
        return None if self._teacher is None else self._teacher.module

    def state_dict(self) -> dict[str, Any]:
        """Return the targets' running statistics."""
        return {str(i): dict(norm.statistics.state_dict()) for i, norm in enumerate(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the targets' running statistics back."""
        for i, norm in enumerate(self._norms):
            norm.statistics.load_state_dict(state[str(i)])

    def normalised(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return maps of each level like the teacher's, normalised as ``target_norm`` says, without measuring them."""
        return [norm(level) for norm, level in zip(self._norms, maps, strict=True)]


PRESETS: dict[str, dict[str, Any]] = {
    # The paper: Eq. 3's norm of the whole map, and with it Eq. 4's divergence of the whole map, student first.
    "printed": {
        "losses": {"mse_reduction": "norm", "kl_reduction": "batchmean", "kl_direction": "student_teacher"},
    },
    # The released code: FMM on the neck's rescaled maps (16 times the tokens at level 1), auxiliary head behind it,
    # softmax over the image's width, the sum of all rows over the batch size, a second pass for the transfer, and
    # decay of all but norms; every image once before any is drawn again.
    "released": {
        # PhotoMetricDistortion's 32 of 255 levels are about 0.6 deviations, its 18 steps of hue a tenth of the circle.
        "data": {
            "without_replacement": True,
            **{"brightness": 0.6, "contrast": 0.5, "gamma": 0.0, "saturation": 0.5, "hue": 0.1},
        },
        "network": {"order": "neck_fmm", "aux_from": "fmm", "passes": 2},
        "losses": {"kl_axis": "width", "kl_reduction": "batchmean"},
        "optimizer": {"decay_vectors": True},
    },
}
"""Choices of form by preset, laid under the recipe's values."""


def build(recipe: KtdaRecipe, context: BuildContext) -> Method:
    """Return student, objective and the transfer phase where it has steps.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: Student and teacher do not fit each other.
        ArtifactError: Weights are not available or do not fit.
    """
    spec, network, losses = context.spec, recipe.network, recipe.losses
    frozen = context.teachers.get(DEFAULT_TEACHER)
    channels, strides = teacher_levels(recipe.teacher) if frozen is None else (frozen.channels, frozen.strides)
    taught = {"teacher_channels": list(channels), "teacher_strides": list(strides)}
    arguments = {"encoder": network.encoder, **taught, **network_arguments(network, "passes")}
    if losses.phase.forced > 0:
        arguments["encoder"] = _twin(network.encoder, frozen)
    weights, passes = network.encoder_weights, network.passes
    student = KtdaNetwork(spec.channels, spec.classes, **arguments, encoder_weights=weights, passes=passes)
    levels = [level for _, level in student.pairs]
    objective = KtdaObjective(frozen, levels, losses, raw=network.align == "none")
    teachers = {} if frozen is None else {DEFAULT_TEACHER: frozen}
    method = Method("ktda", arguments, student, objective, teachers=teachers)
    if losses.phase.steps == 0:
        return method
    if losses.phase.forced > 0:
        _check_forcing(student)
    method.phase = load("geodistill.methods.ktda.transfer:TransferTask")(student, objective, losses.phase, spec)
    return method


def teacher_levels(config: TeacherConfig) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return channels and stride of each level of an encoder as the teacher, without building or fetching its weights.

    Raises:
        RecipeError: The encoder has no such levels.
        UnknownNameError: No such encoder.
    """
    with torch.device("meta"):
        encoder = build_encoder(config.encoder, indices=config.indices)
    return encoder.channels, encoder.strides


def _twin(name: str, teacher: FrozenTeacher | None) -> str:
    """Return an encoder's name with the options of the teacher's, such as its padding, where that is the same one."""
    if teacher is None or teacher.encoder is None or parse_name(teacher.encoder.name)[0] != name:
        return name
    return teacher.encoder.name


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
