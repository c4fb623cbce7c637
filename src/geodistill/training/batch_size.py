"""The largest batch that fits into a GPU's memory, found by trying."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only

from geodistill.data.data_config import BATCH_SIZE
from geodistill.data.loading import collate
from geodistill.data.sampling import Batch
from geodistill.errors import GeodistillError, RecipeError
from geodistill.methods.schema import Recipe
from geodistill.training import folder
from geodistill.training.fit import open_data, prepare
from geodistill.training.recipe import load_recipe
from geodistill.training.trainer import choose_precision

LEAST, MOST = 2, 256
MEMORY_SHARE = 0.8
"""Share of the GPU's free memory that a step may take: other steps of a run take somewhat more."""


def with_batch_size(recipe: Recipe, run: Path, restart: bool) -> Recipe:
    """Return a recipe with a number in place of ``data.batch_size: auto``, and print which.

    A run that goes on keeps the number it began with. On a CPU it is the default: memory is no bound there, and time
    grows with every crop.

    Args:
        recipe: What is to be trained.
        run: Its directory.
        restart: Whether an earlier run there does not count.

    Raises:
        RecipeError: Not even two crops fit, or there are several devices or data sets.
    """
    if recipe.trainer.devices > 1:
        raise RecipeError(
            f"data.batch_size auto with trainer.devices {recipe.trainer.devices}", "a number, or one device"
        )
    if getattr(recipe.data, "manifests", ()):
        raise RecipeError("data.batch_size auto with several data sets", "a number, which they divide")
    known = None if restart else _begun_with(run)
    on_gpu = torch.cuda.is_available() and recipe.trainer.accelerator in ("auto", "gpu", "cuda")
    if known is not None:
        chosen, why = known, "as this run began"
    elif on_gpu:
        chosen, why = largest_batch(_fits(recipe)), f"the most that fits into {MEMORY_SHARE:.0%} of the GPU's memory"
        gc.collect()
        torch.cuda.empty_cache()
    else:
        chosen, why = BATCH_SIZE, "the default on a CPU"
    rank_zero_only(print)(f"data.batch_size {chosen}: {why}", file=sys.stderr)
    return replace(recipe, data=replace(recipe.data, batch_size=chosen))


def largest_batch(fits: Callable[[int], bool], most: int = MOST) -> int:
    """Return the largest power of 2 from `LEAST` to ``most`` that fits; each is tried once, from the smallest on.

    Raises:
        RecipeError: The smallest does not.
    """
    size = LEAST
    if not fits(size):
        raise RecipeError(f"data.batch_size auto: a step of {size} crops does not fit", "smaller data.crop or network")
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def _begun_with(run: Path) -> int | None:
    """Return the batch size of the run in a directory; ``None`` where there is none."""
    if not any((run / folder.CHECKPOINTS).glob("*.ckpt")):
        return None
    try:
        return load_recipe(run / folder.RECIPE).data.samples
    except GeodistillError:
        return None  # it is refused where runs are compared


def _fits(recipe: Recipe) -> Callable[[int], bool]:
    """Return what says whether a training step of so many crops fits into the GPU's free memory."""
    step = one_step(recipe, torch.device("cuda"))
    limit = MEMORY_SHARE * torch.cuda.mem_get_info()[0]

    def fits(count: int) -> bool:
        torch.cuda.reset_peak_memory_stats()
        try:
            step(count)
        except torch.OutOfMemoryError:
            return False
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        return torch.cuda.max_memory_allocated() <= limit

    return fits


def one_step(recipe: Recipe, device: torch.device) -> Callable[[int], None]:
    """Return what trains one step of so many crops on a device, of the labels and of a phase before them."""
    trainer = recipe.trainer
    lightning.seed_everything(trainer.seed, verbose=False)
    recipe = replace(recipe, data=replace(recipe.data, batch_size=LEAST, workers=0))
    data = open_data(recipe)
    method, task, _ = prepare(recipe, data)
    tasks = [part.to(device).train() for part in (task, method.phase) if part is not None]
    optimizers = [cast(Any, part.configure_optimizers())["optimizer"] for part in tasks]
    method.objective.to(device)
    sample, precision = data.crops[0], choose_precision(trainer.precision, trainer.accelerator)
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def step(count: int) -> None:
        batch = collate([sample] * count)
        moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        for part, optimizer in zip(tasks, optimizers, strict=True):
            with nullcontext() if half is None else torch.autocast(device.type, half):
                loss: Any = part.training_step(cast(Batch, moved), 0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return step
