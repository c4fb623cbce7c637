"""Supervised training: cross-entropy on the logits, and on an auxiliary head's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from geodistill.data.sample import Batch
from geodistill.methods.method import CommonLosses, Method, Objective
from geodistill.methods.schema import BuildContext, MethodPlug, Recipe, all_weights
from geodistill.methods.supervised.network import SupervisedNetwork, SupervisedNetworkConfig
from geodistill.nn.losses import cross_entropy
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "aux": 0.0}


@dataclass(frozen=True)
class SupervisedLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce``, ``aux`` (of an auxiliary FCN head, which is built where this is above 0;
            mmseg's recipes have 0.4), and any distillation term under a teacher.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))


@dataclass(frozen=True)
class SupervisedRecipe(Recipe):
    """A network trained on labels alone."""

    method: Literal["supervised"] = "supervised"
    network: SupervisedNetworkConfig = field(default_factory=SupervisedNetworkConfig)
    losses: SupervisedLossConfig = field(default_factory=SupervisedLossConfig)


class SupervisedObjective(Objective):
    """Cross-entropy on the logits, and on those of the auxiliary head where there is one."""

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``ce``, and ``aux``."""
        auxiliary = {name: cross_entropy(logits, batch["mask"]) for name, logits in output.aux.items()}
        return {"ce": cross_entropy(output.logits, batch["mask"])} | auxiliary


def build(recipe: SupervisedRecipe, context: BuildContext) -> Method:
    """Return network and objective.

    Raises:
        UnknownNameError: Unknown encoder, architecture or loss term.
    """
    weights, network, spec = all_weights(WEIGHTS, recipe.losses.weights), recipe.network, context.spec
    if not weights["aux"]:
        del weights["aux"]
    arguments: dict[str, Any] = {
        "architecture": network.architecture,
        "encoder": network.encoder,
        "frozen_encoder": network.frozen_encoder,
        "decoder_channels": network.decoder_channels,
    }
    if network.scale != 1:
        arguments["scale"] = network.scale
    module = SupervisedNetwork(
        spec.channels,
        spec.classes,
        **arguments,
        encoder_weights=network.encoder_weights,
        aux_head="aux" in weights,
    )
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = module.encoder.name
    return Method("supervised", arguments, module, SupervisedObjective(weights))


METHOD = MethodPlug(SupervisedRecipe, build)
