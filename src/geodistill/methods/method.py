"""What a method hands to the training task: a network, how to rebuild it, and its objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import lightning
import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.nn.output import SegmentationOutput


class Objective(Protocol):
    """The named loss terms of a method, with any frozen teacher they need.

    It is no part of the network, so a teacher stays out of the optimiser, of DDP and of checkpoints.

    Attributes:
        weights: The factor of each term before any schedule.
    """

    weights: dict[str, float]

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the unweighted terms of one batch: scalars with a graph, under the same names at every step."""
        ...

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term at ``step`` (from 0)."""
        ...

    def to(self, device: torch.device | str) -> None:
        """Move the teacher, if any."""
        ...

    def teacher_module(self) -> nn.Module | None:
        """Give the frozen teacher's encoder, for counting; ``None`` where there is none."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run needs, such as running statistics; no teacher weights."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        ...


class Phase(lightning.LightningModule):
    """A training task of its own that runs before the main one, on the same data.

    Attributes:
        name: For the progress line.
        steps: Its length in optimiser steps.
    """

    name: str
    steps: int


@dataclass
class Method:
    """A method ready to train.

    Attributes:
        name: Key of the network's class in ``geodistill.segmenter.NETWORKS``.
        arguments: JSON-able keyword arguments that rebuild the network for inference, with ``auxiliary=False``.
        network: The training form; takes normalised images.
        objective: Its loss terms.
        phase: What to train before the network, sharing its modules; ``None`` where there is nothing.
    """

    name: str
    arguments: dict[str, Any]
    network: nn.Module
    objective: Objective
    phase: Phase | None = None
