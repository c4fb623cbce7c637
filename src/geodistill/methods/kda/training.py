"""KDA's training: phase 2's cross-entropy and focal terms, and what phase 1 (`distil`) is set by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, check_name
from geodistill.lazy import load
from geodistill.methods.kda.network import KdaNetwork, KdaNetworkConfig
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
from geodistill.nn.discriminator import Form
from geodistill.nn.losses import KlAxis, TargetNorm, cross_entropy, focal
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 0.4, "focal": 0.6}
"""Phase 2's factors (Eq. 4)."""

DISTIL_WEIGHTS = {"adversarial": 0.4, "kl": 0.6, "feature": 0.0}
"""Phase 1's factors (Eq. 3); ``feature``, the alignment of the levels before the last, is ours."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What tells the student's features from the teacher's.

    Attributes:
        form: ``scalar`` scores an image, as the released code does; ``patch`` scores every position.
        encoder: The frozen encoder that it looks through, of three channels.
        weights: Its weights, as ``teacher.weights``.
        width: Channels of its widest layers.
    """

    form: Form = "scalar"
    encoder: str = "vit_base_patch14_dinov2"
    weights: str | None = "pretrained"
    width: int = 512


@dataclass(frozen=True)
class DistilPhase:
    """Phase 1: the encoder learns the teacher's last map, without labels, against a discriminator.

    Both sides have AdamW; each rate falls from its start to its end by a cosine.

    Attributes:
        steps: Length in optimiser steps; 0 leaves the phase out.
        lr: The student's learning rate at the first step.
        end_lr: At the last.
        discriminator_lr: The discriminator's at the first step.
        discriminator_end_lr: At the last.
        epoch_steps: Steps between two changes of the rates: those of an epoch as published, or 1.
        weight_decay: Decay of weight matrices and kernels on both sides.
        clip_norm: Largest L2 norm of either side's gradient; no clipping where not given.
        weights: Factor of ``adversarial`` (squared difference of the discriminator's scores of student and teacher),
            ``kl`` (divergence of the last maps) and ``feature`` (squared error of the levels before, through FAM).
        weighting: As `CommonLosses.weighting`, for this phase's terms.
        temperature: Softmax temperature of ``kl``, which is multiplied by its square, 25: the weights 0.6 and 0.4 are
            of that. Neither paper nor released code says so, nor what the mean is over: here all positions.
        kl_axis: What its softmax runs over; the paper does not say.
        grid: Side of the grid at which the last maps are compared and scored: the released code brings every teacher's
            to its 16, a convolutional one's 7 too. The teacher's own where not given.
        target_norm: The teacher's last map as discriminator and ``kl`` see it: ``raw`` as published,
            ``standardised``, ``layernorm`` or ``phi_s``.
        discriminator: The discriminator.
        patience: Steps that a collapse has to last before it is one.
    """

    steps: int = 0
    lr: float = 5e-5
    end_lr: float = 5e-8
    discriminator_lr: float = 5e-6
    discriminator_end_lr: float = 5e-9
    epoch_steps: int = 1
    weight_decay: float = 0.01
    clip_norm: float | None = None
    weights: dict[str, float] = field(default_factory=lambda: dict(DISTIL_WEIGHTS))
    weighting: Literal["fixed", "uncertainty", "gradient_balance"] = "fixed"
    temperature: float = 5.0
    kl_axis: KlAxis = "channel"
    grid: int | None = None
    target_norm: TargetNorm = "raw"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    patience: int = 50

    def factors(self) -> dict[str, float]:
        """Return the factor of every term.

        Raises:
            UnknownNameError: A weight of no such term.
            RecipeError: Nothing would be learnt, or a number is out of its range.
        """
        for name in self.weights:
            check_name("loss term of losses.phase", name, DISTIL_WEIGHTS)
        factors = DISTIL_WEIGHTS | dict(self.weights)
        if not any(factors.values()) or any(factor < 0 for factor in factors.values()):
            raise RecipeError(f"losses.phase.weights {factors}", "factors of at least 0, one of them above")
        for name in ("epoch_steps", "temperature", "lr", "discriminator_lr", "patience"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"losses.phase.{name} {getattr(self, name)}", "a number above 0")
        for name in ("end_lr", "discriminator_end_lr"):
            if getattr(self, name) < 0:
                raise RecipeError(f"losses.phase.{name} {getattr(self, name)}", "a number from 0")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise RecipeError(f"losses.phase.clip_norm {self.clip_norm}", "a number above 0, or null")
        if self.grid is not None and self.grid < 1:
            raise RecipeError(f"losses.phase.grid {self.grid}", "a side of at least 1")
        return factors


@dataclass(frozen=True)
class KdaLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term of phase 2: ``ce`` and ``focal``, and any distillation term under a teacher. A term
            left out keeps its default; 0 switches it off.
        gamma: Exponent of the focal term; the paper does not say, the released code has 2.
        phase: Phase 1.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    gamma: float = 2.0
    phase: DistilPhase = field(default_factory=DistilPhase)


