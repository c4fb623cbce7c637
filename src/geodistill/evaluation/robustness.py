"""`robustness`: the same images as they are and perturbed; how often the map stays, and what it still scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.reader import refuse_moved
from geodistill.engine import progress_bar
from geodistill.errors import RecipeError, counted
from geodistill.evaluation.evaluate import check_legend
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.intervals import interval, mean_iou, resample
from geodistill.evaluation.perturbations import PERTURBATIONS, within
from geodistill.evaluation.scoring import ScoringSettings, open_mask, read_truth
from geodistill.inference.location import PerPlaceModel
from geodistill.inference.network import Network, as_network, load_on
from geodistill.inference.options import SlidingOptions
from geodistill.inference.sliding import check_bands, stream
from geodistill.inference.windows import Area
from geodistill.metrics import ConfusionMatrix, places_drawn
from geodistill.raster.array import ArrayRaster
from geodistill.raster.raster import open_image
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend
from geodistill.writing import json_number

BREAKS = 0.05
"""A model breaks where the whole interval of the loss of mIoU lies above this."""

PART = 1024
"""Largest side in pixels of the middle of an image that is looked at."""


@dataclass(frozen=True)
class RobustnessOptions:
    """How robustness is measured.

    Attributes:
        images: Images of the split at most, spread evenly over it.
        overlap: Overlap of the sliding window, 0 to 0.75.
        batch_size: Windows per forward pass.
        device: ``auto``, ``cpu``, ``cuda`` ...
        resamples: Draws of the bootstrap over groups of images.
        seed: Of noise and draws.

    Raises:
        RecipeError: A number is below 1 or the overlap out of range.
    """

    images: int = 100
    overlap: float = EvaluateOptions.overlap
    batch_size: int = EvaluateOptions.batch_size
    device: str = "auto"
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.images, self.batch_size, self.resamples) < 1:
            raise RecipeError(f"{self.images} images, {self.resamples} resamples", "at least 1 of each")
        SlidingOptions(overlap=self.overlap)


@dataclass(frozen=True)
class Interval:
    """A figure 0..1 and the bounds of its 95 % bootstrap interval over groups of images.

    NaN where there was nothing to count, and the bounds where all images are of one group.
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return a JSON-ready form."""
        return {key: json_number(value) for key, value in asdict(self).items()}

    def __str__(self) -> str:
        ends = "no interval" if math.isnan(self.low) else f"{100 * self.low:.1f} to {100 * self.high:.1f}"
        return f"{100 * self.value:5.1f} ({ends})"


@dataclass(frozen=True)
class RobustnessRow:
    """What one perturbation does.

    Attributes:
        name: The perturbation; the first row is that of the images as they are.
        agreement: Share of pixels whose class stays.
        miou: mIoU against the labels.
        loss: mIoU of the images as they are, less that, over the same draws.
    """

    name: str
    agreement: Interval
    miou: Interval
    loss: Interval

    @property
    def breaks(self) -> bool:
        """Whether the model loses more than `BREAKS` of mIoU, beyond chance where that is known."""
        return (self.loss.value if math.isnan(self.loss.low) else self.loss.low) > BREAKS

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        figures = {kind: getattr(self, kind).to_dict() for kind in ("agreement", "miou", "loss")}
        return {"name": self.name, **figures, "breaks": self.breaks}


@dataclass(frozen=True)
class Robustness:
    """The table: a row for the images as they are and one for each perturbation; ``images`` of so many ``groups``."""

    rows: tuple[RobustnessRow, ...]
    images: int
    groups: int

    def __str__(self) -> str:
        wide = max(len(row.name) for row in self.rows)
        drawn = f"{counted(self.images, 'image')}, {places_drawn(self.groups)}"
        lines = [f"{'':{wide}}  {'agreement, %':22}  mIoU, % (95 % interval over {drawn})"]
        for row in self.rows:
            lines.append(f"{row.name:{wide}}  {row.agreement!s:22}  {row.miou}{'  breaks' if row.breaks else ''}")
        broken = [row.name for row in self.rows if row.breaks]
        if broken:
            lines.append(f"warning: it loses more than {100 * BREAKS:.0f} points of mIoU under: {'; '.join(broken)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; shares in 0..1."""
        return {"images": self.images, "groups": self.groups, "rows": [row.to_dict() for row in self.rows]}


