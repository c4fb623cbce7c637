"""Data sets over a manifest: endless random crops, whole images, and fixed tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from geodistill.data.augment import Augmentation, Photometric, enlargement, resample, turn_and_flip
from geodistill.data.class_draws import rare_classes
from geodistill.data.manifest import Manifest, Row, require_statistics
from geodistill.data.reader import Patch, PatchReader, WindowReader
from geodistill.data.sampling import Sample, ViewSchedule, place_in_pass
from geodistill.errors import DataError, RecipeError
from geodistill.raster import Window
from geodistill.raster.grid import place_windows
from geodistill.spec import IGNORE_INDEX


def to_sample(patch: Patch, row: Row, key: str) -> Sample:
    """Return a patch as a sample of tensors."""
    valid = torch.from_numpy(np.ascontiguousarray(patch.valid))
    return Sample(
        image=torch.from_numpy(np.ascontiguousarray(patch.image)),
        mask=torch.from_numpy(patch.mask.astype(np.int64)),
        valid=valid,
        unlabelled=valid if row.mask is None else torch.zeros_like(valid),
        key=key,
        source=row.key,
    )


class RandomCrops(Dataset[Sample]):
    """Random square crops, numbered by draw: ``crops[draw]`` is a function of seed and draw number alone.

    There is no end and no epoch. Each draw has a generator of its own, seeded with (seed, draw), from which row, zoom,
    place, turn and colours are taken in a fixed order. Nothing depends on what was drawn before, so any worker may
    compute any draw, and a resumed run, or one with other workers, sees the same stream::

        rng(seed, draw) -> row (by area) -> zoom -> place -> read -> [again while useless] -> turn, flip -> colours

    Every pixel of the split is as likely as any other to be drawn. Images smaller than the
    crop are padded with pixels that are not valid. Without replacement, the row is that of the draw's place in its pass
    over all rows, each as often in it as crops would cover it; all else is drawn as before.

    Args:
        manifest: The data set.
        split: The split to draw from.
        crop: Side of a crop in pixels.
        augmentation: What is done to a crop.
        unlabelled: Rows whose images are drawn too, always without labels.
        unlabelled_share: Share of the draws taken from them.
        ground: Index of the class that lies between objects; by default the one with most training pixels.
        views: Show so many views of each sample, over and over, instead of ever new ones: place, size, turn and
            flip are then a function of seed, sample and view alone, and only colours are new in every draw. Each
            image gives as many samples as crops would cover it.
        without_replacement: Draw each labelled row once before any is drawn again.
        seed: Any integer from 0.
        handles: Files held open by each worker.
        cache_mb: Budget of each worker for decoded images, in MiB.
        reader: Reads the images; by default from their files.

    Attributes:
        plain: Whether samples hold the image before its colours were changed, too; those of views always do.

    Raises:
        RecipeError: Draws are without replacement beside unlabelled images, whose share is drawn, or mosaics, whose
            parts are.
        DataError: The split is empty, holds files that could not be opened, or photometric augmentation or draws by
            class are asked for and the manifest has no statistics.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str = "train",
        crop: int = 256,
        augmentation: Augmentation | None = None,
        *,
        unlabelled: Sequence[Row] = (),
        unlabelled_share: float = 0.5,
        ground: int | None = None,
        views: int | None = None,
        without_replacement: bool = False,
        seed: int = 0,
        handles: int = 64,
        cache_mb: int = 0,
        reader: PatchReader | None = None,
    ) -> None:
        if crop < 1 or seed < 0:
            raise RecipeError(f"crop {crop}, seed {seed}", "a crop of at least 1 pixel and a seed of at least 0")
        self._augmentation = augmentation or Augmentation()
        self._photometric: Photometric | None = None
        self._rare = rare_classes(manifest, split) if self._augmentation.rare_classes else None
        if self._augmentation.photometric:
            statistics = require_statistics(manifest)
            self._photometric = Photometric(
                statistics, self._augmentation, statistics.ground if ground is None else ground
            )
        if (gsd := self._augmentation.gsd) and all(row.gsd is None for row in manifest.some_rows(split)):
            raise RecipeError(f"data.gsd {list(gsd)} with images of unknown ones", "georeferenced images", "data.scale")
        resize = self._augmentation.resize
        self._pools = [_Pool(manifest.some_rows(split), resize)]
        if unlabelled:
            self._pools.append(_Pool([replace(row, mask=None, split="unlabelled") for row in unlabelled], resize))
        self._crop, self._seed, self._views, self.plain = crop, seed, views, False
        if without_replacement and unlabelled:
            raise RecipeError("data.without_replacement beside data.unlabelled", "one of them", "leave one out")
        if without_replacement and self._augmentation.mosaic:
            raise RecipeError("data.without_replacement beside data.mosaic", "one of them", "leave one out")
        self._rows = self._pools[0].samples(crop) if without_replacement else []
        self._samples = [] if views is None else [pool.samples(crop) for pool in self._pools]
        self.draw_unlabelled(unlabelled_share)
        self._reader = reader or _reader(manifest, handles, cache_mb)

    def draw_unlabelled(self, share: float, first: int = 0) -> None:
        """Set the share of the draws taken from the unlabelled rows, where there are any, and the first such draw."""
        self._unlabelled_share = share if len(self._pools) > 1 else 0.0
        self._first_unlabelled = first
        self.schedule: ViewSchedule | None = None
        if self._views is not None:
            counts = tuple(len(samples) for samples in self._samples)
            self.schedule = ViewSchedule(counts, self._views, self._unlabelled_share, self._seed)

    def __getitem__(self, draw: int) -> Sample:
        """Return the crop of a draw number, from 0 without end.

        Raises:
            DataError: A file is corrupt, or has a label outside the legend.
        """
        if self.schedule is not None:
            return self._view(draw, self.schedule)
        rng = np.random.default_rng((self._seed, draw))
        # Drawn in every case, so that the same draw shows the same place with and without unlabelled images.
        other = rng.random() < self._unlabelled_share and draw >= self._first_unlabelled
        pool = self._pools[-1] if other else self._pools[0]
        fixed = self._rows[place_in_pass(self._seed, draw, len(self._rows))] if self._rows else None
        patch, row, key = self._geometry(pool, fixed, rng)
        sample = to_sample(self._colours(patch, rng), row, key)
        if self.plain:
            sample["plain"] = torch.from_numpy(np.ascontiguousarray(patch.image))
        return sample

    def _view(self, draw: int, schedule: ViewSchedule) -> Sample:
        """Return a view, and beside it the image with its colours as they are."""
        view = schedule.view(draw)
        fixed = self._samples[view.pool][view.sample]
        patch, row, key = self._geometry(self._pools[view.pool], fixed, np.random.default_rng((self._seed, view.slot)))
        sample = to_sample(self._colours(patch, np.random.default_rng((self._seed, view.slot, draw))), row, key)
        sample["slot"], sample["plain"] = view.slot, sample["image"]
        if self._photometric is not None:
            sample["plain"] = torch.from_numpy(np.ascontiguousarray(patch.image))
        return sample

    def _geometry(self, pool: _Pool, fixed: Row | None, rng: np.random.Generator) -> tuple[Patch, Row, str]:
        """Draw place, size, turn and flip, from a row or from any of the pool."""
        augmentation = self._augmentation
        if rng.random() < augmentation.mosaic:
            patch, row, key = self._mosaic(pool, rng)
        else:
            patch, row, key = self._one(pool, fixed, rng, self._crop, self._crop)
        return turn_and_flip(patch, rng, augmentation), row, key

    def _colours(self, patch: Patch, rng: np.random.Generator) -> Patch:
        return patch if self._photometric is None else self._photometric(patch, rng)

    def _one(
        self, pool: _Pool, fixed: Row | None, rng: np.random.Generator, height: int, width: int
    ) -> tuple[Patch, Row, str]:
        """Read one scaled window, again while it is useless or too uniform (the last try is taken as it is).

        Some draws are for a class, the rarer the more, and read again while that is not in the window.
        """
        rare: int | None = None
        if self._rare is not None and rng.random() < self._augmentation.rare_classes:
            rare = int(np.searchsorted(self._rare, rng.random(), side="right"))
        for _ in range(self._augmentation.crop_tries):
            row = fixed or pool.choose(rng)
            zoom = self._augmentation.zoom(rng, row.window, row.gsd)
            window = _random_window(rng, row.window, max(round(height / zoom), 1), max(round(width / zoom), 1))
            patch = self._reader.read(row, window)
            if self._useful(patch, row, rare):
                break
        key = f"{row.image}@{window.row + row.window.row},{window.col + row.window.col}"
        return resample(patch, height, width), row, key

    def _useful(self, patch: Patch, row: Row, rare: int | None) -> bool:
        if row.mask is None:
            return bool(patch.valid.any())
        counts = np.bincount(patch.mask.reshape(-1), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
        labelled = int(counts.sum())
        if rare is not None:
            return bool(counts[rare])
        return labelled > 0 and bool(counts.max() <= self._augmentation.max_class_ratio * labelled)

    def _mosaic(self, pool: _Pool, rng: np.random.Generator) -> tuple[Patch, Row, str]:
        """Put four crops together round a random centre (Bochkovskiy et al. 2020)."""
        row_cut, col_cut = (
            int(v) for v in rng.integers(self._crop // 4, self._crop - self._crop // 4, 2, endpoint=True)
        )
        halves = ((slice(0, row_cut), slice(row_cut, self._crop)), (slice(0, col_cut), slice(col_cut, self._crop)))
        whole: Patch | None = None
        keys = []
        for rows in halves[0]:
            for cols in halves[1]:
                height, width = rows.stop - rows.start, cols.stop - cols.start
                if not height or not width:
                    continue
                part, row, key = self._one(pool, None, rng, height, width)
                keys.append(key)
                if whole is None:
                    shape = (self._crop, self._crop)
                    image = np.zeros((part.image.shape[0], *shape), np.float32)
                    whole = Patch(image, np.zeros(shape, np.uint8), np.zeros(shape, bool))
                whole.image[:, rows, cols] = part.image
                whole.mask[rows, cols] = part.mask
                whole.valid[rows, cols] = part.valid
        assert whole is not None  # a crop of at least one pixel has at least one part
        return whole, row, " + ".join(keys)


class Tiles(Dataset[Sample]):
    """The images of a split cut into fixed, equal tiles without overlap, for validation in batches.

    Tiles at the right and bottom edge are padded with pixels that are not valid; each pixel is in one tile.

    Args:
        manifest: The data set.
        split: The split.
        tile: Side of a tile in pixels.
        resize: Pixels that each image's longer side is brought to first; as it is where not given.
        padded_to: Give at least this many tiles, the added ones without labels, so that every process of a
            distributed run has as many.
        cache_mb: Budget for decoded images, in MiB, of each worker.
        reader: Reads the images; by default from their files.

    Raises:
        DataError: The split is empty or holds files that could not be opened.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str = "val",
        tile: int = 256,
        *,
        resize: int | None = None,
        padded_to: int = 1,
        cache_mb: int = 0,
        reader: PatchReader | None = None,
    ) -> None:
        rows = manifest.some_rows(split)
        _refuse_unopened(rows)
        self._tile, self._resize = tile, resize
        self._tiles = [
            (row, window)
            for row in rows
            for side in (max(round(tile / enlargement(row.window, resize)), 1),)
            for window in place_windows(row.window.height, row.window.width, side)
        ]
        self._length = -(-len(self._tiles) // padded_to) * padded_to
        self._reader = reader or _reader(manifest, 64, cache_mb)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Return a tile, row by row and image by image.

        Raises:
            DataError: A file is corrupt, or has a label outside the legend.
            IndexError: There is no such tile.
        """
        if not 0 <= index < self._length:
            raise IndexError(index)
        row, window = self._tiles[min(index, len(self._tiles) - 1)]
        patch = self._reader.read(row, window)
        if index >= len(self._tiles):
            patch.mask[:] = IGNORE_INDEX
        return to_sample(
            resample(patch, self._tile, self._tile),
            row,
            f"{row.image}@{window.row + row.window.row},{window.col + row.window.col}",
        )


class _Pool:
    """Rows to draw from, by area, of the size that images are brought to."""

    def __init__(self, rows: Sequence[Row], resize: int | None = None) -> None:
        _refuse_unopened(rows)
        self._rows = rows
        sides = np.array([(r.window.height, r.window.width, enlargement(r.window, resize)) for r in rows], np.float64)
        self._areas = sides[:, 0] * sides[:, 1] * sides[:, 2] ** 2
        self._cumulative = np.cumsum(self._areas / self._areas.sum())

    def choose(self, rng: np.random.Generator) -> Row:
        """Return a row with probability by its area."""
        index = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        return self._rows[min(index, len(self._rows) - 1)]

    def samples(self, crop: int) -> list[Row]:
        """Return each row as often as crops cover it, at least once."""
        counts = [max(round(area / crop**2), 1) for area in self._areas.tolist()]
        return [row for row, count in zip(self._rows, counts, strict=True) for _ in range(count)]


def _random_window(rng: np.random.Generator, bounds: Window, height: int, width: int) -> Window:
    """Place a window at random inside the bounds, or the bounds at random inside a larger window."""
    top, left = (
        int(rng.integers(min(room, 0), max(room, 0), endpoint=True))
        for room in (bounds.height - height, bounds.width - width)
    )
    return Window(top, left, height, width)


def _reader(manifest: Manifest, handles: int, cache_mb: int) -> WindowReader:
    return WindowReader(
        manifest.legend,
        manifest.bands,
        ignore_unknown=manifest.ignore_unknown,
        handles=handles,
        cache_mb=cache_mb,
    )


def _refuse_unopened(rows: Sequence[Row]) -> None:
    bad = [row for row in rows if not row.window.height or not row.window.width]
    if bad:
        raise DataError(
            f"{bad[0].image} could not be opened when it was scanned",
            "readable images",
            f"mend or remove it ({len(bad)} such in all, see 'geodistill data check') and scan again",
        )
