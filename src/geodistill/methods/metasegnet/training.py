"""MetaSegNet's training: cross-entropy, Dice and image-text matching (Eq. 1-3), and each image's prompt."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.errors import GeodistillWarning, RecipeError, check_name
from geodistill.methods.metasegnet.matching import MatchingQueue, contrast, own_pair, same_prompt
from geodistill.methods.metasegnet.network import ANY, MetaSegNetwork, MetaSegNetworkConfig
from geodistill.methods.metasegnet.text_table import TextConfig, TextTable
from geodistill.methods.method import BuildContext, Method, MethodPlug, Objective, all_weights, network_arguments
from geodistill.methods.schema import CommonLosses, Preset, Recipe
from geodistill.nn.losses import DICE, Dice, cross_entropy
from geodistill.nn.output import SegmentationOutput
from geodistill.spec import Spec
from geodistill.text.text_encoders import blank_encoder, text_parameters

WEIGHTS = {"ce": 1.0, "dice": 1.0, "itm": 1.0}

Contrast = Literal["sum", "mean"]
Positives = Literal["prompt", "pair"]


@dataclass(frozen=True)
class MetaSegNetLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of ``ce``, ``dice`` and ``itm`` (image-text matching). A term left out keeps its default.
        smoothing: Share of each label spread over all classes, GeoSeg's habit.
        dice: ``region`` is soft Dice over all pixels of a class in the batch (GeoSeg), ``pixel`` is Eq. 2 as printed.
        contrast: Both directions' ``sum``, as printed, or ``mean``, as ALBEF has it.
        positives: ``prompt``: every image and text of the same prompt belong together. ``pair``: an image's own text
            alone, as printed, so that equal texts count as each other's negatives.
        queue: Image and text embeddings of earlier batches that the contrastive part compares with.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    smoothing: float = 0.05
    dice: Dice = "region"
    contrast: Contrast = "sum"
    positives: Positives = "prompt"
    queue: int = 16


@dataclass(frozen=True)
class MetaSegNetRecipe(Recipe):
    """MetaSegNet: where an image was taken becomes text, which helps to say what is in it."""

    method: Literal["metasegnet"] = "metasegnet"
    preset: Preset = "coherent"
    network: MetaSegNetworkConfig = field(default_factory=MetaSegNetworkConfig)
    text: TextConfig = field(default_factory=TextConfig)
    losses: MetaSegNetLossConfig = field(default_factory=MetaSegNetLossConfig)

    @property
    def reads_text(self) -> bool:
        """Whether any part of the network reads the text."""
        return self.text.kind != "none" and (self.network.align or self.network.fuse)

    def idle_keys(self) -> dict[str, str]:
        """Return what a text says where there is none."""
        idle = super().idle_keys()
        if self.text.kind == "none":
            idle |= {f"text.{name}": "text.kind is none" for name in ("seasons", "zone", "region")}
        return idle

    def without_weights(self) -> Self:
        """Return the recipe with network and text encoder randomly initialised, and no store of text features."""
        text = replace(self.text, encoder=blank_encoder(self.text.encoder), store=None)
        return replace(super().without_weights(), text=text)

    def frozen_parts(self) -> dict[str, int]:
        """Return the parameters of the text encoder, where it is used and has any."""
        count = text_parameters(self.text.encoder) if self.reads_text else 0
        return {"text encoder": count} if count else {}


class MetaSegNetObjective(Objective):
    """The terms ``ce``, ``dice`` and ``itm``.

    ``itm`` is both directions of contrast plus the matching loss (steps 3 and 4 of the algorithm in section II-C1).
    Where equal prompts are positives of each other, it is exactly 0 while only one prompt is in sight, in batch and
    queue together: there is nothing to tell apart then.

    Args:
        config: Weights and choices.

    Raises:
        UnknownNameError: A weight of no such term, or no such choice.
        RecipeError: The smoothing is out of its range.
    """

    label_free = frozenset({"itm"})

    def __init__(self, config: MetaSegNetLossConfig) -> None:
        super().__init__(all_weights(WEIGHTS, config.weights))
        check_name("dice", config.dice, DICE)
        check_name("contrast", config.contrast, get_args(Contrast))
        check_name("positives", config.positives, get_args(Positives))
        if not 0 <= config.smoothing < 1:
            raise RecipeError(f"losses.smoothing {config.smoothing}", "a number from 0 to below 1")
        self._config, self._queue = config, MatchingQueue(config.queue)
        self._seen: set[int] = set()
        self._steps = 0

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch in training form."""
        mask, dice = batch["mask"], DICE[self._config.dice]
        terms = {"ce": cross_entropy(output.logits, mask, self._config.smoothing), "dice": dice(output.logits, mask)}
        if "match" not in output.features:
            return terms | {"itm": output.logits.sum() * 0.0}
        return terms | {"itm": self._matching(output)}

    def _matching(self, output: SegmentationOutput) -> Tensor:
        names = ("prompt", "image_embedding", "text_embedding", "temperature", "match", "mismatch")
        prompt, image, text, temperature, match, mismatch = (output.features[name][0] for name in names)
        old_image, old_text, old_prompt = self._queue.filled()
        prompts = torch.cat([prompt, old_prompt])
        # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
        nothing = (image.sum() + text.sum() + temperature + match.sum() + mismatch.sum()) * 0.0
        self._warn_of_one_prompt(prompts)
        total = nothing
        if self._config.positives == "pair" or (prompts != prompts[0]).any():
            positive = (same_prompt if self._config.positives == "prompt" else own_pair)(prompt, prompts)
            to_text = contrast(image, torch.cat([text, old_text]), positive, temperature)
            to_image = contrast(text, torch.cat([image, old_image]), positive, temperature)
            both = (to_text + to_image) / (1 if self._config.contrast == "sum" else 2)
            total = total + both + self._match(match, mismatch, prompt)
        self._queue.add(image, text, prompt)
        return total

    def _match(self, match: Tensor, mismatch: Tensor, prompt: Tensor) -> Tensor:
        """Two-way cross-entropy: own prompt against another image's; images without another give their own alone."""
        has_other = (prompt[:, None] != prompt).any(1)
        logits = torch.cat([match, mismatch[has_other]]).float()
        target = torch.cat([torch.ones_like(prompt), torch.zeros_like(prompt[has_other])])
        return F.cross_entropy(logits, target)

    def _warn_of_one_prompt(self, prompts: Tensor) -> None:
        """Say once, after a queue's worth of batches, that the term has nothing to compare."""
        self._steps += 1
        if self._steps <= len(self._queue.prompt):
            self._seen |= set(prompts.tolist())
            if self._steps == len(self._queue.prompt) and len(self._seen) == 1 and self.weights["itm"]:
                warnings.warn(
                    "image-text matching has nothing to tell apart: every image so far has the same prompt; it helps "
                    "only where images of several climate zones or seasons are trained together",
                    GeodistillWarning,
                    stacklevel=2,
                )

    def to(self, device: torch.device | str) -> None:
        """Move the queue."""
        self._queue.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return the queue."""
        return self._queue.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the queue back."""
        self._queue.load_state_dict(state)


