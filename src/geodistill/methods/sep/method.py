"""SEP put together: network and objective, for several sets or for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from geodistill.data.sample import Batch
from geodistill.errors import UnknownNameError
from geodistill.methods.method import Method, no_context
from geodistill.methods.sep.losses import LossConfig, SepObjective
from geodistill.methods.sep.network import NetworkConfig, SepNetwork
from geodistill.spec import Spec


def build(spec: Spec, network: NetworkConfig, losses: LossConfig, sets: Mapping[str, Spec] | None = None) -> Method:
    """Build network and objective for data of a Spec.

    Args:
        spec: Bands, and the classes of all sets together.
        network: The network.
        losses: The loss terms.
        sets: Spec of each set by name; one head without a name where there are none.

    Raises:
        UnknownNameError: Unknown encoder, architecture or loss term.
        RecipeError: The encoder's maps do not do.
        ArtifactError: Weights cannot be had or do not fit.
    """
    known = LossConfig().weights
    for name in losses.weights:
        if name not in known:
            raise UnknownNameError("loss term", name, known)
    terms = ("class", "mask", "dice") if network.architecture == "mask2former" else ("ce",)
    arguments: dict[str, Any] = {
        "architecture": network.architecture,
        "encoder": network.encoder,
        "decoder_channels": network.decoder_channels,
    }
    if sets:
        arguments["sets"] = {name: own.classes for name, own in sets.items()}
    module = SepNetwork(
        spec.channels,
        spec.classes,
        **arguments,
        encoder_weights=network.encoder_weights,
        pass_per_set=network.pass_per_set,
    )
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = module.encoder.name
    weights = known | dict(losses.weights)
    objective = SepObjective({term: weights[term] for term in terms}, tuple(sets or ()))
    return Method("sep", arguments, module, objective, context=sets_of if sets else no_context)


def sets_of(batch: Batch) -> dict[str, Tensor]:
    """Give the network which set each image of a batch is of."""
    return {"sets": batch["set"]}
