"""MetaSegNet's training: cross-entropy, Dice and image-text matching (Eq. 1-3), and each image's prompt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.data.manifest import Row
from geodistill.data.sample import Batch
from geodistill.errors import DataError, GeodistillWarning, RecipeError
from geodistill.methods.metasegnet.matching import MatchingQueue, contrast
from geodistill.methods.metasegnet.network import ANY, MetaSegNetwork
from geodistill.methods.method import CommonLosses, Method, Objective
from geodistill.methods.schema import BuildContext, MethodPlug, Recipe, all_weights
from geodistill.nn.losses import cross_entropy, soft_dice
from geodistill.nn.output import SegmentationOutput
from geodistill.spec import Spec
from geodistill.text.climate import WAYS, ZONES
from geodistill.text.features import MOST_TOKENS, FeatureStore, blank_encoder, text_parameters
from geodistill.text.llm import Answers
from geodistill.text.places import Setting, row_place
from geodistill.text.templates import Prompt, questions, write_prompt

WEIGHTS = {"ce": 1.0, "dice": 1.0, "itm": 1.0}
SEASONS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True)
class MetaSegNetLossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of ``ce``, ``dice`` and ``itm`` (image-text matching). A term left out keeps its default.
        smoothing: Share of each label spread over all classes, GeoSeg's habit.
        queue: Image and text embeddings of earlier batches that the contrastive part compares with.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    smoothing: float = 0.05
    queue: int = 16


@dataclass(frozen=True)
class MetaSegNetworkConfig:
    """The network.

    Attributes:
        encoder: A hierarchical encoder's name.
        encoder_weights: ``pretrained`` (from the hub), a weights file or directory; random where not given.
        width: Channels of the decoder.
        heads: Attention heads.
        align: Use the alignment module (table IV).
        fuse: Use the fusion module (table IV).
    """

    encoder: str = "swin_base_patch4_window7_224"
    encoder_weights: str | None = "pretrained"
    width: int = 256
    heads: int = 8
    align: bool = True
    fuse: bool = True


@dataclass(frozen=True)
class TextConfig:
    """The prompts and who reads them.

    Attributes:
        encoder: Frozen text encoder: a transformers hub id or directory, ``RemoteCLIP-ViT-B-32``, or ``words``,
            which needs no weights.
        kind: ``climate``, or table V's ``no-climate``, ``plain`` and ``none``.
        tokens: Longest prompt in tokens; the paper's 250.
        seasons: Tell seasons apart too, by each image's date.
        zone: Climate zone of every image, for a set without georeferencing.
        region: Place of every image (see `geodistill.text.places`), or ``file`` to take it from file names.
        answers: JSON of a language model's answers, as ``geodistill prompts --llm`` writes it; built-in knowledge
            where not given.
        llm_model: Whose answers of that file are used.
        store: Directory that keeps the text features, so that other runs need not make them again.
    """

    encoder: str = "bert-base-uncased"
    kind: Literal["climate", "no-climate", "plain", "none"] = "climate"
    tokens: int = MOST_TOKENS
    seasons: bool = False
    zone: str | None = None
    region: str | None = None
    answers: str | None = None
    llm_model: str | None = None
    store: str | None = None


@dataclass(frozen=True)
class MetaSegNetRecipe(Recipe):
    """MetaSegNet: where an image was taken becomes text, which helps to say what is in it."""

    method: Literal["metasegnet"] = "metasegnet"
    network: MetaSegNetworkConfig = field(default_factory=MetaSegNetworkConfig)
    text: TextConfig = field(default_factory=TextConfig)
    losses: MetaSegNetLossConfig = field(default_factory=MetaSegNetLossConfig)

    def without_weights(self) -> Self:
        """Return the recipe with network and text encoder randomly initialised, and no store of text features."""
        text = replace(self.text, encoder=blank_encoder(self.text.encoder), store=None)
        return replace(super().without_weights(), text=text)

    def frozen_parts(self) -> dict[str, int]:
        """Return the parameters of the text encoder, where it has any."""
        count = text_parameters(self.text.encoder)
        return {"text encoder": count} if count else {}


class MetaSegNetObjective(Objective):
    """The terms ``ce``, ``dice`` and ``itm``.

    ``itm`` is the mean of both directions of contrast (step 3 of the algorithm in section II-C) plus the matching loss
    (step 4). It is exactly 0 while only one prompt
    is in sight, in batch and queue together: there is nothing to tell apart then.

    Args:
        config: Weights and choices.

    Raises:
        UnknownNameError: A weight of no such term.
    """

    label_free = frozenset({"itm"})

    def __init__(self, config: MetaSegNetLossConfig) -> None:
        super().__init__(all_weights(WEIGHTS, config.weights))
        self._smoothing, self._queue = config.smoothing, MatchingQueue(config.queue)
        self._seen: set[int] = set()
        self._steps = 0

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch in training form."""
        mask = batch["mask"]
        terms = {"ce": cross_entropy(output.logits, mask, self._smoothing), "dice": soft_dice(output.logits, mask)}
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
        if (prompts != prompts[0]).any():
            to_text = contrast(image, torch.cat([text, old_text]), prompt, prompts, temperature)
            to_image = contrast(text, torch.cat([image, old_image]), prompt, prompts, temperature)
            total = total + (to_text + to_image) / 2 + self._match(match, mismatch, prompt)
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
                    "image-text matching is 0: every image so far has the same prompt; it helps only where images of "
                    "several climate zones or seasons are trained together",
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
    # Where nothing reads the text, no image needs a place.
    keys = prompt_keys(text) if network.align or network.fuse else (ANY,)
    images = {row.key: prompt_row(keys, *place_of(row, text)) for row in context.rows} if keys != (ANY,) else {}
    prompts = _prompts(text, spec, keys, {keys[index] for index in images.values()} | {ANY})
    store = FeatureStore(text.encoder, Path(text.store) if text.store else None, text.tokens)
    features = store.features(prompts)
    arguments: dict[str, Any] = {
        "encoder": network.encoder,
        "prompts": list(keys),
        "text_tokens": max(len(one) for one in features.values()),
        "text_width": store.encoder.width,
        "width": network.width,
        "heads": network.heads,
        "align": network.align,
        "fuse": network.fuse,
    }
    module = MetaSegNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = module.encoder.name
    module.set_text([features[prompt.id] for prompt in prompts])

    def batch_prompts(batch: Batch) -> dict[str, Tensor]:
        return {"prompt": torch.tensor([images.get(source, 0) for source in batch["source"]])}

    return Method("metasegnet", arguments, module, MetaSegNetObjective(recipe.losses), context=batch_prompts)


