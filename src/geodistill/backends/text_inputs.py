"""Graphs of networks that read text: the features of a prompt as inputs, and as a file beside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.files import atomic_path
from geodistill.nn.output import logits_over_scales
from geodistill.segmenter import Segmenter

TEXT, PRESENT = "text", "present"
"""Names of the graph's further inputs: ``(B, T, D)`` float32 features, and ``(B, T)`` bool where a token is."""


class TextSegmenter(nn.Module):
    """A Segmenter that holds prompts, and takes the features of each image's prompt as inputs.

    Raises:
        ArtifactError: It holds none.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        if not segmenter.prompts:
            raise ArtifactError(f"a {segmenter.name} model, which reads no text", "a metasegnet model")
        self.normalised = segmenter.network
        self.settings = segmenter.settings

    def forward(self, image: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Segment ``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` logits.

        ``text (B, T, D)`` float32 is as long and wide as the model's table; ``present (B, T)`` is True at tokens.
        """
        network: Any = self.normalised.network
        logits = logits_over_scales(
            lambda sized: network.segment(self.normalised.normalise(sized), text, present), image, self.settings.scales
        )
        return self.settings.calibrated(logits)


def prompt_inputs(segmenter: Segmenter, rows: Sequence[int]) -> dict[str, Tensor]:
    """Return the further inputs, on the CPU: ``text (B, T, D)`` float32 and ``present (B, T)`` bool.

    They are those of the prompts at ``rows``; past the last prompt they begin again.
    """
    network: Any = segmenter.network.network
    index = torch.tensor([row % len(segmenter.prompts) for row in rows])
    return {TEXT: network.text.cpu()[index].float(), PRESENT: network.present.cpu()[index]}


def save_prompts(segmenter: Segmenter, path: Path) -> None:
    """Write the prompts of a model for programs that run its graph: NumPy arrays, none of objects.

    ``prompts (N,)`` holds the keys, ``text (N, T, D)`` float32 and ``present (N, T)`` bool the inputs of each.

    Raises:
        OutputError: The file cannot be written.
    """
    inputs = prompt_inputs(segmenter, range(len(segmenter.prompts)))
    text, present = inputs[TEXT].numpy(), inputs[PRESENT].numpy()
    with atomic_path(path) as part, part.open("wb") as file:
        np.savez_compressed(file, prompts=np.array(segmenter.prompts), text=text, present=present)


def one_prompt(segmenter: Segmenter) -> None:
    """Refuse a model of several prompts where images are all that a graph takes.

    Raises:
        RecipeError: It has several; the zones are named.
    """
    if len(segmenter.prompts) > 1:
        raise RecipeError(
            f"a model with a prompt for each of {', '.join(zone_names(segmenter))}",
            "one of them, which the graph will hold",
            "give --zone CODE",
        )


def under_zone(segmenter: Segmenter, zone: str) -> Segmenter:
    """Return a model for a climate zone alone.

    Args:
        segmenter: A model that holds prompts.
        zone: Key of a prompt in any spelling of upper and lower case: ``Cfb``, or ``Cfb/winter`` where the model tells
            seasons apart.

    Raises:
        RecipeError: The model takes images alone.
        UnknownNameError: It has no such prompt.
    """
    if len(segmenter.prompts) < 2:
        raise RecipeError(f"--zone {zone} for a model that takes images alone", "no --zone")
    for row, key in enumerate(segmenter.prompts):
        if key.lower() == zone.lower():
            return segmenter.for_prompt(row).eval()
    raise UnknownNameError("prompt of the model", zone, segmenter.prompts)


def zone_names(segmenter: Segmenter) -> list[str]:
    """Return the zones that a model has prompts for, whatever the season."""
    return list(dict.fromkeys(key.partition("/")[0] for key in segmenter.prompts))
