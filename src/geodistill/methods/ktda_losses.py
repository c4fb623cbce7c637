"""KTDA's objective: cross-entropy on both heads, and the transfer terms under a frozen teacher (paper Eq. 3-5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.teacher import FrozenTeacher
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
class LossConfig:
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce`` (main head), ``aux`` (auxiliary head), ``kt_mse`` and ``kt_kl``
            (transfer, the mean over levels). A term left out keeps its default; 0 switches it off.
        target_norm: The teacher's features as the student is to match them: ``raw`` as published, ``standardised``
            (mean 0 and deviation 1 a channel, over all batches so far) or ``layernorm`` (the same over the channels
            of a pixel). Raw features let a few loud channels rule the squared error.
        kl_axis: What the divergence's softmax runs over.
        kl_reduction: Mean over distributions, or the released code's sum over the batch size.
        temperature: Softmax temperature of the divergence.
        transfer_steps: Steps of transfer alone, before the labels join.
        transfer_decay: How the transfer's factors fall to 0 between the labels' joining and `transfer_end`.
        transfer_end: Step at which a decaying transfer reaches 0.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    target_norm: TargetNorm = "raw"
    kl_axis: KlAxis = "channel"
    kl_reduction: KlReduction = "mean"
    temperature: float = 1.0
    transfer_steps: int = 0
    transfer_decay: Literal["none", "linear", "cosine"] = "none"
    transfer_end: int | None = None


class KtdaObjective:
    """The terms ``ce``, ``aux``, ``kt_mse`` and ``kt_kl``.

    Args:
        teacher: Gives the targets; runs only at steps where the transfer has a factor.
        levels: Teacher level of each of the network's aligned maps.
        config: Weights and choices.

    Raises:
        UnknownNameError: A weight of no such term.
        RecipeError: A decay without an end after the transfer-only steps.
    """

    def __init__(self, teacher: FrozenTeacher, levels: Sequence[int], config: LossConfig) -> None:
        for name in config.weights:
            if name not in WEIGHTS:
                raise UnknownNameError("loss term", name, WEIGHTS)
        if config.transfer_decay != "none" and (config.transfer_end or 0) <= config.transfer_steps:
            raise RecipeError(
                f"losses.transfer_decay {config.transfer_decay} with transfer_end {config.transfer_end}",
                f"a step above transfer_steps ({config.transfer_steps})",
                "set losses.transfer_end",
            )
        self.weights = WEIGHTS | dict(config.weights)
        self._teacher, self._levels, self._config = teacher, list(levels), config
        self._statistics = nn.ModuleList(RunningStatistics(teacher.channels[level]) for level in self._levels)

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the unweighted terms of one batch in training form."""
        terms = {
            "ce": cross_entropy(output.logits, batch["mask"]),
            "aux": cross_entropy(output.aux["aux"], batch["mask"]),
        }
        student = output.features["aligned"]
        if self.weight("kt_mse", step) == 0 and self.weight("kt_kl", step) == 0:
            # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
            nothing = torch.stack([level.float().sum() for level in student]).sum() * 0.0
            return terms | {"kt_mse": nothing, "kt_kl": nothing}
        targets = self._targets(batch["image"])
        config = self._config
        pairs = list(zip(student, targets, strict=True))
        terms["kt_mse"] = torch.stack([mse(s, t) for s, t in pairs]).mean()
        terms["kt_kl"] = torch.stack(
            [kl(s, t, config.kl_axis, config.kl_reduction, config.temperature) for s, t in pairs]
        ).mean()
        return terms

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term at ``step``: the labels wait for `transfer_steps`, the transfer may decay."""
        config, weight = self._config, self.weights[name]
        if name in ("ce", "aux"):
            return weight if step >= config.transfer_steps else 0.0
        if config.transfer_decay == "none" or config.transfer_end is None:
            return weight
        done = (step - config.transfer_steps) / (config.transfer_end - config.transfer_steps)
        done = min(max(done, 0.0), 1.0)
        return weight * (1 - done if config.transfer_decay == "linear" else (1 + math.cos(math.pi * done)) / 2)

    def to(self, device: torch.device | str) -> None:
        """Move the teacher and the targets' statistics."""
        self._teacher.to(device)
        self._statistics.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Give the teacher's encoder, for counting."""
        return self._teacher.encoder

    def state_dict(self) -> dict[str, Any]:
        """Give the targets' running statistics."""
        return dict(self._statistics.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the targets' running statistics back."""
        self._statistics.load_state_dict(state)

    def _targets(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` sensor units -> the teacher's maps, normalised as asked."""
        maps = self._teacher(image)
        targets: list[Tensor] = []
        for level, statistics in zip(self._levels, self._statistics, strict=True):
            target = maps[level]
            if self._config.target_norm == "standardised":
                assert isinstance(statistics, RunningStatistics)
                statistics.update(target)
                target = statistics.standardise(target)
            elif self._config.target_norm == "layernorm":
                target = layer_normalise(target)
            targets.append(target)
        return targets