def prompt_keys(text: TextConfig) -> tuple[str, ...]:
    """Return the keys of the prompts that a network holds: all zones, so that a finished one maps a scene anywhere."""
    if text.kind != "climate":
        return (ANY,)
    if not text.seasons:
        return tuple(ZONES)
    return (*ZONES, *(f"{zone}/{name}" for zone in ZONES for name in SEASONS))


def prompt_row(keys: Sequence[str], zone: str | None, time: str | None = None) -> int:
    """Return the row of the table for a place and a season.

    Raises:
        DataError: The prompts differ by zone and none is given.
    """
    if tuple(keys) == (ANY,):
        return 0
    if zone is None:
        raise DataError(
            "an image that does not say where it lies",
            "a position in the file or the manifest",
            WAYS,
        )
    seasonal = f"{zone}/{time}"
    return list(keys).index(seasonal if seasonal in keys else zone)


def place_of(row: Row, text: TextConfig) -> tuple[str, str | None]:
    """Return zone and season of a manifest's row.

    Raises:
        DataError: Nothing says where it lies, or it lies in the open ocean.
    """
    if text.zone is not None and text.region is not None:
        raise RecipeError(f"text.zone {text.zone} and text.region {text.region}", "one of them")
    place = row_place(row if text.seasons else replace(row, date=None), zone=text.zone, region=text.region)
    return place.zone.code, place.setting.season


def _prompts(text: TextConfig, spec: Spec, keys: Sequence[str], used: set[str]) -> list[Prompt]:
    """Write every key's prompt; those that images use must be answered by the model where one is named."""
    classes, answers = spec.legend.names, None
    if text.answers is not None:
        if text.llm_model is None:
            raise RecipeError("text.answers without text.llm_model", "the model whose answers are used")
        answers = Answers(Path(text.answers), text.llm_model)
    written = []
    for key in keys:
        zone, _, time = key.partition("/")
        setting = Setting(None if key == ANY else zone, time or None, spec.gsd)
        known = answers is not None and all(map(answers.has, questions(setting, classes, text.kind)))
        if answers is not None and not known and key in used:
            where = "prompts without climate" if key == ANY else f"zone {key}, which the images lie in"
            raise DataError(
                f"{text.answers} has no answers of {text.llm_model} for {where}",
                "an answer for each class",
                "ask for them with 'geodistill prompts --manifest ... --llm ...'",
            )
        writer = answers.get if answers is not None and known else None
        written.append(write_prompt(setting, classes, text.kind, writer, text.llm_model or ""))
    return written


METHOD = MethodPlug(MetaSegNetRecipe, build)
