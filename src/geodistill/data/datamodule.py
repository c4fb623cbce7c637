"""The loaders of one data set that Lightning's trainer asks for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from geodistill.data.batches import DrawBatches
from geodistill.data.config import DataConfig
from geodistill.data.dataset import RandomCrops, Tiles
from geodistill.data.findings import vanished_labels
from geodistill.data.fraction import take_fraction
from geodistill.data.manifest import Manifest, Row, make_spec, without_labels
from geodistill.data.sample import Batch, Sample
from geodistill.errors import DataError, listed
from geodistill.spec import Spec


class DataModule(lightning.LightningDataModule):
    """Training crops and validation tiles of a manifest.

    The trainer must be made with ``use_distributed_sampler=False``: draws are shared among processes here. The
    training loader has no length, so the trainer's ``max_steps`` ends the run. Lightning keeps this module's
    state in its checkpoints: a resumed run goes on with the draw after the last finished step, also under another
    number of workers or processes.

    Args:
        config: The recipe's ``data``.
        spec: Classes and bands the network is made for; by default those of the manifest.
        seed: Seed of the crops where the recipe's ``data`` gives none.
        start_step: Steps already done, where no checkpoint says so.
        views: As for `RandomCrops`.
        labels: Whether masks are read; without them every train and unlabelled image is drawn.

    Attributes:
        manifest: The loaded manifest.
        spec: Classes, bands and normalisation.
        sets: Spec of each data set by name, where there are several (`geodistill.data.mixture`); none here.
        notes: What a user should know of the data, a line each: classes without a training pixel, a set that is
            mostly ignored, and what a fraction of the labels holds.

    Raises:
        DataError: The manifest is missing, has problems that the scan found, does not fit the spec, or not one
            training (or validation) pixel carries a class.
        RecipeError: A field of ``data`` is out of its range.
    """

    def __init__(
        self,
        config: DataConfig,
        spec: Spec | None = None,
        *,
        seed: int = 0,
        start_step: int = 0,
        views: int | None = None,
        labels: bool = True,
    ) -> None:
        super().__init__()
        config.check()
        self.config = config
        manifest = Manifest.load(config.manifest)
        manifest.refuse_problems()
        self.manifest = manifest if labels else without_labels(manifest)
        self.spec = spec or make_spec(self.manifest)
        self.sets: dict[str, Spec] = {}
        _check_fit(self.manifest, self.spec)
        self.notes = label_notes(self.manifest) if labels else []
        if labels:
            refuse_unlabelled(self.manifest)
        self._unlabelled = _unlabelled_rows(config, self.spec)
        self._start_step, self._draw = start_step, 0
        self._seed = seed if config.seed is None else config.seed
        if labels and config.fraction is not None:
            self.manifest, told = take_fraction(self.manifest, config.fraction, self._seed)
            self.notes += told
        self._first_step: int | None = None
        self._train = RandomCrops(
            self.manifest,
            "train",
            config.crop,
            config.augmentation(),
            unlabelled=self._unlabelled,
            unlabelled_share=config.unlabelled_share,
            views=views,
            seed=self._seed,
            cache_mb=self._cache_mb,
        )

    def restart(self, unlabelled: bool) -> None:
        """Begin with the first draw again, for another training task.

        Args:
            unlabelled: Whether unlabelled images, where the recipe's ``data`` names any, are drawn from now on.
        """
        self._draw, self._first_step = 0, None
        self._train.draw_unlabelled(self.config.unlabelled_share if unlabelled else 0.0)

    @property
    def _cache_mb(self) -> int:
        return self.config.cache_mb // max(self.config.workers, 1) if self.config.cache else 0

    @property
    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    @property
    def slots(self) -> int:
        """Views of all samples, 0 where every draw is new."""
        return 0 if self._train.schedule is None else self._train.schedule.slots

    def view_description(self) -> dict[str, Any]:
        """Give what the views depend on, JSON-able: files, seed, crop, and all that moves pixels but not colours."""
        files = hashlib.sha256()
        for row in (*self.manifest.rows("train"), *self._unlabelled):
            files.update(f"{row.window} {_fingerprint(row.image)} {row.mask and _fingerprint(row.mask)}\n".encode())
        moves = ("crop", "scale", "flips", "turns", "mosaic", "max_class_ratio", "crop_tries")
        return {
            "files": files.hexdigest(),
            "legend": self.spec.legend.to_dict(),
            "seed": self._seed,
            "views": None if self._train.schedule is None else self._train.schedule.views,
            **{name: getattr(self.config, name) for name in moves},
        }

    @property
    def crops(self) -> RandomCrops:
        """The training crops, by draw."""
        return self._train

    def tiles(self, padded_to: int = 1) -> Tiles:
        """Give the validation tiles; as many as a multiple of ``padded_to``."""
        return Tiles(self.manifest, "val", self.config.crop, padded_to=padded_to, cache_mb=self._cache_mb)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Give the endless loader of training batches, from the next draw on."""
        rank, world = self._rank_and_world
        if self._start_step and not self._draw:
            self._draw = self._start_step * self.config.batch_size * world
        self._first_step = 0 if self.trainer is None else self.trainer.global_step
        batches = DrawBatches(self.config.batch_size, self._draw, rank, world)
        return DataLoader(self._train, batch_sampler=batches, **loading(self.config))

    def val_dataloader(self) -> DataLoader[Sample]:
        """Give the loader of validation tiles; in a distributed run each process gets an equal part."""
        rank, world = self._rank_and_world
        tiles = self.tiles(padded_to=world)
        part = Subset(tiles, range(rank, len(tiles), world))
        return DataLoader(part, batch_size=self.config.batch_size, **loading(self.config))

    def state_dict(self) -> dict[str, Any]:
        """Give the draw after the last finished step, for Lightning's checkpoints."""
        if self.trainer is None or self._first_step is None:
            return {"draw": self._draw}
        steps = self.trainer.global_step - self._first_step
        together = self.config.batch_size * self._rank_and_world[1] * self.trainer.accumulate_grad_batches
        return {"draw": self._draw + steps * together}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draw that `state_dict` gave."""
        self._draw = int(state_dict["draw"])


def loading(config: DataConfig) -> dict[str, Any]:
    """Give the arguments of every loader: workers, how samples become a batch, pinned memory."""
    return {
        "num_workers": config.workers,
        "collate_fn": collate,
        "worker_init_fn": _start_worker,
        "pin_memory": torch.cuda.is_available(),
    }


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch."""
    keys = [key for key in ("image", "mask", "valid", "key", "source", "slot", "plain", "set") if key in samples[0]]
    return cast(Batch, default_collate([{key: dict(sample)[key] for key in keys} for sample in samples]))


