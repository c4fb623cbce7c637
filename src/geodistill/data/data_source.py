"""One data set as it is trained on: its Spec, its crops by draw, its validation tiles, and what a user should know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodistill.data.data_config import DataConfig
from geodistill.data.dataset import RandomCrops, Tiles
from geodistill.data.fraction import take_fraction
from geodistill.data.manifest import Manifest, Row, make_spec, without_labels
from geodistill.data.reader import PatchReader, refuse_moved
from geodistill.data.statistics import NOTHING_TO_LEARN, ignored_share, lone_classes, misread_in
from geodistill.errors import DataError, listed
from geodistill.raster import Raster
from geodistill.raster.bands import are_others, lie_otherwise
from geodistill.raster.raster import have_names, open_image
from geodistill.spec import Spec


class DataSource:
    """Training crops and validation tiles of one manifest; spec, seed, views and labels as for `DataModule`.

    Args:
        config: How it is drawn.
        manifest: The data set.
        reader: Reads the images; by default from their files.

    Attributes:
        manifest: The data set, without labels or with a fraction of them where that is asked for.
        spec: Classes, bands and normalisation.
        notes: What a user should know of it, one line each.
        crops: The training crops, by draw.

    Raises:
        DataError: The manifest has problems that the scan found, does not fit the spec, or not one training (or
            validation) pixel carries a class.
        RecipeError: The fraction of labels is less than one window.
    """

    def __init__(
        self,
        config: DataConfig,
        manifest: Manifest,
        spec: Spec | None = None,
        *,
        seed: int = 0,
        views: int | None = None,
        labels: bool = True,
        reader: PatchReader | None = None,
    ) -> None:
        manifest.refuse_problems()
        if reader is None:
            refuse_moved(manifest)
        self.manifest = manifest if labels else without_labels(manifest)
        self.spec = spec or make_spec(self.manifest)
        _check_fit(self.manifest, self.spec)
        self.notes = training_notes(self.manifest) if labels else []
        if labels:
            refuse_unlabelled(self.manifest)
        self._config, self._reader = config, reader
        self._unlabelled, notes = _unlabelled_rows(config, self.spec)
        self.notes += notes
        self._seed = seed if config.seed is None else config.seed
        # The whole set's: what lies between objects may be rare in a fraction.
        ground = None if self.manifest.statistics is None else self.manifest.statistics.ground
        if labels and config.fraction is not None:
            self.manifest, notes = take_fraction(
                self.manifest, config.fraction, self._seed, config.crop, config.fraction_choice
            )
            self.notes += notes
        self.crops = RandomCrops(
            self.manifest,
            "train",
            config.crop,
            config.augmentation(),
            unlabelled=self._unlabelled,
            unlabelled_share=config.unlabelled_share,
            ground=ground,
            views=views,
            without_replacement=config.without_replacement,
            seed=self._seed,
            cache_mb=config.worker_cache_mb,
            reader=reader,
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The images that may be seen: of the training and validation splits, and those without labels."""
        return (*self.manifest.rows("train"), *self.manifest.rows("val"), *self._unlabelled)

    def tiles(self, padded_to: int = 1) -> Tiles:
        """Return the validation tiles; as many as a multiple of ``padded_to``."""
        config = self._config
        return Tiles(
            self.manifest,
            "val",
            config.crop,
            resize=config.resize,
            padded_to=padded_to,
            cache_mb=config.worker_cache_mb,
            reader=self._reader,
        )

    def view_description(self) -> dict[str, Any]:
        """Return what the views depend on, JSON-able: files, seed, crop, and all that moves pixels but not colours."""
        files, rows = hashlib.sha256(), (*self.manifest.rows("train"), *self._unlabelled)
        for row in rows:
            files.update(f"{row.window} {_fingerprint(row.image)} {row.mask and _fingerprint(row.mask)}\n".encode())
        moves = ["crop", "scale", "scale_share", "flips", "turns", "mosaic", "max_class_ratio", "crop_tries"]
        # Caches of runs without these stay good.
        moves += [key for key in ("vertical_flips", "rare_classes", "resize", "gsd") if getattr(self._config, key)]
        return {
            "files": files.hexdigest(),
            "legend": self.spec.legend.to_dict(),
            "seed": self._seed,
            "views": None if self.crops.schedule is None else self.crops.schedule.views,
            **{name: getattr(self._config, name) for name in moves},
            # Caches of before saw such images as they lie.
            **({"bands": self.manifest.bands} if _are_reordered(rows, self.manifest.bands) else {}),
        }


