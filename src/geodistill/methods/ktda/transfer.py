"""KTDA's transfer phase: the student's encoder learns the teacher's features before it sees labels.

Not in the paper. Transfer beside the labels leaves most of the teacher unlearnt in a short run; alone, at a learning
rate far above what labels allow, and with each stage fed by the teacher, it gets far closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.methods.ktda.network import KtdaNetwork
from geodistill.methods.ktda.training import TRANSFER, KtdaObjective, TransferPhase
from geodistill.methods.method import all_weights
from geodistill.methods.schema import ScheduleConfig
from geodistill.methods.task import Phase, leave_encoder, refuse_infinite
from geodistill.nn.feature_losses import MAP_LOSSES, FeatureTerms, hidden_error, hide_patches
from geodistill.nn.losses import explained_variance
from geodistill.nn.output import Normalised
from geodistill.spec import Spec

SCHEDULE = ScheduleConfig(kind="cosine", warmup_steps=9, warmup_start=0.1, decay_start=10)
"""Ten steps of linear warm-up, from a tenth of the rate to all of it, then the decay."""

PATCH = 16
"""Least side of a hidden patch in pixels."""

TERMS = (*TRANSFER, *MAP_LOSSES, "masked")
"""The terms of the phase, by their names in ``losses.phase.weights``."""


class AlignedEncoder(nn.Module):
    """The part of the student that transfer trains: its encoder, and its FAM where it has one."""

    def __init__(self, student: KtdaNetwork) -> None:
        super().__init__()
        self.encoder, self.fam = student.encoder, student.fam
        self._student = (student,)  # in a tuple: its other parts are neither trained nor saved here

    def forward(self, image: Tensor, given: Sequence[Tensor] | None = None) -> list[Tensor]:
        """``(B, C, H, W)`` normalised -> maps like the targets; ``given`` as `Encoder.forward` takes it."""
        return self._student[0].align(self.encoder(image, given), image)


class TransferTask(Phase):
    """Trains a student's `AlignedEncoder` in place to compute the teacher's maps; logs each level's explained variance.

    Args:
        student: The network that labels train later.
        objective: Returns targets and terms.
        config: Length, rate, forcing and terms.
        spec: Bands and normalisation.

    Raises:
        UnknownNameError: A weight of no such term.
        RecipeError: A share or the rate is out of its range.
    """

    def __init__(self, student: KtdaNetwork, objective: KtdaObjective, config: TransferPhase, spec: Spec) -> None:
        super().__init__()
        self.name, self.steps = "transfer", config.steps
        self.network = Normalised(spec.mean, spec.std, AlignedEncoder(student))
        self._objective, self._config, self._spec = objective, config, spec
        self._student = (student,)  # in a tuple: the phase's parameters are those of self.network
        weights = all_weights(dict.fromkeys(TERMS, 0.0), config.weights)
        if not (0 < config.hidden <= 1 and 0 <= config.mixup <= 1):
            raise RecipeError(f"losses.phase.hidden {config.hidden}, mixup {config.mixup}", "shares from 0 to 1")
        if config.lr <= 0:
            raise RecipeError(f"losses.phase.lr {config.lr}", "a number above 0")
        more = [name for name in MAP_LOSSES if weights[name] != 0]
        self.more: nn.Module | None = None
        if more:
            self.more = FeatureTerms(more, objective.target_channels)

    def on_fit_start(self) -> None:
        """Bring the teacher to this process's device."""
        self._objective.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match one batch's targets.

        Raises:
            TrainingError: The loss is not finite; the message names the samples.
        """
        if self._config.mixup:
            batch = mix_up(batch, self._config.mixup)
        targets = self._objective.targets(batch)
        forced = self.global_step < self._config.forced * self.steps
        student = self.network(batch["image"], given=targets if forced else None)
        matched, goals = self._objective.matched(student, targets)
        terms = self._objective.transfer_terms(matched, goals)
        if self.more is not None:
            terms |= self.more(matched, goals)
        if self._config.weights.get("masked"):
            terms["masked"] = self._masked(batch["image"], goals)
        refuse_infinite(terms, f"transfer step {self.global_step}", batch["key"], " or lower losses.phase.lr")
        size = len(batch["key"])
        for name, term in terms.items():
            self.log(f"transfer/{name}", term.detach(), batch_size=size)
        if self.global_step % 10 == 0:
            for level, (features, target) in enumerate(zip(matched, goals, strict=True)):
                self.log(f"transfer/r2_{level}", explained_variance(features.detach(), target), batch_size=size)
        loss = torch.stack([self._config.weights.get(name, 0.0) * term for name, term in terms.items()]).sum()
        self.log("transfer/loss", loss.detach(), prog_bar=True, batch_size=size)
        return loss

    def _masked(self, image: Tensor, goals: Sequence[Tensor]) -> Tensor:
        """Return the error of the student's maps of an image with hidden patches, each as large as a coarse pixel."""
        side = max(PATCH, *self._student[0].target_strides)
        shown, hidden = hide_patches(image, self.network.mean, self._config.hidden, side)
        maps = self.network(shown)
        return hidden_error(self._objective.normalised(maps) if self._objective.raw else maps, goals, hidden)

    def configure_optimizers(self) -> Any:
        """AdamW without decay; linear warm-up, then a cosine to 0."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self._config.lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(SCHEDULE.factor, max_steps=self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def finish(self, run: Path) -> None:
        """Leave the encoder in ``run/encoder``, as `read_weights` reads it."""
        leave_encoder(run, self._student[0].encoder, self._spec)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the targets' statistics."""
        checkpoint["objective"] = self._objective.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the targets' statistics back."""
        self._objective.load_state_dict(checkpoint["objective"])


def mix_up(batch: Batch, share: float) -> Batch:
    """Return the batch with each image blended with the one before it, in a share of the calls.

    The teacher sees the same blend, so that no target has to be guessed: function matching (Beyer et al. 2022, Sec. 3),
    each image's factor uniform in 0..1. Random numbers are torch's own, which a run seeds at every step.
    """
    if float(torch.rand(())) >= share:
        return batch
    image = batch["image"]
    factor = torch.rand(len(image), 1, 1, 1, device=image.device)
    mixed: dict[str, Any] = dict(batch)
    for name in ("image", "plain"):
        if name in batch:
            mixed[name] = torch.lerp(mixed[name].float().roll(1, 0), mixed[name].float(), factor)
    return cast(Batch, mixed)
