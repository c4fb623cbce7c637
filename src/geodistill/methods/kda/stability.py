"""What keeps phase 1 honest: statistics of features and of discriminator scores, and collapses by their names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.errors import GeodistillWarning, TrainingError
from geodistill.nn.discriminator import discriminator_accuracy

LEAST_DIVERSITY = 0.01
"""Share of the teacher's diversity below which a student's features count as all alike."""
SIZE_RANGE = (1e-4, 1e4)
"""Size of a student's features over the teacher's beyond which they have vanished or burst."""
LEAST_SPREAD = 1e-3
"""Deviation of all scores below which a discriminator says nothing."""
WON = 0.98
"""Distance of the mean scores above which a discriminator's gradient is spent."""


@dataclass(frozen=True)
class MapStatistics:
    """Figures of one feature map over a batch.

    Attributes:
        mean: Over everything.
        deviation: Of a channel over images and positions, the mean over channels.
        size: Root mean square.
        diversity: Share of the squared size that varies over images and positions: 0 where all vectors are alike. Each
            position's mean over the channels is left out: a divergence over channels leaves it free.
    """

    mean: float
    deviation: float
    size: float
    diversity: float

    @classmethod
    def of(cls, maps: Tensor) -> MapStatistics:
        """Measure ``(B, C, H, W)``."""
        values = maps.detach().float().transpose(0, 1).flatten(1)
        deviation = values.std(1, correction=0).mean()
        centred = values - values.mean(0)
        diversity = centred.var(1, correction=0).mean() / centred.square().mean().clamp(min=1e-30)
        figures = torch.stack([values.mean(), deviation, values.square().mean().sqrt(), diversity])
        return cls(*figures.tolist())


@dataclass(frozen=True)
class ScoreStatistics:
    """Figures of a discriminator's scores of one batch.

    Attributes:
        accuracy: Share that is told apart, in 0..1.
        distance: Between the mean scores of teacher and student, in 0..1.
        spread: Deviation of all scores.
    """

    accuracy: float
    distance: float
    spread: float

    @classmethod
    def of(cls, teacher: Tensor, student: Tensor) -> ScoreStatistics:
        """Measure scores in 0..1, any shape."""
        teacher, student = teacher.detach().float(), student.detach().float()
        everything = torch.cat([teacher.flatten(), student.flatten()])
        distance = (teacher.mean() - student.mean()).abs()
        figures = torch.stack([discriminator_accuracy(teacher, student), distance, everything.std(correction=0)])
        return cls(*figures.tolist())


class CollapseWatch:
    """Calls a collapse by its name once it has lasted.

    A collapsed student is an error: nothing after it would be worth the time. A discriminator that says nothing, or
    that has won for good, leaves the other terms, so it is a warning, once.

    Args:
        patience: Steps in a row that make it one.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._lasted: dict[str, int] = {}
        self._warned: set[str] = set()

    def look(self, step: int, student: MapStatistics, teacher: MapStatistics, scores: ScoreStatistics | None) -> None:
        """Take one step's figures in.

        Raises:
            TrainingError: The student's features have collapsed, vanished or burst.
        """
        low, high = (bound * teacher.size for bound in SIZE_RANGE)
        if self._lasts("alike", student.diversity < LEAST_DIVERSITY * teacher.diversity):
            raise TrainingError(
                f"the student's features have collapsed at step {step}: they are alike in every place (diversity "
                f"{student.diversity:.2g}, the teacher's {teacher.diversity:.2g})",
                "features that differ from place to place",
                "lower losses.phase.lr or the factor of 'adversarial', or raise that of 'kl'",
            )
        if self._lasts("vanished", student.size < low) or self._lasts("burst", student.size > high):
            what = "vanished" if student.size < low else "burst"
            raise TrainingError(
                f"the student's features have {what} at step {step}: their size is {student.size:.2g}, the teacher's "
                f"{teacher.size:.2g}",
                "features of some size in between",
                "lower losses.phase.lr or set losses.phase.clip_norm",
            )
        if scores is not None:
            self._look_at_scores(step, scores)

    def _look_at_scores(self, step: int, scores: ScoreStatistics) -> None:
        if self._lasts("silent", scores.spread < LEAST_SPREAD):
            self._warn(
                "silent",
                f"the discriminator has collapsed at step {step}: it scores everything alike (deviation "
                f"{scores.spread:.1g}) and teaches nothing; raise losses.phase.discriminator_lr or use its patch form",
            )
        if self._lasts("won", scores.distance > WON):
            self._warn(
                "won",
                f"the discriminator has won at step {step}: its mean scores lie {scores.distance:.3f} apart, their "
                "gradient is spent and the student learns nothing from it; lower losses.phase.discriminator_lr",
            )

    def _lasts(self, name: str, holds: bool) -> bool:
        self._lasted[name] = self._lasted.get(name, 0) + 1 if holds else 0
        return self._lasted[name] >= self._patience

    def _warn(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(message, GeodistillWarning, stacklevel=4)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"lasted": dict(self._lasted), "told": sorted(self._warned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self._lasted, self._warned = dict(state["lasted"]), set(state["told"])
