"""A Segmenter as an ONNX file that the QGIS plug-in Deepness takes as it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from geodistill.backends.graph import parity, plain_copy, require, write_graph
from geodistill.backends.metadata import finish_graph
from geodistill.backends.text_inputs import one_prompt
from geodistill.errors import ArtifactError, RecipeError
from geodistill.exports.exporters import ExportOptions
from geodistill.files import atomic_path, check_suffix
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec

BRIGHTEST = 255
"""Deepness reads 8-bit bands and hands them to the network as 0..1."""

_LARGEST = BRIGHTEST * (1 + math.sqrt(2)) / 2
"""Mean and deviation of values from 0 to 255 are together no larger (deviation^2 <= mean (255 - mean))."""

_REFLECTANCE = 2.0
"""Samples of 8-bit bands reach further; reflectances do not."""


class DeepnessNetwork(nn.Module):
    """A network as the plug-in runs it: bands in 0..1 in, class probabilities out."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 in 0..1 -> ``(B, K, H, W)`` probabilities."""
        logits: Tensor = self.segmenter(image * BRIGHTEST)
        return logits.softmax(1)


@dataclass(frozen=True)
class QgisExport:
    """What was written, and the largest absolute difference of its probabilities to torch's."""

    path: Path
    difference: float

    def __str__(self) -> str:
        return f"{self.path}: largest difference to torch {self.difference:.2g}"


def export_qgis(segmenter: Segmenter, path: Path, options: ExportOptions) -> QgisExport:
    """Write an ONNX file of a model of 8-bit bands with the metadata that Deepness reads.

    Raises:
        RecipeError: The resolution is not known, the overlap is out of range, a package is missing, or the model
            has several prompts.
        ArtifactError: The model is of bands that Deepness cannot read, or cannot be exported.
        OutputError: The file cannot be written, or is not named ``.onnx``.
    """
    require("onnx", "onnxscript", "onnxruntime")
    check_suffix(path, (".onnx",))
    one_prompt(segmenter)
    metadata = deepness_metadata(segmenter, options.resolution, options.overlap)
    _refuse_other_bands(segmenter.spec)
    network = DeepnessNetwork(plain_copy(segmenter)).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, segmenter.spec.channels, segmenter.tile, segmenter.tile, generator=generator)
    with atomic_path(path) as part:
        write_graph(network, images, part, "probabilities")
        finish_graph(part, metadata)
        difference = parity(network, part, images)
    return QgisExport(path, difference)


def _refuse_other_bands(spec: Spec) -> None:
    """Refuse bands of other than 8 bits, as their statistics show.

    Raises:
        ArtifactError: They are of larger samples, or of reflectances from 0 to 1.
    """
    for name, mean, deviation in zip(spec.bands, spec.mean, spec.std, strict=True):
        if mean > BRIGHTEST or mean + deviation > _LARGEST or mean + 3 * deviation <= _REFLECTANCE:
            raise ArtifactError(
                f"a model whose band {name} has the mean {mean:.3g} and deviation {deviation:.3g}",
                f"one of 8-bit bands, 0 to {BRIGHTEST}, which is all that Deepness reads",
            )


def deepness_metadata(segmenter: Segmenter, resolution: float | None, overlap: int) -> dict[str, str]:
    """Return the plug-in's metadata, one JSON text per key.

    Raises:
        RecipeError: The resolution is not known, or a number is out of range.
    """
    spec = segmenter.spec
    if resolution is None and spec.gsd is not None:
        resolution = 100 * spec.gsd
    if resolution is None or not (math.isfinite(resolution) and resolution > 0):
        raise RecipeError(
            "a model without ground sampling distance" if resolution is None else f"resolution {resolution}",
            "centimetres per pixel",
            "give --resolution",
        )
    if not 0 <= overlap <= 75:
        raise RecipeError(f"overlap {overlap}", "percent of a tile, 0 to 75")
    values = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(spec.legend.names)),
        "resolution": resolution,
        # The plug-in's documents say one and its code reads the other.
        "tile_size": segmenter.tile,
        "tiles_size": segmenter.tile,
        "tiles_overlap": overlap,
        # Anything above 0 would make pixels of no sure class the first class, or smooth small objects away.
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        # Normalisation is inside the graph, so that versions of the plug-in that know no standardisation agree.
        "standardization_mean": [0.0] * spec.channels,
        "standardization_std": [1.0] * spec.channels,
    }
    return {key: json.dumps(value) for key, value in values.items()}
