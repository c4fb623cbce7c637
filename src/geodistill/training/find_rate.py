"""A learning-rate range test: a short run at growing rates, a picture of its loss, and a rate to begin with."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning

from geodistill.errors import RecipeError, TrainingError
from geodistill.files import check_outputs, check_suffix, write_figure
from geodistill.methods.schema import Recipe
from geodistill.training.fit import open_data, prepare
from geodistill.training.trainer import SeedSteps, check_accelerator, choose_precision, quiet_training

STEPS, LOWEST, HIGHEST = 100, 1e-6, 1.0
SMOOTHING, DIVERGED, FALL, MARGIN = 0.9, 4.0, 0.99, 10.0
"""Share of the running mean of the loss that stays at each step; times its least at which the test ends; the share of
its first value that it must fall to; and how far below the rate of the least loss the proposal lies."""


@dataclass(frozen=True)
class RateTest:
    """What a range test saw.

    Attributes:
        rates: ``optimizer.lr`` at each step.
        losses: Running mean of the loss behind it.
        proposal: The rate to set.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    proposal: float

    def line(self) -> str:
        """Return the proposal as a flag of ``fit``."""
        return f"--optimizer.lr {self.proposal:.1e}"


def find_rate(recipe: Recipe, picture: Path | str, *, verbose: bool = False) -> RateTest:
    """Train a recipe's first steps on labels at rates from 1e-6 to 1, and write a picture of the loss over them.

    The range test of Smith (2017, "Cyclical Learning Rates", Sec. 3.3), with an exponential range and a smoothed loss:
    the proposal is a tenth of the rate at which the loss was least, which leaves a margin to where it diverges. Other
    parameter groups, such as the encoder's, keep their ratio to ``optimizer.lr``. Nothing of the run is kept.

    Args:
        recipe: What is to be trained; its schedule, a phase before the labels, and steps that hold the encoder still
            are left out.
        picture: A ``.png`` file.
        verbose: Show library logs.

    Raises:
        RecipeError: The recipe has no steps on labels, no number of crops, or does not fit its data.
        TrainingError: The loss falls at none of these rates.
        OutputError: The picture cannot be written.
    """
    check_suffix(str(picture), (".png",))
    check_outputs([Path(picture)], [recipe.data.manifest] if recipe.data.manifest else [])
    if "labels" not in recipe.stages:
        raise RecipeError("--find-rate with trainer.max_steps 0", "steps on labels")
    if recipe.data.batch_size == "auto":
        raise RecipeError("--find-rate with data.batch_size auto", "the number of the run, which its rate goes with")
    with quiet_training(verbose):
        check_accelerator(recipe.trainer)
        lightning.seed_everything(recipe.trainer.seed, verbose=False)
        trained = replace(recipe.trainer, max_steps=STEPS, devices=1)
        recipe = replace(recipe, trainer=trained, optimizer=replace(recipe.optimizer, freeze=0.0))
        data = open_data(recipe)
        _, task, _ = prepare(recipe, data)
        growing = GrowingRate(recipe.optimizer.lr)
        trainer = lightning.Trainer(
            accelerator=trained.accelerator,
            devices=1,
            precision=choose_precision(trained.precision, trained.accelerator),
            max_steps=STEPS,
            max_epochs=-1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            accumulate_grad_batches=trained.accumulate,
            gradient_clip_val=recipe.optimizer.clip_norm,
            logger=False,
            callbacks=[growing, SeedSteps(trained.seed)],
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with suppress(TrainingError):  # a loss that is not finite ends the test, as one that has grown too much
            trainer.fit(task, datamodule=data)
    result = RateTest(tuple(growing.rates), tuple(growing.losses), propose_rate(growing.rates, growing.losses))
    draw_rates(result, Path(picture))
    return result


class GrowingRate(lightning.Callback):
    """Sets the rate of each step, and ends the run once its smoothed loss has grown to several times its least.

    Args:
        base: ``optimizer.lr`` of the recipe, which the groups' own rates are compared with.

    Attributes:
        rates: ``optimizer.lr`` at each step.
        losses: Running mean of the loss behind it, without the pull of its start at 0.
    """

    def __init__(self, base: float) -> None:
        self._base, self._mean = base, 0.0
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate."""
        rate = LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["initial_lr"] / self._base
        self.rates.append(rate)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the loss in."""
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * float(outputs["loss"])
        self.losses.append(self._mean / (1 - SMOOTHING ** (len(self.losses) + 1)))
        if self.losses[-1] > DIVERGED * min(self.losses):
            trainer.should_stop = True


def propose_rate(rates: list[float], losses: list[float]) -> float:
    """Return a tenth of the rate at which the loss was least.

    Raises:
        TrainingError: It never fell by a hundredth of its first value.
    """
    least = min(range(len(losses)), key=losses.__getitem__, default=0)
    if not losses or not losses[least] < FALL * losses[0]:
        raise TrainingError(f"the loss falls at no rate from {LOWEST:g} to {HIGHEST:g}", "labels that can be learnt")
    proposal = rates[least] / MARGIN
    return round(proposal, 1 - math.floor(math.log10(proposal)))


def draw_rates(result: RateTest, path: Path) -> None:
    """Write a PNG of the loss over the rates, with the proposal.

    Raises:
        OutputError: It cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.semilogx(result.rates[: len(result.losses)], result.losses, color="tab:blue")
    axes.axvline(result.proposal, color="tab:orange", label=f"proposed: {result.proposal:.1e}")
    axes.set_ylim(top=min(max(result.losses), 1.5 * result.losses[0]))
    axes.set_xlabel("optimizer.lr")
    axes.set_ylabel("loss, running mean")
    axes.legend()
    write_figure(path, figure)
