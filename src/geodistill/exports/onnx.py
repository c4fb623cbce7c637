"""A Segmenter as an ONNX file, and as a smaller and faster one of 8-bit integers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geodistill.backends.graph import to_onnx
from geodistill.backends.text_inputs import save_prompts
from geodistill.errors import GeodistillWarning, RecipeError
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.int8 import Int8, check_data, quantise
from geodistill.files import check_outputs, check_suffix
from geodistill.segmenter import Segmenter


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and the largest absolute difference of its logits to torch's."""

    path: Path
    difference: float
    int8: Int8 | None = None
    prompts: Path | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: largest difference to torch {self.difference:.2g}"]
        if self.prompts is not None:
            lines.append(f"{self.prompts}: the inputs text and present of each climate zone")
        return "\n".join(lines if self.int8 is None else [*lines, str(self.int8)])


def export_onnx(segmenter: Segmenter, path: Path, options: ExportOptions) -> OnnxExport:
    """Write a Segmenter as ONNX: ``image`` in sensor units in, ``logits`` out, normalisation inside.

    The graph of a model with several prompts (MetaSegNet) takes the features of the image's prompt too, as ``text``
    and ``present``; those of all its prompts are written beside the graph as ``NAME_text.npz``. A graph of 8-bit
    integers lies beside it as ``NAME_int8.onnx``.

    Raises:
        RecipeError: A setting cannot be used, a package is missing, or 8-bit integers are asked for of a model with
            several prompts.
        ArtifactError: The network cannot be exported so, or differs from torch, or 8-bit integers lose too much.
        DataError: The data cannot be read or are of other classes.
        OutputError: A file cannot be written, would overwrite one that is read, or the graph's is not named ``.onnx``.
    """
    check_suffix(path, (".onnx",))
    size = segmenter.tile if options.size is None else _limit(options.size)
    batch, calibration = _limit(options.batch), options.calibration
    with_text = len(segmenter.prompts) > 1
    if calibration is not None:
        if with_text:
            raise RecipeError("8-bit integers of a model that takes text", "images alone", "give --zone CODE")
        if not options.int8_drop >= 0:
            raise RecipeError(f"8-bit integers that lose {options.int8_drop} points", "a number of at least 0")
        if batch not in (None, 1):
            raise RecipeError(f"8-bit integers and batch {batch}", "1 or any", "they are calibrated image by image")
        images = [file for row in calibration.entries for file in (row.image, row.mask) if file is not None]
        read = [*images, *([calibration.path] if calibration.path is not None else [])]
        check_outputs([path, int8_beside(path)], read)
        check_data(segmenter, calibration, options.split)
    difference = to_onnx(segmenter, path, size=size, batch=batch, opset=options.opset, with_text=with_text)
    smaller, prompts = None, None
    try:
        if with_text:
            prompts = text_beside(path)
            save_prompts(segmenter, prompts)
        if calibration is not None:
            about = (calibration, options.split, size or segmenter.tile, options.int8_drop / 100)
            smaller = quantise(segmenter, path, int8_beside(path), *about)
    finally:  # also where 8-bit integers are refused: the graph is new by then
        for beside, written in ((int8_beside(path), smaller), (text_beside(path), prompts)):
            if beside.is_file() and not written:
                warnings.warn(GeodistillWarning(f"{beside} is of an earlier graph: remove it"), stacklevel=2)
    return OnnxExport(path, difference, smaller, prompts)


def _limit(number: int | Literal["any"]) -> int | None:
    """Return a dimension of the graph; ``None`` where it is open."""
    return None if number == "any" else number


def text_beside(path: Path) -> Path:
    """Return the file of prompt features beside a graph's: ``model_text.npz``."""
    return path.with_name(f"{path.stem}_text.npz")


def int8_beside(path: Path) -> Path:
    """Return the file of the graph in 8-bit integers beside a graph's: ``model_int8.onnx``."""
    return path.with_name(f"{path.stem}_int8{path.suffix}")
