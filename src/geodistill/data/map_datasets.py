"""Map-style datasets of tensors, such as TorchGeo's, as a manifest whose rows are read from the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import label_counts, unknown_labels_error
from geodistill.data.reader import Patch
from geodistill.data.statistics import RunningMoments, Spread, Statistics
from geodistill.errors import DataError
from geodistill.raster import Window
from geodistill.raster.grid import read_padded
from geodistill.spec import IGNORE_INDEX, Legend


class MapDataset(Protocol):
    """A map-style dataset of dicts with ``image`` and ``mask``, such as every TorchGeo dataset for segmentation."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return an item: ``image`` ``(C, H, W)`` float and ``mask`` ``(H, W)`` or ``(1, H, W)`` integers."""
        ...


def as_patch(item: Mapping[str, Any], name: Path, legend: Legend) -> Patch:
    """Bring an item of a dataset (tensors or arrays) into the form of a window read from files.

    Samples that are not finite are not valid; mask values are those of the legend, its ``ignore_values`` ignored.

    Raises:
        DataError: The item has another form, or its mask a value outside the legend.
    """
    if not {"image", "mask"} <= set(item):
        raise DataError(f"{name} with the keys {', '.join(map(str, item))}", "'image' and 'mask'")
    image, mask = np.asarray(item["image"]), np.asarray(item["mask"])
    mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    if image.ndim != 3 or image.shape[1:] != mask.shape or mask.dtype.kind not in "iub":
        raise DataError(
            f"{name} with an image of {image.shape} and a mask of {mask.shape} {mask.dtype}",
            "an image of (C, H, W) and a mask of (H, W) integers",
        )
    pixels = image.astype(np.float32)
    valid = np.asarray(np.isfinite(pixels).all(axis=0))
    indices, unknown = legend.indices_from_values(mask)
    if unknown:
        raise unknown_labels_error(name, dict(unknown.items()), legend)
    return Patch(np.where(valid, pixels, np.float32(0)), np.where(valid, indices, np.uint8(IGNORE_INDEX)), valid)


class DatasetReader:
    """Reads windows of datasets' items; a row's image is named by its split and its position.

    Args:
        datasets: By split.
        legend: What the mask values mean.
    """

    def __init__(self, datasets: Mapping[str, MapDataset], legend: Legend) -> None:
        self._datasets, self._legend = dict(datasets), legend

    def read(self, row: Row, window: Window) -> Patch:
        """Read a window of an item, relative to the row's own; what lies beyond it is not valid.

        Raises:
            DataError: The item has another form than it had, or a label outside the legend.
        """
        whole = as_patch(self._datasets[row.split][int(row.image.name)], row.image, self._legend)
        channels, (height, width) = len(whole.image), whole.valid.shape
        if (height, width) != (row.window.height, row.window.width):
            raise DataError(f"{row.image} is {width} x {height}", "the size it had when it was measured")

        def read(inside: Window) -> tuple[NDArray[Any], ...]:
            rows, cols = inside.slices
            return whole.image[:, rows, cols], whole.mask[rows, cols].copy(), whole.valid[rows, cols]

        def blank(height: int, width: int) -> tuple[NDArray[Any], ...]:
            image, mask = np.zeros((channels, height, width), np.float32), np.zeros((height, width), np.uint8)
            return image, mask + np.uint8(IGNORE_INDEX), np.zeros((height, width), bool)

        return Patch(*read_padded(window, row.window, read, blank))


@dataclass(frozen=True)
class Datasets:
    """Datasets that were measured, ready to be drawn from.

    Attributes:
        by_split: Each dataset by its split: ``train``, ``val`` ...
        manifest: Their items as rows, with legend, bands and statistics.
    """

    by_split: Mapping[str, MapDataset]
    manifest: Manifest

    @classmethod
    def measured(cls, by_split: Mapping[str, MapDataset], legend: Legend, bands: Sequence[str] = ()) -> Datasets:
        """Read every item of each split once for size, bands (by default ``band1``, ``band2`` ...) and classes.

        Raises:
            DataError: A dataset is empty, items differ in bands, or one has another form or a label outside the
                legend.
        """
        rows: list[Row] = []
        moments: RunningMoments | None = None
        classes: dict[str, NDArray[np.int64]] = {}
        ignored: dict[str, int] = {}
        for split, dataset in by_split.items():
            if not len(dataset):
                raise DataError(f"an empty dataset for {split}", "at least one item")
            for index in range(len(dataset)):
                name = Path(split) / str(index)
                patch = as_patch(dataset[index], name, legend)
                channels, height, width = patch.image.shape
                moments = moments or RunningMoments(channels)
                if channels != len(moments.mean) or (bands and channels != len(bands)):
                    raise DataError(f"{name} with {channels} bands", f"{len(bands) or len(moments.mean)} as the others")
                if split == "train":
                    moments.update(patch.image[:, patch.valid])
                counts, lost = label_counts(patch.mask[patch.valid], len(legend))
                classes[split] = classes.get(split, 0) + counts
                ignored[split] = ignored.get(split, 0) + lost
                rows.append(Row(name, name, split, Window(0, 0, height, width)))
        if moments is None:
            raise DataError("no datasets", "at least one")
        names = tuple(bands) or tuple(f"band{i + 1}" for i in range(len(moments.mean)))
        statistics = _statistics(rows, moments, classes, ignored)
        return cls(by_split, Manifest(tuple(rows), names, legend, statistics=statistics))

    def reader(self) -> DatasetReader:
        """Return what reads the items."""
        assert self.manifest.legend is not None  # it was measured with one
        return DatasetReader(self.by_split, self.manifest.legend)


def _statistics(
    rows: Sequence[Row], moments: RunningMoments, classes: Mapping[str, NDArray[np.int64]], ignored: Mapping[str, int]
) -> Statistics:
    splits = tuple(classes)
    areas = {s: sum(r.window.height * r.window.width for r in rows if r.split == s) for s in splits}
    return Statistics(
        splits=("train",),
        mean=tuple(moments.mean.tolist()),
        std=tuple(moments.std.tolist()),
        minimum=tuple(moments.minimum.tolist()),
        maximum=tuple(moments.maximum.tolist()),
        images={s: sum(row.split == s for row in rows) for s in splits},
        pixels=areas,
        valid_pixels={s: int(classes[s].sum()) + ignored[s] for s in splits},
        class_pixels={s: tuple(counts.tolist()) for s, counts in classes.items()},
        ignored_pixels=dict(ignored),
        height=Spread.of([row.window.height for row in rows]),
        width=Spread.of([row.window.width for row in rows]),
    )
