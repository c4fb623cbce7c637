"""What would stop a run at its first step, found before its folder is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

from geodistill.data.datamodule import DataModule
from geodistill.data.loading import collate
from geodistill.methods.method import Method, Objective
from geodistill.methods.task import SegmentationTask
from geodistill.training.trainer import one_value_error


def try_batch_of_one(task: SegmentationTask, method: Method, data: DataModule) -> None:
    """Run a batch of one image forward, which batch norm may not take; the state of all is as before afterwards.

    Raises:
        RecipeError: A map is one pixel, of which batch norm can take no deviation.
    """
    batch = collate([data.crops[0]])
    modules: list[nn.Module] = [task] if method.phase is None else [task, method.phase]
    with torch.no_grad(), _unchanged(modules, method.objective), torch.random.fork_rng(devices=[]):
        try:
            batch = method.objective.prepare(batch)
            method.objective(task.train()(batch), batch, 0)
            if method.phase is not None and isinstance(network := getattr(method.phase, "network", None), nn.Module):
                network.train()(batch["image"])
        except ValueError as error:
            if refusal := one_value_error(error):
                raise refusal from error
            raise


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
