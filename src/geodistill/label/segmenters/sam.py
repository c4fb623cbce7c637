"""SAM, SAM2, SAM3 and EdgeTAM: transformers' encoders, and a mask decoder made for thousands of boxes on a tile.

The masks are those of transformers' own processor and model with ``multimask_output=False`` (tests hold them to one
pixel in ten thousand); time and memory are not: `sam_decoder` and `resample` say why.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import OutputError, output_error
from geodistill.label.masks import Mask
from geodistill.label.segmenters.promptable import Embedding, Prompts
from geodistill.label.segmenters.resample import TileFrame, bands_back, crop_masks, mask_prompt
from geodistill.label.segmenters.sam_decoder import ImageContext, MaskDecoder
from geodistill.label.segmenters.sam_model import SamNetwork, load_network
from geodistill.reading import read_text

SIZES = {"cpu": (1, 2, 4, 8), "other": (1, 4, 16, 64, 256)}
"""What is tried, from small to large."""
GAIN = 0.9
"""A larger size must take less than this share of the time, so that chance does not choose."""
REPEATS = 2


def choose_chunk(decode: Callable[[int], object], device: torch.device) -> int:
    """Find the number of prompts at once that takes the least time per prompt to ``decode``."""
    best, least = 1, float("inf")
    for size in SIZES.get(device.type, SIZES["other"]):
        try:
            seconds = _seconds(lambda size=size: decode(size), device) / size  # type: ignore[misc]
        except torch.OutOfMemoryError:
            break
        if seconds < GAIN * least:
            best, least = size, seconds
        elif seconds > least / GAIN:
            break
    return best


def settled_chunk(path: Path, measure: Callable[[], int]) -> int:
    """Return the number that a file holds; where there is no file, measure and write it.

    The number changes the last bits of a network's answers, so a run that is continued, and every worker of a run,
    must use the same one. Of several workers that measure at once, the first to write decides for all.

    Raises:
        OutputError: The file cannot be written, or is not as it was written.
    """
    if not path.exists():
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        try:
            number = str(measure())
            part.write_text(f"{number} {_crc(number)}\n", encoding="ascii")
            with suppress(FileExistsError):
                os.link(part, path)
        except OSError as error:
            raise output_error(path, error) from error
        finally:
            part.unlink(missing_ok=True)
    number, _, crc = read_text(path, 100, OutputError).strip().partition(" ")
    if crc != _crc(number) or not number.isdecimal() or not int(number):
        raise OutputError(f"{path} is not as it was written", "the number that this run began with", "use a new folder")
    return int(number)


def _crc(number: str) -> str:
    return f"{zlib.crc32(number.encode()):08x}"


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the least time of a few runs, after one that warms up.

    On a processor it is the time the process had of it, which other processes' work does not change.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(1 + REPEATS):
        start = clock()
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        times.append(clock() - start)
    return min(times[1:])


def batch_size(device: torch.device) -> int:
    """Return the number of images that go through the encoder at once; on a processor more gain nothing."""
    return 1 if device.type == "cpu" else 8


class SamSegmenter:
    """A network of the SAM family.

    Attributes:
        name: As given to `build_segmenter`.
        network: The loaded network.
        chunk: Prompts that are decoded at once; ``None`` until it is measured.
        chunk_file: Where the measured number is kept for other processes; ``None`` for nowhere.
    """

    def __init__(
        self, name: str, network: SamNetwork, chunk: int | None = None, chunk_file: Path | None = None
    ) -> None:
        """Take a network; ``chunk`` is measured at the first use where neither it nor its file is there."""
        self.name, self.network, self.chunk, self.chunk_file = name, network, chunk, chunk_file
        self.decoder = MaskDecoder(network.model)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Encode images ``(H, W, 3)`` uint8 RGB, of any sizes, each once."""
        embeddings: list[Embedding] = []
        batch = batch_size(self.network.device)
        while len(embeddings) < len(images):
            part = images[len(embeddings) : len(embeddings) + batch]
            try:
                encoded = self._encode(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                batch = len(part) // 2
                continue
            embeddings += [
                Embedding(image.shape[0], image.shape[1], features=features)
                for image, features in zip(part, encoded, strict=True)
            ]
        return embeddings

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
        """Decode the prompts chunk by chunk, as the masks are taken."""
        frame = self.network.frame(embedding.height, embedding.width)
        context = self._prepare(embedding)
        if self.chunk is None:
            self.chunk = self._find_chunk(context, prompts.part(0, 1), frame)
        rows, columns = bands_back(frame)
        for start in range(0, len(prompts), self.chunk):
            logits, scores = self._decode(context, prompts.part(start, start + self.chunk), frame)
            yield from crop_masks(logits, rows, columns, scores.clamp(0, 1).tolist())

    def _find_chunk(self, context: ImageContext, prompt: Prompts, frame: TileFrame) -> int:
        """Take the number that this run settled on before, or measure it on one prompt."""

        def measure() -> int:
            return choose_chunk(lambda size: self._repeat(context, prompt, frame, size), self.network.device)

        return measure() if self.chunk_file is None else settled_chunk(self.chunk_file, measure)

    @torch.inference_mode()
    def _encode(self, images: Sequence[NDArray[np.uint8]]) -> list[tuple[Tensor, ...]]:
        prepared = self.network.processor(images=list(images), return_tensors="pt", input_data_format="channels_last")
        maps = self.network.model.get_image_embeddings(prepared["pixel_values"].to(self.network.device))
        levels = [maps] if isinstance(maps, Tensor) else maps
        # Copies, so that one image's features do not keep those of its whole batch alive.
        return [tuple(level[i : i + 1].clone() for level in levels) for i in range(len(images))]

    @torch.inference_mode()
    def _prepare(self, embedding: Embedding) -> ImageContext:
        return self.decoder.prepare(embedding.features)

    @torch.inference_mode()
    def _decode(self, context: ImageContext, prompts: Prompts, frame: TileFrame) -> tuple[Tensor, Tensor]:
        """Return logits ``(N, m, m)`` and predicted IoU ``(N,)``."""
        return self.decoder(context, self._sparse(prompts, frame), self._dense(prompts, frame))

    @torch.inference_mode()
    def _repeat(self, context: ImageContext, prompt: Prompts, frame: TileFrame, size: int) -> object:
        """Decode the same prompt several times, for measuring."""
        dense = self._dense(prompt, frame)
        return self.decoder(
            context,
            self._sparse(prompt, frame).expand(size, -1, -1),
            None if dense is None else dense.expand(size, -1, -1, -1),
        )

    def _sparse(self, prompts: Prompts, frame: TileFrame) -> Tensor:
        """Embed points and boxes: ``(N, P, C)``; where there are none, what stands for none."""
        device, number = self.network.device, len(prompts)
        scale = np.array((frame.inner[1] / frame.width, frame.inner[0] / frame.height))
        points, labels, boxes = None, None, None
        if prompts.points is not None:
            points = torch.from_numpy((prompts.points * scale).astype(np.float32))[None, :, None].to(device)
            labels = torch.ones(points.shape[:3], dtype=torch.int64, device=device)
        if prompts.boxes is not None:
            boxes = torch.from_numpy((prompts.boxes * np.tile(scale, 2)).astype(np.float32))[None].to(device)
        if points is None and boxes is None:
            if self.network.family.padded:  # SAM has no token for "no point"
                return self.decoder.output_tokens.new_empty(number, 0, self.decoder.output_tokens.shape[1])
            points = torch.zeros(1, 1, 1, 2, device=device)
            labels = torch.full((1, 1, 1), -1, dtype=torch.int64, device=device)
        sparse: Tensor = self.decoder.prompt_encoder(points, labels, boxes, None)[0][0]
        return sparse.expand(number, -1, -1)

    def _dense(self, prompts: Prompts, frame: TileFrame) -> Tensor | None:
        """Embed mask prompts: ``(N, C, h, w)``."""
        if prompts.polygons is None:
            return None
        maps = torch.stack([mask_prompt(polygon, frame) for polygon in prompts.polygons])[:, None]
        dense: Tensor = self.decoder.prompt_encoder.mask_embed(maps.to(self.network.device))
        return dense


def load_segmenter(family: str, weights: str, *, device: str = "auto", chunk_file: Path | None = None) -> SamSegmenter:
    """Load a network with its weights; arguments and errors as those of `sam_model.load_network`.

    ``chunk_file`` is as `build_segmenter` takes it.
    """
    return SamSegmenter(f"{family}:{weights}", load_network(family, weights, device), chunk_file=chunk_file)
