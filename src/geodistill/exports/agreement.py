"""Whether an exported form gives torch's classes, on real tiles where some are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.backends.graph import example
from geodistill.errors import ArtifactError
from geodistill.inference.inputs import InputScene, open_scene
from geodistill.inference.options import PredictOptions
from geodistill.inference.prepare import first_windows
from geodistill.inference.sliding import check_bands
from geodistill.inference.windows import Area
from geodistill.segmenter import Segmenter

MOST_CHANGED = 1e-3
"""Largest share of pixels whose class may differ from torch's."""

TILES = 16
"""Tiles that are compared, of all files together."""


@dataclass(frozen=True)
class Agreement:
    """How an export compares with torch.

    Attributes:
        same: Share of pixels with torch's class, 0..1.
        difference: Largest absolute difference of a logit.
        tiles: Tiles that were compared.
        real: Whether they are of images, and not noise with the training's mean and standard deviation.
    """

    same: float
    difference: float
    tiles: int
    real: bool

    def __str__(self) -> str:
        what = f"{self.tiles} tiles" if self.real else f"{self.tiles} tiles of noise (name images with --check)"
        apart = f"logits differ by {self.difference:.2g}"
        return f"{100 * self.same:.3f} % of the pixels of {what} have torch's class; {apart}"


@dataclass(frozen=True)
class CheckedExport:
    """What was written, and how it compares with torch."""

    path: Path
    agreement: Agreement

    def __str__(self) -> str:
        return f"{self.path}: {self.agreement}"


def check_agreement(
    segmenter: Segmenter,
    run: Callable[[Tensor], Tensor],
    sources: Sequence[Path | str],
    what: Path,
    size: int | None = None,
) -> Agreement:
    """Compare an exported form with torch, image by image.

    Args:
        segmenter: The model, on the CPU.
        run: The form: ``(1, C, S, S)`` float32 sensor units -> logits ``(1, K, S, S)``.
        sources: Rasters, and manifests (``.parquet``), whose tiles are compared.
        what: Its file, for messages.
        size: Side of the images that it takes; the model's windows' where not given.

    Raises:
        ArtifactError: More than `MOST_CHANGED` of the pixels have another class.
        DataError: A source cannot be read or has other bands.
    """
    side = size or segmenter.tile
    tiles = real_tiles(segmenter, sources, side) if sources else list(example(segmenter.spec, (4, side, side)))
    same, pixels, difference = 0, 0, 0.0
    with torch.inference_mode():
        for tile in tiles:
            expected, given = segmenter(tile[None]), run(tile[None])
            same += int((expected.argmax(1) == given.argmax(1)).sum())
            pixels += expected[:, 0].numel()
            difference = max(difference, float((expected - given).abs().max()))
    agreement = Agreement(same / pixels, difference, len(tiles), bool(sources))
    if not agreement.same >= 1 - MOST_CHANGED:
        raise ArtifactError(f"{what}: {agreement}", f"at least {100 * (1 - MOST_CHANGED):.1f} %", "it was not kept")
    return agreement


def real_tiles(segmenter: Segmenter, sources: Sequence[Path | str], size: int) -> list[Tensor]:
    """Read `TILES` windows with data, ``(C, S, S)`` float32 in sensor units, spread over some images; S is ``size``.

    Raises:
        DataError: An image cannot be read or has other bands than the model.
    """
    images = [image for source in sources for image in _images(str(source))]
    images = [images[round(i)] for i in np.linspace(0, len(images) - 1, min(len(images), TILES))]
    tiles: list[Tensor] = []
    for image in images:
        with open_scene(InputScene(Path(image).stem, image), PredictOptions(), segmenter.spec) as raster:
            check_bands(raster, segmenter.spec.bands)
            area = Area.whole(raster)
            windows = first_windows(area, area.windows(size, 0), -(-TILES // len(images)))
        tiles += [torch.from_numpy(window.astype(np.float32)) for window in windows]
    return tiles


def _images(source: str) -> list[str]:
    if not source.lower().endswith(".parquet"):
        return [source]
    from geodistill.data.manifest import Manifest

    return [str(row.image) for row in Manifest.load(source).entries]
