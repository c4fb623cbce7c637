"""The prompts of a run: what they say, which image has which, and their features as the network's table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geodistill.data.manifest import Row
from geodistill.errors import DataError, GeodistillWarning, RecipeError
from geodistill.methods.metasegnet.network import ANY, MetaSegNetwork
from geodistill.spec import Spec
from geodistill.text.climate import WAYS, ZONES
from geodistill.text.features import MOST_TOKENS, FeatureStore
from geodistill.text.llm import Answers, answers_file
from geodistill.text.places import Setting, row_place
from geodistill.text.templates import Prompt, questions, write_prompt

SEASONS = ("spring", "summer", "autumn", "winter")


@dataclass(frozen=True)
class TextConfig:
    """The prompts and who reads them.

    Attributes:
        encoder: Frozen text encoder: a transformers hub id or directory, ``RemoteCLIP-ViT-B-32``, or ``words``,
            which needs no weights.
        kind: ``climate``; ``no-climate``, the classes alone; table V's ``plain`` sentence; or ``none``, the paper's
            vision-only baseline, which has neither alignment nor fusion.
        tokens: Longest prompt in tokens; the paper's 250.
        merged: Read the texts of all classes as one, as the paper does; else each by itself, for an encoder that
            reads few tokens at once, such as CLIP's 77.
        seasons: Tell seasons apart too, by each image's date.
        zone: Climate zone of every image, for a set without georeferencing.
        region: Place of every image (see `geodistill.text.places`), or ``file`` to take it from file names.
        answers: JSON of a language model's answers, as ``geodistill prompts --llm`` writes it, or the name of one that
            the package ships; built-in knowledge where not given.
        llm_model: Whose answers of that file are used.
        store: Directory that keeps the text features, so that other runs need not make them again.
    """

    encoder: str = "bert-base-uncased"
    kind: Literal["climate", "no-climate", "plain", "none"] = "climate"
    tokens: int = MOST_TOKENS
    merged: bool = True
    seasons: bool = False
    zone: str | None = None
    region: str | None = None
    answers: str | None = None
    llm_model: str | None = None
    store: str | None = None


class TextTable:
    """The prompts of a run by key, and the key of each image.

    The features of prompts that images use are made before training, those of all other zones when it is done. Another
    zone's prompt that is too long is left out, with a warning.

    Args:
        text: What the prompts say, and who reads them.
        spec: The classes.
        rows: The images; without any, every prompt counts as used.

    Attributes:
        images: Row of the network's table by the key of an image.

    Raises:
        UnknownNameError: Unknown zone or region.
        DataError: An image is not georeferenced, or its prompt is too long.
        ArtifactError: The text encoder is not available.
        RecipeError: Settings contradict each other.
    """

    def __init__(self, text: TextConfig, spec: Spec, rows: Sequence[Row]) -> None:
        every = prompt_keys(text)
        places = {row.key: place_of(row, text) for row in rows} if every != (ANY,) else {}
        used = {every[prompt_row(every, *place)] for place in places.values()} or set(every)
        self._store = FeatureStore(text.encoder, Path(text.store) if text.store else None, text.tokens, text.merged)
        prompts = _prompts(text, spec, every, used)
        self._store.features(prompts[key] for key in every if key in used)
        if left_out := [key for key in every if not self._store.fits(prompts[key])]:
            warnings.warn(
                f"the model will hold no prompt for {', '.join(left_out)}: too long (text.tokens {text.tokens})",
                GeodistillWarning,
                stacklevel=2,
            )
        self._prompts = {key: prompts[key] for key in every if key not in left_out}
        self._used = used
        self._longest = max(map(self._store.tokens, self._prompts.values()))
        keys = list(self._prompts)
        self.images = {image: prompt_row(keys, *place) for image, place in places.items()}

    @property
    def arguments(self) -> dict[str, Any]:
        """The network's arguments of its table."""
        width = self._store.encoder.width
        return {"prompts": list(self._prompts), "text_tokens": self._longest, "text_width": width}

    def fill(self, network: MetaSegNetwork) -> None:
        """Fill the network's table with the prompts that images use; the rows of others stay empty."""
        features = self._store.features(prompt for key, prompt in self._prompts.items() if key in self._used)
        nothing = torch.empty(0, self._store.encoder.width)
        network.set_text([features.get(prompt.id, nothing) for prompt in self._prompts.values()])

    def completed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a trained network's state with the features of every prompt."""
        features = self._store.features(self._prompts.values())
        text, present = state["text"].clone(), state["present"].clone()
        for row, prompt in enumerate(self._prompts.values()):
            one = features[prompt.id]
            text[row, : len(one)] = one.to(text)
            present[row] = torch.arange(present.shape[1], device=present.device) < len(one)
        return {**state, "text": text, "present": present}

    def rows(self, sources: Sequence[str]) -> Tensor:
        """Return ``(B,)`` int64, the row of the table of each image of a batch."""
        return torch.tensor([self.images[source] if self.images else 0 for source in sources])


def prompt_keys(text: TextConfig) -> tuple[str, ...]:
    """Return the keys of the prompts that a finished network holds: all zones, so that it maps a scene anywhere."""
    if text.kind != "climate":
        return (ANY,)
    if not text.seasons:
        return tuple(ZONES)
    return (*ZONES, *(f"{zone}/{name}" for zone in ZONES for name in SEASONS))


def prompt_row(keys: Sequence[str], zone: str | None, time: str | None = None) -> int:
    """Return the row of the table for a place and a season.

    Raises:
        DataError: The prompts differ by zone and none is given, or the table has none for this zone.
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
    if seasonal not in keys and zone not in keys:
        raise DataError(f"an image in zone {zone}, for which the model has no prompt", f"one of {', '.join(keys)}")
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


def _prompts(text: TextConfig, spec: Spec, keys: Sequence[str], used: set[str]) -> dict[str, Prompt]:
    """Write every key's prompt; those that images use must be answered by the model where one is named."""
    classes, answers = spec.legend.names, None
    if text.answers is not None:
        if text.llm_model is None:
            raise RecipeError("text.answers without text.llm_model", "the model whose answers are used")
        answers = Answers(answers_file(text.answers), text.llm_model)
    written = {}
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
        written[key] = write_prompt(setting, classes, text.kind, writer, text.llm_model or "")
    return written
