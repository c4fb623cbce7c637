"""A model that is an ONNX file of somebody else's: it maps as a Segmenter does, and nothing in it is code of ours."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geodistill.backends.graph import quiet_options, require, runtime_errors
from geodistill.backends.graph_bounds import GraphShape, look_at_graph, read_graph, refuse_giants
from geodistill.backends.graph_facts import GraphFacts, facts_beside, facts_inside, for_bands
from geodistill.backends.graph_outputs import OutputReader, as_maps
from geodistill.description import check_tile
from geodistill.errors import ArtifactError, DataError, RecipeError, first_line
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec

TILE = 512
"""Side of the windows of a graph that takes any size and does not say what it was trained on."""

BYTES = np.iinfo(np.uint8)
"""What samples a graph that takes 8-bit integers has."""

LARGEST = 65_535.0
"""The largest sample of 16 bits."""

SECONDS = 300.0
"""How long one call may take: a graph can hold loops without end."""


@dataclass(frozen=True)
class GraphFlags:
    """What a user says of an ONNX file's model: it goes before what the file says.

    Attributes:
        classes: The classes, in the order of its channels.
        scale: What samples are multiplied by before the network sees them, and nothing else is done to them: a number
            or a fraction such as ``1/255``.
        gsd: Ground sampling distance that it was trained at, metres.
        tile: Side of its windows in pixels, where it takes any.

    Raises:
        RecipeError: The scale is no number above 0.
    """

    classes: Legend | None = None
    scale: str | None = None
    gsd: float | None = None
    tile: int | None = None

    def facts(self) -> GraphFacts:
        """Return them as facts."""
        if self.scale is None:
            return GraphFacts(self.classes, gsd=self.gsd, tile=self.tile)
        try:
            scale = float(Fraction(self.scale))
        except (ValueError, ArithmeticError):  # no number, one over 0, or too large
            scale = 0.0
        if not scale > 0:
            raise RecipeError(f"scale {self.scale!r}", "a number or fraction above 0, such as 1/255")
        return GraphFacts(self.classes, mean=(0.0,), std=(1 / scale,), inside=False, gsd=self.gsd, tile=self.tile)


class GraphSegmenter(Segmenter):
    """An ONNX file ready to map scenes, by ONNX Runtime alone; see `look_at_graph` for what is refused.

    Args:
        path: The file.
        flags: What the user says of it.

    Raises:
        RecipeError: A package is missing, or the user asks for windows of another side than the graph's fixed one.
        ArtifactError: The file is refused, or nothing says how samples are scaled.
    """

    runs_itself = True

    def __init__(self, path: Path | str, flags: GraphFlags | None = None) -> None:
        nn.Module.__init__(self)
        require("onnx", "onnxruntime")
        self.path, self.flags = Path(path), flags or GraphFlags()
        graph = read_graph(self.path)
        shape = look_at_graph(graph, self.path)
        said = facts_inside(shape.metadata, self.path).or_else(facts_beside(self.path))
        facts = self.flags.facts().or_else(said)
        if facts.std is None and not facts.inside:
            raise ArtifactError(
                f"nothing says how {self.path} wants its samples",
                "Deepness's metadata, or an MLM item beside it",
                "give --scale: 1 for samples as they are, 1/255 for bytes as 0..1",
            )
        self._shape, self._brightest, self.files = shape, facts.brightest, shape.files
        if self.flags.tile is not None and shape.height and self.flags.tile != shape.height:
            raise RecipeError(
                f"--tile {self.flags.tile} for {self.path}", f"its fixed side, {shape.height}, or no --tile"
            )
        self.tile = _tile(shape, facts, self.path)
        channels = shape.channels or len(facts.bands or ())
        if not channels or len(facts.bands or range(channels)) != channels:
            raise ArtifactError(f"{self.path} takes {channels} bands", f"the {len(facts.bands or ())} that are named")
        batch = shape.batch or 1
        refuse_giants(graph, self.path, (batch, channels, self.tile, self.tile))
        self._open()
        mean = for_bands(facts.mean, channels, 0.0, self.path)
        std = for_bands(facts.std, channels, 1.0, self.path)
        self._scaling = None if facts.inside else (_column(mean), _column(std))
        if shape.dtype == "uint8" and not facts.inside and (any(mean) or max(std) > 1):
            raise ArtifactError(
                f"{self.path} takes whole numbers, 0 to 255, and samples that are scaled down to fractions",
                "samples as they are",
                "give --scale 1, for a scene of 8 bits",
            )
        probes = self._probes((batch, channels, self.tile, self.tile), _column(mean), _column(std))
        about = (facts.legend, facts.threshold, self.tile, self.path)
        self._reader = OutputReader.of(probes, *about, batch=batch)
        legend = facts.legend or Legend(tuple(f"class {i}" for i in range(self._reader.classes)))
        bands = facts.bands or tuple(f"input {i + 1}" for i in range(channels))
        self.spec = Spec(self._reader.legend(legend, self.path), bands, mean, std, facts.gsd)
        self.name, self.arguments, self.provenance = f"onnx {self.path.name}", {}, {}
        # Says, as the weights of other models do, where images are sent to.
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Cross to another process by name: it opens the file again."""
        return GraphSegmenter, (self.path, self.flags)

    @property
    def prompts(self) -> tuple[str, ...]:
        """None: no such graph is known."""
        return ()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file, its weights and all that is known of it."""
        about = f"{self.spec.to_dict()} {self.tile} {self._scaling is None} {self._reader}"
        digest = hashlib.sha256(about.encode())
        for file in self.files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def forward(self, image: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Segment images ``(B, C, H, W)`` float32 in sensor units -> ``(B, K, H, W)`` logits.

        Raises:
            ArtifactError: The graph fails, is still running after `SECONDS`, or gives other values than for noise.
            DataError: There are samples beyond what the model is made for.
        """
        pixels = image.detach().cpu().contiguous().numpy()
        if self._brightest is not None and pixels.size and float(pixels.max()) > self._brightest:
            raise DataError(
                f"samples of {float(pixels.max()):.5g} under {self.path}",
                f"at most {self._brightest:.0f}: it is made for 8-bit bands",
                "give --scale",
            )
        pixels = self._scaled(pixels)
        count = self._shape.batch or 1
        parts = []
        for first in range(0, len(pixels), count):
            part = pixels[first : first + count]
            filled = np.zeros((count, *part.shape[1:]), np.float32)
            filled[: len(part)] = part
            parts.append(as_maps(self._run(filled), count)[: len(part)])
        return self._reader.logits(np.concatenate(parts), self.path).to(image.device)

    def write(self, folder: Path) -> NoReturn:
        """Refuse: a graph has no weights that a Segmenter could hold.

        Raises:
            ArtifactError: Always.
        """
        raise ArtifactError(f"{self.path} as a Segmenter", "a model that geodistill trained")

    def _scaled(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return what the graph takes of samples in sensor units."""
        if self._scaling is None:
            return pixels
        mean, std = self._scaling
        return (pixels - mean) / std

    def _open(self) -> None:
        import onnxruntime

        known = onnxruntime.get_available_providers()
        on_gpu = ["CUDAExecutionProvider"] if torch.cuda.is_available() else []
        providers = [name for name in (*on_gpu, "CPUExecutionProvider") if name in known]
        try:
            options = quiet_options(torch.get_num_threads())
            # Falling back to the provider that has just failed, it would print so.
            self._session = onnxruntime.InferenceSession(
                str(self.path), options, providers=providers, enable_fallback=len(on_gpu)
            )
        except runtime_errors() as error:
            raise ArtifactError(
                f"{self.path} does not open in ONNX Runtime ({first_line(error)})", "an ONNX file of known operators"
            ) from error

    def _probes(self, size: tuple[int, ...], mean: NDArray[Any], std: NDArray[Any]) -> list[NDArray[Any]]:
        """Return what the graph gives for noise, which says what kind of values that is.

        Its samples are such as the network was trained on, if ``mean`` and ``std`` say so; and then, as they may not,
        from the darkest at the left to the brightest that it is made for at the right.
        """
        rng = np.random.default_rng(0)
        ramp = np.geomspace(1, self._brightest or LARGEST, size[-1])
        images = rng.normal(size=size) * std + mean, rng.random(size) * ramp
        bounds = BYTES if self._shape.dtype == "uint8" else np.finfo(self._shape.dtype)
        return [self._run(self._scaled(image).clip(bounds.min, bounds.max)) for image in images]

    def _run(self, pixels: NDArray[Any]) -> NDArray[Any]:
        import onnxruntime

        if self._shape.dtype == "uint8":
            pixels = np.rint(pixels)
            if pixels.size and (pixels.min() < BYTES.min or pixels.max() > BYTES.max):
                raise DataError(
                    f"samples of {pixels.min():.5g} to {pixels.max():.5g} under {self.path}",
                    f"{BYTES.min} to {BYTES.max}: it takes bytes",
                    "map a scene of 8 bits",
                )
        bounds = onnxruntime.RunOptions()
        bounds.log_severity_level = 4
        clock = threading.Timer(SECONDS, lambda: setattr(bounds, "terminate", True))
        clock.start()
        try:
            given = {self._shape.name: pixels.astype(self._shape.dtype)}
            values: NDArray[Any] = self._session.run(None, given, bounds)[0]
        except runtime_errors() as error:
            late = f" (stopped after {SECONDS:.0f} seconds)" if bounds.terminate else ""
            raise ArtifactError(f"{self.path} fails{late} ({first_line(error)})", "a graph that runs") from error
        finally:
            clock.cancel()
        return values


def _column(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None, None]


def _tile(shape: GraphShape, facts: GraphFacts, path: Path) -> int:
    """Return the side of the windows: the graph's own, else what is said of it, else `TILE`."""
    if shape.height != shape.width:
        raise ArtifactError(f"{path} takes images of {shape.height} x {shape.width}", "as high as they are wide")
    tile = shape.height or facts.tile or TILE
    check_tile(tile, str(path))
    return tile
