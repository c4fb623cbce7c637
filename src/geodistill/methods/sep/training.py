"""SEP's training: each set's own losses, summed (section 4.1.2: L = L_1 + L_2 + ... + L_M)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from geodistill.data.data_config import SetsConfig
from geodistill.data.sampling import Batch
from geodistill.lazy import load
from geodistill.methods.method import (
    BuildContext,
    Method,
    MethodPlug,
    Objective,
    all_weights,
    network_arguments,
    no_context,
)
from geodistill.methods.schema import CommonLosses, Recipe
from geodistill.methods.sep.network import SepNetwork, SepNetworkConfig, SepOutput
from geodistill.nn.losses import cross_entropy
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "class": 2.0, "mask": 5.0, "dice": 5.0}


@dataclass(frozen=True)
class SepLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term, the same for every set: ``ce`` of U-Net and UPerNet, ``class``, ``mask`` and
            ``dice`` of Mask2Former. Where there is one set, any distillation term under a teacher, too.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))


@dataclass(frozen=True)
class SepRecipe(Recipe):
    """SEP: one network learns several data sets at once, a head for each; or is fine-tuned on one."""

    method: Literal["sep"] = "sep"
    data: SetsConfig = field(default_factory=SetsConfig)
    network: SepNetworkConfig = field(default_factory=SepNetworkConfig)
    losses: SepLossConfig = field(default_factory=SepLossConfig)

    def idle_keys(self) -> dict[str, str]:
        """Return the key of U-Net's head where the segmentor is another, too."""
        idle, architecture = super().idle_keys(), self.network.architecture
        if architecture != "unet":
            idle["network.head_kernel"] = f"network.architecture is {architecture}"
        return idle


class SepObjective(Objective):
    """The losses of every set on its own part of the batch, called ``set.term`` where there are sets."""

    def __init__(self, weights: Mapping[str, float], sets: Sequence[str] = ()) -> None:
        super().__init__({_term(name, term): factor for name in sets or [""] for term, factor in weights.items()})

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return each set's terms: the means over its labelled pixels, 0 with a graph where it has none."""
        assert isinstance(output, SepOutput)
        terms: dict[str, Tensor] = {}
        masks = torch.split(batch["mask"], [len(logits) for logits in output.by_set.values()])
        for (name, logits), mask in zip(output.by_set.items(), masks, strict=True):
            queries = output.queries.get(name)
            if queries is None:
                losses = {"ce": cross_entropy(logits, mask)}
            else:
                losses = load("geodistill.methods.sep.mask2former:query_losses")(queries, mask)
            terms |= {_term(name, term): value for term, value in losses.items()}
        return terms


def _term(name: str, term: str) -> str:
    return f"{name}.{term}" if name else term


def build(recipe: SepRecipe, context: BuildContext) -> Method:
    """Return network and objective, for several sets or for one.

    Raises:
        UnknownNameError: Unknown encoder, architecture or loss term.
        RecipeError: The encoder's maps do not fit.
        ArtifactError: Weights are not available or do not fit.
    """
    network, spec, sets = recipe.network, context.spec, context.sets
    weights = all_weights(WEIGHTS, recipe.losses.weights)
    terms = ("class", "mask", "dice") if network.architecture == "mask2former" else ("ce",)
    arguments = network_arguments(network, "pass_per_set")
    if sets:
        arguments["sets"] = {name: each.classes for name, each in sets.items()}
    module = SepNetwork(
        spec.channels,
        spec.classes,
        **arguments,
        encoder_weights=network.encoder_weights,
        pass_per_set=network.pass_per_set,
    )
    objective = SepObjective({term: weights[term] for term in terms}, tuple(sets))
    return Method("sep", arguments, module, objective, context=sets_of if sets else no_context)


def sets_of(batch: Batch) -> dict[str, Tensor]:
    """Return which set each image of a batch is of, for the network."""
    return {"sets": batch["set"]}


PRESETS: dict[str, dict[str, Any]] = {
    # The paper: mini-batches form "a collective large batch, which is then fed into the network" (section 4.1.2), and
    # U-Net's head has a 1x1 convolution (section 4.1.1).
    "printed": {"network": {"pass_per_set": False, "head_kernel": 1}},
    "released": {"network": {"pass_per_set": True, "head_kernel": 3}},
}
"""Choices of form by preset, laid under the recipe's values."""


METHOD = MethodPlug(SepRecipe, build, PRESETS)
