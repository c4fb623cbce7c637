"""What would stop a run at its first step, found before its folder is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn

from geodistill.data.datamodule import DataModule, collate
from geodistill.errors import RecipeError
from geodistill.methods.method import Method, Objective
from geodistill.methods.task import SegmentationTask

if TYPE_CHECKING:
    from geodistill.data.mixture import SetsDataModule

_ONE_VALUE = "Expected more than 1 value per channel"


def try_batch_of_one(task: SegmentationTask, method: Method, data: DataModule | SetsDataModule) -> None:
    """Run a batch of one image forward, where a run's batches are that small: batch norm may not take it.

    Args:
        task: What is trained on labels; its state is as before afterwards.
        method: What it trains.
        data: Holds the image.

    Raises:
        RecipeError: A map is one pixel, of which batch norm can take no deviation.
    """
    if data.config.batch_size > 1 or not isinstance(data, DataModule):
        return  # several sets are at least as many images
    batch = collate([data.crops[0]])
    modules: list[nn.Module] = [task] if method.phase is None else [task, method.phase]
    with torch.no_grad(), _unchanged(modules, method.objective), torch.random.fork_rng(devices=[]):
        try:
            method.objective(task.train()(batch), batch, 0)
            if method.phase is not None and isinstance(network := getattr(method.phase, "network", None), nn.Module):
                network.train()(batch["image"])
        except ValueError as error:
            if refusal := one_value_error(error):
                raise refusal from error
            raise


def one_value_error(error: ValueError) -> RecipeError | None:
    """Return the error of a batch norm that got one value, in the user's words; ``None`` for any other."""
    if _ONE_VALUE not in str(error):
        return None
    return RecipeError(
        "data.batch_size 1 with a network that normalises over the batch",
        "at least 2: of one image's map of 1 x 1 there is no deviation",
        "set data.batch_size 2 or more, or another network.architecture",
    )


@contextmanager
def _unchanged(modules: list[nn.Module], objective: Objective) -> Iterator[None]:
    """Put running statistics and modes back."""
    state = deepcopy(objective.state_dict())
    modes = [(module, module.training) for root in modules for module in root.modules()]
    buffers = [(buffer, buffer.clone()) for root in modules for buffer in root.buffers()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, value in buffers:
            buffer.copy_(value)
        objective.load_state_dict(state)
