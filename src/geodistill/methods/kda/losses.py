"""KDA's objectives: phase 2's cross-entropy and focal terms, and what phase 1 is set by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.method import CommonLosses
from geodistill.nn.discriminator import Form
from geodistill.nn.losses import KlAxis, TargetNorm, cross_entropy, focal
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 0.4, "focal": 0.6}
"""Phase 2's factors."""

DISTIL_WEIGHTS = {"adversarial": 0.4, "kl": 0.6, "feature": 0.0}
"""Phase 1's factors; ``feature``, the alignment of the levels before the last, is ours."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """What tells the student's features from the teacher's.

    Attributes:
        form: ``scalar`` judges an image, as the released code does; ``patch`` judges every position.
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
        weights: Factor of ``adversarial`` (squared difference of the judgements of student and teacher), ``kl``
            (divergence of the last maps) and ``feature`` (squared error of FAM's alignment of the levels before).
        weighting: As `CommonLosses.weighting`, for this phase's terms.
        temperature: Softmax temperature of ``kl``.
        kl_axis: What its softmax runs over; the paper does not say.
        target_norm: The teacher's last map as discriminator and ``kl`` see it: ``raw`` as published,
            ``standardised`` or ``layernorm``.
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
    target_norm: TargetNorm = "raw"
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    patience: int = 50

    def factors(self) -> dict[str, float]:
        """Give the factor of every term.

        Raises:
            UnknownNameError: A weight of no such term.
            RecipeError: Nothing would be learnt, or a number is out of its range.
        """
        for name in self.weights:
            if name not in DISTIL_WEIGHTS:
                raise UnknownNameError("loss term of losses.phase", name, DISTIL_WEIGHTS)
        factors = DISTIL_WEIGHTS | dict(self.weights)
        if not any(factors.values()) or any(factor < 0 for factor in factors.values()):
            raise RecipeError(f"losses.phase.weights {factors}", "factors of at least 0, one of them above")
        for name in ("epoch_steps", "temperature", "lr", "discriminator_lr", "patience"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"losses.phase.{name} {getattr(self, name)}", "a number above 0")
        return factors


@dataclass(frozen=True)
class LossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term of phase 2: ``ce`` and ``focal``, and any of the bench's under a teacher. A term
            left out keeps its default; 0 switches it off.
        gamma: Exponent of the focal term.
        phase: Phase 1.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    gamma: float = 2.0
    phase: DistilPhase = field(default_factory=DistilPhase)


class KdaObjective:
    """The terms ``ce`` and ``focal``.

    Args:
        weights: Factor of each; those not given are `WEIGHTS`.
        gamma: Exponent of the focal term.
        teacher: Phase 1's, for counting.

    Raises:
        UnknownNameError: A weight of no such term.
    """

    label_free: frozenset[str] = frozenset()

    def __init__(self, weights: Mapping[str, float], gamma: float = 2.0, teacher: nn.Module | None = None) -> None:
        for name in weights:
            if name not in WEIGHTS:
                raise UnknownNameError("loss term", name, WEIGHTS)
        self.weights = WEIGHTS | dict(weights)
        self._gamma, self._teacher = gamma, teacher

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the unweighted terms of one batch."""
        return {
            "ce": cross_entropy(output.logits, batch["mask"]),
            "focal": focal(output.logits, batch["mask"], self._gamma),
        }

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term, the same at every step."""
        return self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Nothing to move: phase 1 moves its teacher itself."""

    def teacher_module(self) -> nn.Module | None:
        """Give phase 1's teacher, for counting."""
        return self._teacher

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