@dataclass(frozen=True)
class KdaRecipe(Recipe):
    """KDA: an encoder that learns a teacher's features against a discriminator, then a decoder on labels."""

    method: Literal["kda"] = "kda"
    preset: Preset = "coherent"
    network: KdaNetworkConfig = field(default_factory=KdaNetworkConfig)
    losses: KdaLossConfig = field(default_factory=KdaLossConfig)

    @property
    def needs_teacher(self) -> bool:
        """Whether phase 1 has steps: phase 2 learns from labels alone."""
        return self.phase_steps > 0

    @property
    def phase_steps(self) -> int:
        """Steps of phase 1."""
        return self.losses.phase.steps

    def idle_keys(self) -> dict[str, str]:
        """Return DCF's keys under another decoder, phase 1's where it has no steps, and those of terms that are off."""
        idle = super().idle_keys()
        if self.network.decoder != "dcf":
            names: tuple[str, ...] = ("project", "attention", "upsample")
            idle |= {f"network.{name}": f"network.decoder is {self.network.decoder}, not dcf" for name in names}
        if self.phase_steps == 0:
            names = tuple(field.name for field in fields(DistilPhase) if field.name not in ("steps", "discriminator"))
            idle |= {f"losses.phase.{name}": "losses.phase.steps is 0" for name in names}
        elif (DISTIL_WEIGHTS | self.losses.phase.weights)["adversarial"] == 0:
            names = ("discriminator_lr", "discriminator_end_lr", "discriminator.form", "discriminator.width")
            idle |= {f"losses.phase.{name}": "losses.phase.weights.adversarial is 0" for name in names}
        if (WEIGHTS | self.losses.weights)["focal"] == 0:
            idle["losses.gamma"] = "losses.weights.focal is 0"
        return idle

    def without_weights(self) -> Self:
        """Return the recipe with network and discriminator randomly initialised."""
        discriminator = replace(self.losses.phase.discriminator, weights=None)
        losses = replace(self.losses, phase=replace(self.losses.phase, discriminator=discriminator))
        return replace(super().without_weights(), losses=losses)


class KdaObjective(Objective):
    """The terms ``ce`` and ``focal``.

    Args:
        weights: Factor of each; those not given are `WEIGHTS`.
        gamma: Exponent of the focal term.
        teacher: Phase 1's, for counting.

    Raises:
        RecipeError: The exponent is below 0.
        UnknownNameError: A weight of no such term.
    """

    def __init__(self, weights: Mapping[str, float], gamma: float = 2.0, teacher: nn.Module | None = None) -> None:
        super().__init__(all_weights(WEIGHTS, weights))
        if gamma < 0:
            raise RecipeError(f"losses.gamma {gamma}", "a number of at least 0")
        self._gamma, self._teacher = gamma, teacher

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch (Eq. 4)."""
        return {
            "ce": cross_entropy(output.logits, batch["mask"]),
            "focal": focal(output.logits, batch["mask"], self._gamma),
        }

    def teacher_module(self) -> nn.Module | None:
        """Return phase 1's teacher, for counting."""
        return self._teacher


PRESETS: dict[str, dict[str, Any]] = {
    # The paper: Eq. 1's convolutions and its GSoftmax of the pooled means, which make the decoder 2.21 M parameters,
    # no upsampling that it does not name, and scores per position, as it says that the MSE works at the pixel level.
    "printed": {
        "data": {"without_replacement": True},
        "network": {"project": "conv3x3_bn_relu", "attention": "pooled", "upsample": "bilinear"},
        "losses": {"phase": {"grid": 16, "discriminator": {"form": "patch"}}},
    },
    # The released code: what the printed 0.27 M parameters are of, one score per image, and 224 pixels throughout.
    "released": {
        "data": {"without_replacement": True},
        "network": {"project": "conv1x1_gelu", "attention": "per_scale", "upsample": "dysample"},
        "losses": {"phase": {"grid": 16, "discriminator": {"form": "scalar"}}},
    },
}
"""Choices of form by preset, laid under the recipe's values."""


def build(recipe: KdaRecipe, context: BuildContext) -> Method:
    """Return student and objective, and phase 1 where it has steps.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: Phase 1 without a teacher, or student, teacher and data do not fit each other.
        ArtifactError: Weights are not available or do not fit.
    """
    network, losses, spec = recipe.network, recipe.losses, context.spec
    arguments = network_arguments(network)
    student = KdaNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    if losses.phase.steps == 0:
        return Method("kda", arguments, student, KdaObjective(losses.weights, losses.gamma))
    frozen = context.teachers.get(DEFAULT_TEACHER)
    if frozen is None:
        raise RecipeError("losses.phase.steps without a teacher", "the model to learn from", "set teacher.encoder")
    objective = KdaObjective(losses.weights, losses.gamma, frozen.module)
    phase = load("geodistill.methods.kda.distil:DistilTask")(student.encoder, frozen, losses.phase, spec)
    return Method("kda", arguments, student, objective, phase, teachers={DEFAULT_TEACHER: frozen})


METHOD = MethodPlug(KdaRecipe, build, PRESETS)
