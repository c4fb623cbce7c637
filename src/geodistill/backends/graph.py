"""A Segmenter as an ONNX graph, normalisation inside, checked against torch before anything uses it."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geodistill.backends.metadata import finish_graph, model_metadata
from geodistill.backends.text_inputs import TextSegmenter, one_prompt, prompt_inputs
from geodistill.errors import ArtifactError, RecipeError, first_line
from geodistill.files import atomic_path
from geodistill.nn.output import ceil_div
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec

INPUT, OUTPUT = "image", "logits"
"""Names of the graph's input, ``(B, C, H, W)`` float32 sensor units, and output, ``(B, K, H, W)`` float32."""

PARITY = 1e-3
"""Largest difference to torch that is let through, as a share of the largest logit (or of 1 where that is less)."""

OPSET = 18
"""The exporter's own version of ONNX's operators; others are made from it."""

_MOST_BYTES = 2**31 - 2**20
"""A protobuf file ends at 2 GiB."""


def to_onnx(
    segmenter: Segmenter,
    path: Path | str,
    *,
    size: int | None,
    batch: int | None,
    opset: int = OPSET,
    with_text: bool = False,
) -> float:
    """Write a Segmenter as an ONNX graph from sensor units to logits, and compare it with torch.

    Args:
        segmenter: The model; it is left as it is, on its device.
        path: The file to make; it says what the model is (`model_metadata`), and nothing of this machine.
        size: Side in pixels of the images that the graph takes; ``None`` for any height and width, which networks
            with position embeddings or pooling to a grid do not survive (they are refused).
        batch: Images per call; ``None`` for any number.
        opset: Version of ONNX's operators, 18 or above.
        with_text: The features of each image's prompt are inputs too (see `prompt_inputs`).

    Returns:
        The largest absolute difference between the graph's logits and torch's, with text under its first prompts and
        its last.

    Raises:
        RecipeError: The packages are not installed, the size, batch or opset cannot be used, or a model of several
            prompts is to take images alone.
        ArtifactError: The network cannot be exported so, or the graph's logits differ by more than `PARITY`.
        OutputError: The file cannot be written.
    """
    require("onnx", "onnxscript", "onnxruntime")
    if opset < OPSET or (size is not None and size < 1) or (batch is not None and batch < 1):
        raise RecipeError(
            f"opset {opset}, size {size}, batch {batch}", f"opset {OPSET} or above, size and batch above 0"
        )
    if not with_text:
        one_prompt(segmenter)
    model = plain_copy(segmenter)
    module = TextSegmenter(model) if with_text else model
    axes = ([] if batch is not None else [0]) + ([] if size is not None else [2, 3])
    with atomic_path(path) as part:
        # An axis of 1 would be taken for a fixed one.
        images = example(model.spec, (batch or 2, *[size or model.tile] * 2))
        context = prompt_inputs(model, range(len(images))) if with_text else {}
        write_graph(module, images, part, OUTPUT, axes, opset, context)
        finish_graph(part, model_metadata(segmenter), tuple(context))
        shapes = _shapes(size, batch, model.tile)
        firsts = (0, -1) if with_text else (0,)
        return max(
            parity(
                module,
                part,
                example(model.spec, shape),
                prompt_inputs(model, range(first, first + shape[0])) if with_text else {},
            )
            for shape in shapes
            for first in firsts
        )


def plain_copy(segmenter: Segmenter) -> Segmenter:
    """Copy a Segmenter to the CPU, in float32 and for inference, as exporters want it.

    Raises:
        ArtifactError: It is too large for a file of ONNX, which ends at 2 GiB.
    """
    if sum(p.numel() * 4 for p in segmenter.parameters()) > _MOST_BYTES:
        raise ArtifactError("a network of more than 2 GiB", "one that an ONNX file can hold")
    return copy.deepcopy(segmenter).cpu().float().eval()