def _check_fit(manifest: Manifest, spec: Spec) -> None:
    name = manifest.path
    if len(manifest.bands) != spec.channels:
        raise DataError(
            f"{len(manifest.bands)}-band images in {name} for a {spec.channels}-band model", "as many bands"
        )
    if manifest.legend is None or manifest.legend.names != spec.legend.names:
        held = "no classes" if manifest.legend is None else f"the classes {', '.join(manifest.legend.names)}"
        raise DataError(f"manifest {name} has {held}", f"the model's: {', '.join(spec.legend.names)}")


def label_notes(manifest: Manifest) -> list[str]:
    """Say which classes no training pixel has, and whether most pixels of the set carry none, a line each."""
    statistics, legend = manifest.statistics, manifest.legend
    if statistics is None or legend is None:
        return []
    counts = statistics.class_pixels.get("train", ())
    unseen = [name for name, pixels in zip(legend.names, counts, strict=False) if not pixels]
    notes = [f"no training pixel of {listed(unseen)}, which cannot be learnt"] if unseen else []
    told = vanished_labels(legend, statistics.class_pixels, statistics.ignored_pixels)
    return notes + [line for line in told if not line.startswith("no pixel of")]


def refuse_unlabelled(manifest: Manifest) -> None:
    """Refuse a data set that nothing can be learnt from, or measured on: of a split, not one pixel carries a class.

    Raises:
        DataError: It is such a set.
    """
    statistics = manifest.statistics
    if statistics is None:
        return
    for split in ("train", "val"):
        counts, ignored = statistics.class_pixels.get(split), statistics.ignored_pixels.get(split, 0)
        if counts is not None and not sum(counts):
            share = f"100.0 % of {ignored:,} are ignored" if ignored else "none is valid"
            raise DataError(
                f"no '{split}' pixel of {manifest.path} carries a class: {share}",
                "labels that the legend names",
                "see 'geodistill data stats', and what the masks call nodata",
            )


def _unlabelled_rows(config: DataConfig, spec: Spec) -> tuple[Row, ...]:
    if config.unlabelled is None:
        return ()
    manifest = Manifest.load(config.unlabelled)
    if len(manifest.bands) != spec.channels:
        raise DataError(
            f"{len(manifest.bands)}-band images in {config.unlabelled} for a {spec.channels}-band model",
            "as many bands",
        )
    return manifest.rows("unlabelled") or manifest.some_rows("train")


def _fingerprint(path: Path) -> str:
    """Name, size and time of a file: what tells whether its pixels are those of another day."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "the file that was scanned") from error
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _start_worker(worker: int) -> None:
    """Give GDAL 64 MiB for decoded blocks in each worker, where it would take 5 % of the machine's memory."""
    os.environ.setdefault("GDAL_CACHEMAX", "64")
