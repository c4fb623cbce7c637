"""The learning rate over the steps of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from geodistill.errors import RecipeError


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the steps: linear warm-up, then decay to `end_lr_factor` of the peak.

    Attributes:
        kind: Shape of the decay.
        warmup_steps: Steps of linear warm-up.
        warmup_start: Factor of the peak at step 0 of the warm-up.
        power: Exponent of the ``poly`` decay.
        end_lr_factor: Factor of the peak at the last step.
        cycles: Times that the decay runs, from the peak each time and twice as long as the time before: cosine with
            warm restarts where the kind is ``cosine``.
        decay_start: Step at which the decay begins, where that is not the end of the warm-up; inside the warm-up the
            two factors are multiplied.
        hold_steps: Steps that the decay holds each value: those of an epoch where it was published by epochs.
        encoder_end_lr_factor: As `end_lr_factor`, for the encoder; the same where not given.
    """

    kind: Literal["poly", "cosine", "constant"] = "poly"
    warmup_steps: int = 0
    warmup_start: float = 1e-3
    power: float = 0.9
    end_lr_factor: float = 0.0
    cycles: int = 1
    decay_start: int | None = None
    hold_steps: int = 1
    encoder_end_lr_factor: float | None = None

    def __post_init__(self) -> None:
        if self.cycles < 1 or self.hold_steps < 1:
            raise RecipeError(f"schedule.cycles {self.cycles}, hold_steps {self.hold_steps}", "1 or more")

    def factor(self, step: int, max_steps: int, encoder: bool = False) -> float:
        """Return the learning rate at ``step`` (from 0) as a factor of its peak."""
        warmed = min(step / self.warmup_steps, 1) if self.warmup_steps else 1.0
        warmup = self.warmup_start + (1 - self.warmup_start) * warmed
        start = self.warmup_steps if self.decay_start is None else self.decay_start
        reached = max(step - start, 0) // self.hold_steps * self.hold_steps
        done = min(reached / max(max_steps - start, 1), 1)
        return warmup * self._decay(done, encoder)

    def _decay(self, done: float, encoder: bool) -> float:
        """Return the decay's factor where a share of it is done."""
        left = 1 - (done if self.cycles == 1 else self._within_cycle(done))
        if self.kind == "poly":
            shape = float(left**self.power)
        elif self.kind == "cosine":
            shape = (1 - math.cos(math.pi * left)) / 2
        else:
            return 1.0
        end = self.encoder_end_lr_factor if encoder and self.encoder_end_lr_factor is not None else self.end_lr_factor
        return float(end + (1 - end) * shape)

    def _within_cycle(self, done: float) -> float:
        """Share of the running cycle that is done, of the whole decay's share."""
        first = 1 / (2**self.cycles - 1)  # lengths are first, 2 first, 4 first ... and fill the run
        # Rounding must not put a restart's first step at the end of the cycle before it.
        index = min(int(math.log2(done / first + 1 + 1e-9)), self.cycles - 1)
        return float(min(max((done / first + 1) / 2**index - 1, 0.0), 1.0))
