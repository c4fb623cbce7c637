"""MAFLNet put together: network and objective, the same for teacher and student."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from geodistill.methods.maflnet.losses import LossConfig, MaflObjective
from geodistill.methods.maflnet.network import MaflNetwork, NetworkConfig
from geodistill.methods.method import Method
from geodistill.spec import Spec

PRESETS: dict[str, dict[str, Any]] = {
    "coherent": {},
    # The equations as they are printed, where they can be computed at all.
    "reference": {
        "network": {
            "maca": {
                "angular_norm": False,
                "temperature": "divide",
                "norm_axis": "channels",
                "second_map": "same",
            },
            "lhfem": {"norm_before": False, "residual": False},
        },
        "losses": {"dice": "pixel", "ce_mean": "all"},
    },
}
"""Recipe values by preset, laid under the recipe's own."""


def build(spec: Spec, network: NetworkConfig, losses: LossConfig) -> Method:
    """Build network and objective for data of a Spec.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: The encoder or the choices do not fit each other.
        ArtifactError: Weights cannot be had or do not fit.
    """
    objective = MaflObjective(losses)
    if "aux" not in objective.weights:
        network = replace(network, aux_head="none")
    arguments = network.arguments()
    module = MaflNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = module.encoder.name
    return Method("maflnet", arguments, module, objective)
