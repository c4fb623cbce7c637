"""A Segmenter as a TensorFlow Lite file, which LiteRT runs on phones and small boards."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.backends.graph import example, plain_copy
from geodistill.backends.text_inputs import one_prompt
from geodistill.errors import ArtifactError, RecipeError, first_line
from geodistill.exports.agreement import CheckedExport, check_agreement
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.pt2 import DESCRIBED, described
from geodistill.files import atomic_path, check_suffix
from geodistill.segmenter import Segmenter


def export_tflite(segmenter: Segmenter, path: Path, options: ExportOptions) -> CheckedExport:
    """Write a ``.tflite`` file: one image ``(1, C, S, S)`` float32 in sensor units in, logits out.

    `DESCRIBED` is appended as an archive, as metadata of such files are: classes, bands, statistics, distance, window.
    The file is read back and compared with torch in LiteRT itself.

    Raises:
        RecipeError: The converter is missing, the model has several prompts, or images of any size are asked for.
        ArtifactError: The network cannot be converted, or gives other classes than torch.
        OutputError: The file cannot be written, or is not named ``.tflite``.
    """
    check_suffix(path, (".tflite",))
    one_prompt(segmenter)
    if options.size == "any":
        raise RecipeError("a TensorFlow Lite file for images of any size", "one size, which shapes inside follow from")
    if importlib.util.find_spec("litert_torch") is None:
        raise RecipeError(
            "litert_torch not installed",
            "the converter to TensorFlow Lite",
            "pip install litert-torch (0.10 asks for torch below 2.15: use an environment of its own)",
        )
    import litert_torch

    model = plain_copy(segmenter)
    size = options.size or segmenter.tile
    image = example(model.spec, (1, size, size))
    try:
        converted = litert_torch.convert(model, (image,))
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"the network cannot be converted ({first_line(error)})", "one that litert-torch takes"
        ) from error
    with atomic_path(path) as part:
        converted.export(str(part))
        with zipfile.ZipFile(part, "a") as archive:
            # A fixed time: the same model gives the same bytes.
            archive.writestr(zipfile.ZipInfo(DESCRIBED), described(segmenter))
        agreement = check_agreement(model, _Interpreter(part), options.check, path, size)
    return CheckedExport(path, agreement)


class _Interpreter:
    """Runs a file in LiteRT."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path))
        self._interpreter.allocate_tensors()

    def __call__(self, images: Tensor) -> Tensor:
        """(1, C, S, S) float32 sensor units -> (1, K, S, S) logits."""
        given, answer = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._interpreter.set_tensor(given["index"], images.numpy().astype(np.float32))
        self._interpreter.invoke()
        return torch.from_numpy(self._interpreter.get_tensor(answer["index"]).copy())