def _check_fit(manifest: Manifest, spec: Spec) -> None:
    name = manifest.path
    if len(manifest.bands) != spec.channels:
        raise DataError(
            f"{len(manifest.bands)}-band images in {name} for a {spec.channels}-band model", "as many bands"
        )
    if manifest.legend is None or manifest.legend.names != spec.legend.names:
        classes = "no classes" if manifest.legend is None else f"the classes {', '.join(manifest.legend.names)}"
        raise DataError(f"manifest {name} has {classes}", f"the model's: {', '.join(spec.legend.names)}")


def training_notes(manifest: Manifest) -> list[str]:
    """Say which classes no training pixel has, and whether most pixels of the set carry none, one line each."""
    statistics, legend = manifest.statistics, manifest.legend
    if statistics is None or legend is None:
        return []
    unseen, unmeasured = (
        [name for name, pixels in zip(legend.names, statistics.class_pixels.get(split, ()), strict=False) if not pixels]
        for split in ("train", "val")
    )
    notes = [f"no training pixel of {listed(unseen)}, which cannot be learnt"] if unseen else []
    if unmeasured:
        notes.append(f"no validation pixel of {listed(unmeasured)}: the validation mean tells nothing of it")
    notes += ignored_share(statistics.class_pixels, statistics.ignored_pixels)
    return [*notes, misread] if (misread := misread_in(legend, statistics)) else notes


_ANOTHER_CLASS = {
    "train": "label what is around it: 'label build --background NAME', or masks with a class for it; or scan again "
    "with another division",
    "val": "scan again with another division, or without validation images",
}
"""What to do about a split whose labels are all of one class."""


def refuse_unlabelled(manifest: Manifest) -> None:
    """Refuse a data set that nothing can be learnt from, or measured on: a split with no label, or with one class.

    Raises:
        DataError: It is such a set.
    """
    statistics = manifest.statistics
    if statistics is None:
        return
    misread = "" if manifest.legend is None else misread_in(manifest.legend, statistics)
    for split in ("train", "val"):
        counts, ignored = statistics.class_pixels.get(split), statistics.ignored_pixels.get(split, 0)
        if counts is not None and not sum(counts):
            share = f"100.0 % of {ignored:,} are ignored" if ignored else "none is valid"
            raise DataError(
                f"no '{split}' pixel of {manifest.path} carries a class: {share}",
                "labels that the legend names",
                misread or "see 'geodistill data stats', and what the masks call nodata",
            )
        if manifest.legend is not None and (name := lone_classes(manifest.legend, {split: counts or ()}).get(split)):
            raise DataError(
                f"{manifest.path} has no '{split}' label but {name!r}: {NOTHING_TO_LEARN}",
                "two classes or more",
                f"{misread} If so, mend the legend and scan again" if misread else _ANOTHER_CLASS[split],
            )


def _unlabelled_rows(config: DataConfig, spec: Spec) -> tuple[tuple[Row, ...], list[str]]:
    """Return the images without labels, and a line where some of their bands have other names than the model's.

    Raises:
        DataError: Their bands are not as many as the model's, or some, but not all, of these lie in other places.
    """
    if config.unlabelled is None:
        return (), []
    manifest = Manifest.load(config.unlabelled)
    bands, known = ([name.lower() for name in names] for names in (manifest.bands, spec.bands))
    # Names that have nothing in common, such as red and B4, say nothing of each other.
    shared = set(bands) & set(known)
    moved = any(bands.index(name) != known.index(name) for name in shared)
    what = (
        f"images with the bands {', '.join(manifest.bands)} in {config.unlabelled} for a model of "
        f"{', '.join(spec.bands)}"
    )
    if len(bands) != len(known) or (moved and not lie_otherwise(known, bands)):
        raise DataError(what, "the same bands", "leave them out")
    partly = shared and not moved and are_others(known, bands)
    notes = [f"{what}: those of other names are taken in their order"] if partly else []
    return manifest.rows("unlabelled") or manifest.some_rows("train"), notes


def _are_reordered(rows: Sequence[Row], bands: Sequence[str]) -> bool:
    """Whether the bands of an image are read in another order than they lie in."""
    if not have_names(bands):
        return False
    for image in {row.image for row in rows}:
        with Raster(image) as plain, open_image(image, bands) as read:
            if plain.band_names != read.band_names:
                return True
    return False


def _fingerprint(path: Path) -> str:
    """Name, size and time of a file: what tells whether its pixels are those of another day."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "the file that was scanned") from error
    return f"{path} {status.st_size} {status.st_mtime_ns}"
