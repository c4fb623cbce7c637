"""MAFLNet's training: cross-entropy, Dice and the auxiliary head's cross-entropy (Eq. 20-24).

The student's relations with its teacher (Eq. 25, 26) are the terms ``dist_inter`` and ``dist_intra`` that every
recipe can switch on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, check_name
from geodistill.methods.maflnet.network import MaflNetwork, MaflNetworkConfig
from geodistill.methods.method import BuildContext, Method, MethodPlug, Objective, all_weights, network_arguments
from geodistill.methods.schema import CommonLosses, Recipe
from geodistill.nn.losses import DICE, Dice, cross_entropy, labelled_pixels
from geodistill.nn.output import SegmentationOutput

CeMean = Literal["labelled", "all"]

WEIGHTS = {"ce": 1.0, "dice": 1.0, "aux": 1.0}
"""The paper's factors (Eq. 23)."""


@dataclass(frozen=True)
class MaflLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce``, ``dice`` and ``aux`` (the auxiliary head's cross-entropy), and any of
            the distillation terms under a teacher. A term left out keeps its default; 0 for ``aux``: no such head.
        smoothing: Label smoothing of the cross-entropies.
        dice: ``region`` is soft Dice over all pixels of a class in the batch (GeoSeg), ``pixel`` is Eq. 21 as
            printed, which for one-hot labels is 1 - 2p / (1 + p) of the true class's probability p.
        ce_mean: The cross-entropies' mean over ``labelled`` pixels, or over ``all`` (GeoSeg's code), where ignored
            ones weigh as zeros.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    smoothing: float = 0.05
    dice: Dice = "region"
    ce_mean: CeMean = "labelled"


@dataclass(frozen=True)
class MaflnetRecipe(Recipe):
    """SAM2-MAFLNet, teacher or student."""

    method: Literal["maflnet"] = "maflnet"
    network: MaflNetworkConfig = field(default_factory=MaflNetworkConfig)
    losses: MaflLossConfig = field(default_factory=MaflLossConfig)

    def idle_keys(self) -> dict[str, str]:
        """Return the keys of modules, heads and terms that are off, and what is for an encoder that does not learn."""
        network, weights, idle = self.network, WEIGHTS | self.losses.weights, super().idle_keys()
        for part, config in (("maca", network.maca), ("lhfem", network.lhfem)):
            if not config.enabled:
                names = [f.name for f in fields(config) if f.name != "enabled"]
                idle |= {f"network.{part}.{name}": f"network.{part}.enabled is false" for name in names}
        if weights["aux"] == 0:
            idle["network.aux_head"] = "losses.weights.aux is 0"
        if network.trained == "none":
            idle |= self.idle_of_encoder("network.trained is none")
        return idle


class MaflObjective(Objective):
    """The terms ``ce``, ``dice`` and, where its factor is not 0, ``aux``.

    Args:
        config: Weights and choices.

    Raises:
        UnknownNameError: A weight of no such term, or no such choice.
        RecipeError: The smoothing is out of its range.
    """

    def __init__(self, config: MaflLossConfig) -> None:
        super().__init__(all_weights(WEIGHTS, config.weights))
        check_name("dice", config.dice, DICE)
        check_name("ce_mean", config.ce_mean, get_args(CeMean))
        if not 0 <= config.smoothing < 1:
            raise RecipeError(f"losses.smoothing {config.smoothing}", "a number from 0 to below 1")
        if self.weights["aux"] == 0:
            del self.weights["aux"]
        self._config = config

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch in training form."""
        mask = batch["mask"]
        dice = DICE[self._config.dice](output.logits, mask)
        terms = {"ce": self._cross_entropy(output.logits, mask), "dice": dice}
        if "aux" in output.aux:
            terms["aux"] = self._cross_entropy(output.aux["aux"], mask)
        return terms

    def _cross_entropy(self, logits: Tensor, mask: Tensor) -> Tensor:
        mean = cross_entropy(logits, mask, smoothing=self._config.smoothing)
        return mean if self._config.ce_mean == "labelled" else mean * labelled_pixels(mask) / mask.numel()


PRESETS: dict[str, dict[str, Any]] = {
    # The paper: the equations as they are printed, where they can be computed.
    "printed": {
        "network": {
            "maca": {
                "angular_norm": False,
                "neighbourhood": "grid",
                "temperature": "divide",
                "norm_axis": "channels",
                "second_map": "same",
            },
            "lhfem": {"norm_before": False, "residual": False, "place": "decoder"},
        },
        "losses": {"smoothing": 0.0, "dice": "pixel"},
    },
    # The paper has no released code. This is the code of its parts: MEGANet's edge module, GeoSeg's losses and
    # auxiliary head; the attention of Castling-ViT, XCiT and AMGCFN is the default.
    "released": {
        "network": {"lhfem": {"norm_before": False}, "aux_head": "conv"},
        "losses": {"weights": {"aux": 0.4}, "ce_mean": "all"},
    },
}
"""Choices of form by preset, laid under the recipe's values."""


def build(recipe: MaflnetRecipe, context: BuildContext) -> Method:
    """Return network and objective, the same for teacher and student.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: The encoder or the choices do not fit each other.
        ArtifactError: Weights are not available or do not fit.
    """
    network, spec = recipe.network, context.spec
    objective = MaflObjective(recipe.losses)
    if "aux" not in objective.weights:
        network = replace(network, aux_head="none")
    arguments = network_arguments(network)
    module = MaflNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    return Method("maflnet", arguments, module, objective)


METHOD = MethodPlug(MaflnetRecipe, build, PRESETS)
