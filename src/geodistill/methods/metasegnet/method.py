"""MetaSegNet put together: prompts of every climate zone, the network, its objective, and each image's prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geodistill.data.manifest import Row
from geodistill.data.sample import Batch
from geodistill.errors import DataError, RecipeError
from geodistill.methods.metasegnet.losses import LossConfig, MetaSegNetObjective
from geodistill.methods.metasegnet.network import ANY, MetaSegNetwork
from geodistill.methods.method import Method
from geodistill.spec import Spec
from geodistill.text.climate import WAYS, ZONES
from geodistill.text.features import MOST_TOKENS, FeatureStore
from geodistill.text.llm import Answers
from geodistill.text.places import Setting, row_place
from geodistill.text.templates import Prompt, questions, write_prompt

SEASONS = ("spring", "summer", "autumn", "winter")

PRESETS: dict[str, dict[str, Any]] = {"coherent": {}}
"""Recipe values by preset; there is no released code to follow."""


@dataclass(frozen=True)
class NetworkConfig:
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


def build(spec: Spec, network: NetworkConfig, text: TextConfig, losses: LossConfig, rows: Sequence[Row] = ()) -> Method:
    """Build network and objective for data of a Spec.

    Args:
        spec: Classes, bands and normalisation.
        network: The network's choices.
        text: The prompts' choices.
        losses: The loss terms.
        rows: The images that will be seen, to give each its prompt.

    Raises:
        UnknownNameError: Unknown encoder, zone, region or loss term.
        DataError: An image does not say where it lies, or a prompt is too long.
        ArtifactError: Weights cannot be had or do not fit.
        RecipeError: Settings contradict each other.
    """
    # Where nothing reads the text, nobody need know where an image was taken.
    keys = prompt_keys(text) if network.align or network.fuse else (ANY,)
    images = {row.key: prompt_row(keys, *place_of(row, text)) for row in rows} if keys != (ANY,) else {}
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

    def context(batch: Batch) -> dict[str, Tensor]:
        return {"prompt": torch.tensor([images.get(source, 0) for source in batch["source"]])}

    return Method("metasegnet", arguments, module, MetaSegNetObjective(losses), context=context)


def prompt_keys(text: TextConfig) -> tuple[str, ...]:
    """Name the prompts that a network holds: all zones, so that a finished one maps a scene anywhere."""
    if text.kind != "climate":
        return (ANY,)
    if not text.seasons:
        return tuple(ZONES)
    return (*ZONES, *(f"{zone}/{name}" for zone in ZONES for name in SEASONS))


def prompt_row(keys: Sequence[str], zone: str | None, time: str | None = None) -> int:
    """Give the row of the table for a place and a season.

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
    """Give zone and season of a manifest's row.

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