def write_graph(
    model: nn.Module,
    images: Tensor,
    path: Path,
    output: str = OUTPUT,
    axes: Sequence[int] = (),
    opset: int = OPSET,
    context: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a module of images, and what it takes beside them, to one output as ONNX.

    It is traced on the CPU with ``(B, C, H, W)`` images, of which some ``axes`` may have any length; ``context`` holds
    further inputs by name, in the module's order, whose first axis goes with the images'.

    Raises:
        ArtifactError: It cannot be exported so.
        RecipeError: The exporter does not know the opset.
    """
    import onnx

    context = context or {}
    free = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    with_images = {axis: free[axis] for axis in free if axis == 0}
    try:
        with quietly(), _whole_padding():
            torch.onnx.export(
                model,
                (images, *context.values()),
                path,
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT, *context],
                output_names=[output],
                dynamic_shapes=(free, *(with_images for _ in context)) if free else None,
                external_data=False,
                verbose=False,
            )
    except (RuntimeError, ValueError) as error:
        reason = first_line(error.__cause__ or error)  # torch's own line names a step, in colours
        if 2 in axes:
            what = f"the network cannot be exported at any size ({reason})"
            raise ArtifactError(what, "one that is bound to no size", "export with a fixed --size") from error
        what = f"the network cannot be exported at size {images.shape[-1]} ({reason})"
        raise ArtifactError(what, "one that ONNX can hold") from error
    versions = {entry.domain or "ai.onnx": entry.version for entry in onnx.load(path).opset_import}
    if versions["ai.onnx"] != opset:
        raise RecipeError(f"opset {opset} (the exporter gave {versions['ai.onnx']})", f"another, such as {OPSET}")


def parity(model: nn.Module, path: Path, images: Tensor, context: Mapping[str, Tensor] | None = None) -> float:
    """Return the largest absolute difference of a graph's outputs to torch's on ``(B, C, H, W)`` images.

    The graph's further inputs are given by name.

    Raises:
        ArtifactError: It is above `PARITY`, or the graph does not take such images.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), quiet_options(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = model(images, *(context or {}).values()).numpy()
    what = f"the exported graph on images of {tuple(images.shape)}"
    try:
        given = {INPUT: images, **(context or {})}
        logits = session.run(None, {name: value.numpy() for name, value in given.items()})[0]
    except runtime_errors() as error:
        raise ArtifactError(f"{what} fails ({first_line(error)})", "a fixed size", "export with --size") from error
    difference = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
    bound = PARITY * max(1.0, float(np.abs(expected).max()))
    if not difference <= bound:
        raise ArtifactError(
            f"{what} differs from torch by {difference:.2g}", f"at most {bound:.2g}", "export with a fixed --size"
        )
    return difference


def example(spec: Spec, shape: Sequence[int]) -> Tensor:
    """Return noise with each band's mean and deviation: ``(B, H, W)`` -> ``(B, C, H, W)`` float32, sensor units."""
    batch, height, width = shape
    noise = torch.randn(batch, spec.channels, height, width, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor(spec.std)[:, None, None] + torch.tensor(spec.mean)[:, None, None]


def require(*packages: str) -> None:
    """Refuse to go on without optional packages.

    Raises:
        RecipeError: One is not installed.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise RecipeError(
            f"{', '.join(missing)} not installed", "the optional packages", "pip install 'geodistill[export]'"
        )


def as_pixels(images: Tensor) -> NDArray[np.float32]:
    """Return images as a graph takes them: on the CPU, each band and row after the other."""
    pixels: NDArray[np.float32] = images.detach().cpu().contiguous().numpy()
    return pixels


def quiet_options(threads: int = 0) -> Any:
    """Return the options of an ONNX Runtime session that prints fatal errors only; ``threads`` 0 lets it choose."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return options


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the errors with which ONNX Runtime refuses a graph or an input."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    # What it says names parts of the graph, and their bytes need not be text.
    return (*(getattr(state, name) for name in names), UnicodeDecodeError)


def _shapes(size: int | None, batch: int | None, tile: int) -> list[tuple[int, int, int]]:
    """Return the shapes at which a graph is compared: its own, and others where axes are free, odd ones among them."""
    count = batch or 2
    if size is not None:
        return [(count, size, size)] + ([(1, size, size), (3, size, size)] if batch is None else [])
    return [(count, tile, tile), (batch or 1, max(tile // 2, 1), tile), (count, tile + 27, tile - tile // 5)]


@contextlib.contextmanager
def _whole_padding() -> Iterator[None]:
    """Let timm's padding ``same`` divide whole numbers: a free side's rounded fraction is not simplified.

    The formulas then grow from layer to layer, and an export of MobileNetV2 took an hour.
    """
    from timm.layers import padding

    def same(x: int, kernel_size: int, stride: int, dilation: int) -> int:
        return max((ceil_div(x, stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - x, 0)

    before = padding.get_same_padding
    padding.get_same_padding = same
    try:
        yield
    finally:
        padding.get_same_padding = before


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the progress lines, warnings and version notes of what makes graphs from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
