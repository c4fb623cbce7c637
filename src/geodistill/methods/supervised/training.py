"""Supervised training: cross-entropy on the logits, on an auxiliary head's, or other terms on labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.method import BuildContext, Method, MethodPlug, Objective, all_weights, network_arguments
from geodistill.methods.schema import CommonLosses, Recipe
from geodistill.methods.supervised.network import SupervisedNetwork, SupervisedNetworkConfig
from geodistill.nn.distance import distance_loss
from geodistill.nn.imbalance import boundary_cross_entropy, count_class_weights, log_cosh_dice, lovasz, tversky
from geodistill.nn.losses import cross_entropy, focal, soft_dice
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "aux": 0.0, "distance": 0.0}
TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "focal": focal,
    "dice": soft_dice,
    "tversky": tversky,
    "lovasz": lovasz,
    "log_cosh_dice": log_cosh_dice,
    "boundary": boundary_cross_entropy,
}
"""Terms beside ``ce``, of logits and mask."""


@dataclass(frozen=True)
class SupervisedLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of each term: ``ce``, ``focal``, ``dice``, ``tversky``, ``lovasz``, ``log_cosh_dice``,
            ``boundary`` (the cross-entropy near boundaries), ``aux`` (of an auxiliary FCN head, which is built where
            this is above 0; mmseg's recipes have 0.4), ``distance`` (of a distance head, built likewise, by which
            ``predict --objects`` tells touching objects apart), and any distillation term under a teacher.
        class_weights: Weight of each class in ``ce``: ``auto`` counts the manifest's training pixels; all alike where
            not given.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"ce": 1.0, "aux": 0.0})
    class_weights: Literal["auto"] | None = None


@dataclass(frozen=True)
class SupervisedRecipe(Recipe):
    """A network trained on labels alone."""

    method: Literal["supervised"] = "supervised"
    network: SupervisedNetworkConfig = field(default_factory=SupervisedNetworkConfig)
    losses: SupervisedLossConfig = field(default_factory=SupervisedLossConfig)

    def terms(self) -> list[str]:
        """Return the names of the terms on labels."""
        return [*WEIGHTS, *TERMS]

    def check_teachers(self, taught: str | None, cached: bool) -> None:
        """Refuse several decoders beside a term that asks a teacher."""
        if taught is not None and self.network.head_rates:
            raise RecipeError(f"loss term {taught} beside network.head_rates", "labels alone, or one decoder")

    def idle_keys(self) -> dict[str, str]:
        """Return the keys of terms that are off, of images that none learns from, and of an encoder that is frozen."""
        idle = super().idle_keys()
        if (WEIGHTS | self.losses.weights)["ce"] == 0:
            idle["losses.class_weights"] = "losses.weights.ce is 0"
        if not any(weight for name, weight in self.losses.weights.items() if name not in self.terms()):
            idle["data.unlabelled"] = "losses.weights has no term on a teacher"
        if self.network.frozen_encoder:
            idle |= self.idle_of_encoder("network.frozen_encoder is true")
        return idle

    def without_weights(self) -> Self:
        """Return the recipe with the network randomly initialised and all classes alike, which needs no counts."""
        return replace(super().without_weights(), losses=replace(self.losses, class_weights=None))


class SupervisedObjective(Objective):
    """The terms on labels that have a factor, and the cross-entropy of an auxiliary head where there is one.

    Args:
        weights: Factor of each term.
        class_weights: Weight of each class in ``ce``, ``(K,)``; all alike where not given.
    """

    def __init__(self, weights: dict[str, float], class_weights: Tensor | None = None) -> None:
        super().__init__(weights)
        self._class_weights = class_weights
        self._used = [name for name, weight in weights.items() if weight != 0 and name in TERMS]

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``ce``, the others, and ``aux`` and ``distance``."""
        logits, mask = output.logits, batch["mask"]
        terms = {"ce": cross_entropy(logits, mask, class_weights=self._class_weights)}
        terms |= {name: TERMS[name](logits, mask) for name in self._used}
        terms |= {name: cross_entropy(each, mask) for name, each in output.aux.items()}
        return terms if output.distance is None else terms | {"distance": distance_loss(output.distance, mask)}


def _class_weights(recipe: SupervisedRecipe, context: BuildContext) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return the weight of each class, and the line that shows them.

    Raises:
        RecipeError: Nobody counted the classes.
    """
    if recipe.losses.class_weights is None:
        return None, ()
    if not sum(context.class_pixels):
        raise RecipeError("losses.class_weights auto with data whose classes were not counted", "one scanned manifest")
    weights = count_class_weights(context.class_pixels)
    shown = ", ".join(f"{n} {w:.2f}" for n, w in zip(context.spec.legend.names, weights, strict=True))
    return torch.tensor(weights), (f"class weights: {shown}",)


def build(recipe: SupervisedRecipe, context: BuildContext) -> Method:
    """Return network and objective.

    Raises:
        RecipeError: Classes are to be weighed that nobody counted, or the encoder cannot have style noise.
        UnknownNameError: Unknown encoder, architecture or loss term.
    """
    network, spec = recipe.network, context.spec
    weights = all_weights(WEIGHTS | dict.fromkeys(TERMS, 0.0), recipe.losses.weights)
    for head in ("aux", "distance"):
        if not weights[head]:
            del weights[head]
    arguments = network_arguments(network, "scale", "lora", "head_rates", "style_noise")
    if network.scale != 1:
        arguments["scale"] = network.scale
    if "distance" in weights:
        arguments["distance"] = True
    module = SupervisedNetwork(
        spec.channels,
        spec.classes,
        **arguments,
        encoder_weights=network.encoder_weights,
        aux_head="aux" in weights,
    )
    class_weights, notes = _class_weights(recipe, context)
    method = Method("supervised", arguments, module, SupervisedObjective(weights, class_weights), notes=notes)
    if network.style_noise:
        if network.frozen_encoder:
            raise RecipeError("network.style_noise with network.frozen_encoder", "an encoder that is trained")
        load("geodistill.nn.style_noise:add_style_noise")(module.encoder, network.style_noise)
    if network.lora is not None:
        if recipe.init is not None:
            mend = "name that model there; its encoder is taken, and the decoder begins anew"
            raise RecipeError("network.lora with init", "network.encoder_weights", mend)
        adapted = load("geodistill.nn.lora:insert_lora")(module.encoder, network.lora)
        method.complete = partial(load("geodistill.nn.lora:merge_lora"), scaling=adapted)
    if network.head_rates:
        if context.rows and not any(row.split == "val" for row in context.rows):
            raise RecipeError("network.head_rates without validation images", "a val split to choose the best head by")
        method = load("geodistill.methods.supervised.head_rates:with_heads")(method, network.head_rates)
    return method


METHOD = MethodPlug(SupervisedRecipe, build)