def build(recipe: MetaSegNetRecipe, context: BuildContext) -> Method:
    """Return network and objective, each image of the context with its prompt.

    Raises:
        UnknownNameError: Unknown encoder, zone, region or loss term.
        DataError: An image is not georeferenced, or a prompt is too long.
        ArtifactError: Weights are not available or do not fit.
        RecipeError: Settings contradict each other.
    """
    spec, network, text = context.spec, recipe.network, recipe.text
    choices = network_arguments(network)
    choices |= {"align": network.align and recipe.reads_text, "fuse": network.fuse and recipe.reads_text}
    if not recipe.reads_text:  # no image needs a place, and no text encoder is opened
        return _method(recipe, spec, choices | {"prompts": [ANY], "text_tokens": 1, "text_width": 1})
    table = TextTable(text, spec, context.rows)
    method = _method(recipe, spec, choices | table.arguments)
    module: Any = method.network
    table.fill(module)
    method.context, method.complete = lambda batch: {"prompt": table.rows(batch["source"])}, table.completed
    return method


def _method(recipe: MetaSegNetRecipe, spec: Spec, arguments: dict[str, Any]) -> Method:
    """Return the method with an empty table, whose images all take its first row."""
    weights = recipe.network.encoder_weights
    module = MetaSegNetwork(spec.channels, spec.classes, **arguments, encoder_weights=weights)

    def first(batch: Batch) -> dict[str, Tensor]:
        return {"prompt": torch.zeros(len(batch["image"]), dtype=torch.int64)}

    return Method("metasegnet", arguments, module, MetaSegNetObjective(recipe.losses), context=first)


PRESETS: dict[str, dict[str, Any]] = {
    # The paper: its equations and its contrast.
    "printed": {
        "network": {"norm_before": False},
        "losses": {"smoothing": 0.0, "dice": "pixel", "contrast": "sum", "positives": "pair"},
    },
    # The paper has no released code. This is the code of its parts: ALBEF's matching, GeoSeg's losses.
    "released": {"losses": {"contrast": "mean"}},
}
"""Choices of form by preset, laid under the recipe's values."""


METHOD = MethodPlug(MetaSegNetRecipe, build, PRESETS)
