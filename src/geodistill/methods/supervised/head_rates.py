"""Several decoders at rates of their own on one frozen encoder: a search of the rate at the price of one encoder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.methods.method import Method, Objective, WrappedObjective
from geodistill.metrics import ConfusionMatrix
from geodistill.nn.output import SegmentationOutput


class Heads(nn.Module):
    """Copies of a decoder, each with a factor of the learning rate (the multi-head of lightly-train 0.18).

    In training their logits stand beside each other along the classes; in evaluation the chosen head answers alone.

    Args:
        decoder: What each head is at first.
        rates: Factor of the learning rate for each head.
    """

    chosen: Tensor

    def __init__(self, decoder: nn.Module, rates: Sequence[float]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(deepcopy(decoder) for _ in rates)
        for head, rate in zip(self.heads, rates, strict=True):
            head.lr_factor = float(rate)  # type: ignore[assignment]
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    def forward(self, maps: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """Maps -> logits ``(B, heads * K, h, w)`` in training, else ``(B, K, h, w)``."""
        if self.training:
            return torch.cat([head(maps, size) for head in self.heads], 1)
        logits: Tensor = self.heads[int(self.chosen)](maps, size)
        return logits


class EachHead(WrappedObjective):
    """The terms of an objective, each summed over the heads, whose gradients do not meet in a frozen encoder."""

    def __init__(self, inner: Objective, heads: int) -> None:
        super().__init__(inner)
        self._heads = heads

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the sums."""
        parts = [self.inner(SegmentationOutput(logits), batch, step) for logits in output.logits.chunk(self._heads, 1)]
        return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


class HeadChoice(lightning.Callback):
    """Before each validation, lets the head of the best mIoU on the validation images answer from there on."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads

    @torch.no_grad()
    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Score each head, at the price of the decoders and one more pass of the encoder."""
        task: Any = pl_module
        counts = [ConfusionMatrix(task.spec.classes) for _ in self._heads.heads]
        self._heads.training = True  # of this module alone: norms and dropout keep to evaluation
        loader: Any = trainer.val_dataloaders
        for batch in loader:
            logits = task({**batch, "image": batch["image"].to(task.device)}).logits
            for confusion, answers in zip(counts, logits.chunk(len(counts), 1), strict=True):
                confusion.update(answers.argmax(1).cpu().numpy(), batch["mask"].cpu().numpy())
        self._heads.training = False
        scores = torch.tensor([float(confusion.scores(task.spec.legend).miou) for confusion in counts])
        scores = trainer.strategy.reduce(scores.to(task.device), reduce_op="mean").cpu()
        for module in task.modules():  # in the averaged network too
            if isinstance(module, Heads):
                module.chosen.fill_(int(scores.nan_to_num(-1).argmax()))


def with_heads(method: Method, rates: Sequence[float]) -> Method:
    """Return a supervised method whose decoder is several, of which the best is kept in the finished network.

    Raises:
        RecipeError: It has an auxiliary head, which would train the encoder, or a distance head.
    """
    network: Any = method.network
    if network.aux_head is not None:
        raise RecipeError("network.head_rates with losses.weights.aux", "no auxiliary head on a frozen encoder")
    if network.distance:
        raise RecipeError("network.head_rates with losses.weights.distance", "one of them")
    network.decoder = Heads(network.decoder, rates)
    return replace(
        method,
        objective=EachHead(method.objective, len(rates)),
        complete=partial(keep_chosen, rates=tuple(rates)),
        callbacks=(*method.callbacks, HeadChoice(network.decoder)),
        notes=(*method.notes, f"{len(rates)} decoders at {', '.join(f'{rate:g}' for rate in rates)} times the rate"),
    )


def keep_chosen(state: dict[str, Tensor], rates: Sequence[float]) -> dict[str, Tensor]:
    """Return a network's state with the chosen head as its decoder, and say which that is."""
    chosen = int(state["decoder.chosen"])
    rank_zero_only(print)(f"kept the decoder at {rates[chosen]:g} times the rate", file=sys.stderr)
    prefix = f"decoder.heads.{chosen}."
    kept = {name: value for name, value in state.items() if not name.startswith("decoder.")}
    return kept | {
        f"decoder.{name.removeprefix(prefix)}": value for name, value in state.items() if name.startswith(prefix)
    }