def robustness(
    model: Segmenter | Path | str,
    manifest: Manifest | Path | str,
    split: str = "test",
    options: RobustnessOptions | None = None,
    *,
    each: Callable[[str], None] | None = None,
) -> Robustness:
    """Measure how a model's maps stand perturbed images: `PERTURBATIONS`.

    Of each image the middle is looked at, at most `PART` pixels a side, in memory. Intervals are percentiles of a
    bootstrap over groups, as those of `evaluate`: images of one place are drawn together, since they are alike.

    Args:
        model: A Segmenter, its directory or hub id; or an ONNX file.
        manifest: The data set.
        split: Its split.
        options: How.
        each: Is called with the name of each image as it is done.

    Raises:
        DataError: The split is empty, a file cannot be read, or the legend is not the model's.
        ArtifactError: There is no such model, or it is altered.
    """
    options = options or RobustnessOptions()
    manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
    manifest.refuse_problems()
    refuse_moved(manifest)
    segmenter = load_on(model, options.device)
    legend = check_legend(manifest, segmenter)
    rows = manifest.some_rows(split)
    rows = tuple(rows[round(i)] for i in np.linspace(0, len(rows) - 1, min(options.images, len(rows))))
    places = PerPlaceModel(segmenter)
    scored_as = EvaluateOptions(overlap=options.overlap, batch_size=options.batch_size)
    settings = ScoringSettings(scored_as, manifest.ignore_unknown)
    counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for index, row in enumerate(progress_bar(rows, "robustness", unit="image", leave=False)):
        rng = np.random.default_rng([options.seed, index])
        counts.append(_one_image(as_network(places.at(row)), row, legend, settings, rng))
        if each is not None:
            each(row.key)
    _, group_of = np.unique([row.place for row in rows], return_inverse=True)
    groups = int(group_of.max()) + 1
    member = (np.arange(groups)[:, None] == group_of).astype(np.int64)
    matrices, agreed = (np.tensordot(member, np.stack(parts), 1) for parts in zip(*counts, strict=True))
    names = ("as they are", *(perturbation.name for perturbation in PERTURBATIONS))
    return Robustness(_table(names, matrices, agreed, options), len(rows), groups)


def _one_image(
    network: Network, row: Row, legend: Legend, settings: ScoringSettings, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return confusion matrices ``(P + 1, K, K)``, and ``(P + 1, 2)`` pixels that agree and that were compared."""
    part = row.window.middle(PART)
    with open_image(row.image, network.bands) as raster, open_mask(row, raster) as mask:
        check_bands(raster, network.bands)
        pixels, valid = raster.read(part)
        truth = np.where(valid, read_truth(mask, legend, part, settings), np.uint8(IGNORE_INDEX))
    image = np.where(valid, pixels, 0).astype(np.float32)
    plain = _classes(network, image, valid, settings)
    matrices, agreed = [], []
    for perturbation in (None, *PERTURBATIONS):
        classes = plain
        if perturbation is not None:
            changed, there = perturbation.change(image, valid, rng)
            classes = _classes(network, np.where(there, within(changed, pixels), np.float32(0)), there, settings)
            classes = classes if perturbation.back is None else perturbation.back(classes, valid.shape)
        compared = valid & (classes != IGNORE_INDEX)
        matrix = ConfusionMatrix(len(legend))
        matrix.update(classes, np.where(compared, truth, np.uint8(IGNORE_INDEX)))
        matrices.append(matrix.counts)
        agreed.append([int((classes == plain)[compared].sum()), int(compared.sum())])
    return np.stack(matrices), np.array(agreed, np.int64)


def _classes(
    network: Network, image: NDArray[np.float32], valid: NDArray[np.bool_], settings: ScoringSettings
) -> NDArray[np.uint8]:
    area = Area.whole(ArrayRaster(image, valid))
    overlap, batch = settings.options.overlap, settings.options.batch_size
    windows = area.windows(network.size, overlap)
    with closing(stream(network, area, windows, SlidingOptions(overlap=overlap), batch=batch)) as parts:
        return np.concatenate([part.classes for part in parts])


def _table(
    names: Sequence[str], matrices: NDArray[np.int64], agreed: NDArray[np.int64], options: RobustnessOptions
) -> tuple[RobustnessRow, ...]:
    """Return the rows of ``(N, P, K, K)`` counts and ``(N, P, 2)`` agreement, with intervals over the N groups."""
    # All groups once, and then the same draws for both.
    drawn, sums = (
        np.concatenate([counts.sum(0, keepdims=True), resample(counts, options.resamples, options.seed)])
        for counts in (matrices, agreed)
    )
    mious, shares = mean_iou(drawn), sums[..., 0] / np.maximum(sums[..., 1], 1)
    if len(matrices) < 2:
        mious[1:], shares[1:] = math.nan, math.nan
    return tuple(
        RobustnessRow(name, _interval(shares[:, i]), _interval(mious[:, i]), _interval(mious[:, 0] - mious[:, i]))
        for i, name in enumerate(names)
    )


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = interval(values[1:]) or (math.nan, math.nan)
    return Interval(float(values[0]), low, high)
