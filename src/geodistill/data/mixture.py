"""Several data sets at once: each batch holds a part of every set, in proportion to its images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
from torch.utils.data import DataLoader, Dataset, Subset

from geodistill.data.batches import DealBatches, split_batch
from geodistill.data.config import SetsConfig
from geodistill.data.datamodule import DataModule, loading
from geodistill.data.dataset import RandomCrops
from geodistill.data.manifest import Manifest
from geodistill.data.sample import Sample
from geodistill.errors import DataError
from geodistill.spec import Legend, Spec

_UNNAMED = re.compile(r"band\d+")
MOST_RANGE = 8.0
"""Largest ratio of two sets' highest samples of a band in one unit; 8-bit samples and reflectance differ by more."""


class SetsCrops(Dataset[Sample]):
    """Random crops of several sets: ``crops[position, draw]`` is draw ``draw`` of the set at ``position``."""

    def __init__(self, crops: Sequence[RandomCrops]) -> None:
        self._crops = tuple(crops)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """Give the crop, with its set's position."""
        position, draw = index
        return _marked(self._crops[position][draw], position)


class OneSet(Dataset[Sample]):
    """The samples of one set among several."""

    def __init__(self, samples: Dataset[Sample], position: int) -> None:
        self._samples, self._position = samples, position

    def __getitem__(self, index: int) -> Sample:
        """Give the sample, with its set's position."""
        return _marked(self._samples[index], self._position)


class SetsDataModule(lightning.LightningDataModule):
    """Training crops and validation tiles of several data sets; otherwise as `DataModule`.

    A training batch holds a part of every set, set after set, by `split_batch`; its ``set`` says which is which. There
    is a validation loader for each set that has validation images.

    Args:
        config: The recipe's ``data``, with ``manifests``.
        seed: Seed of the crops where the recipe's ``data`` gives none.
        processes: Processes that will share each step.

    Attributes:
        manifest: All rows of all sets together.
        spec: The classes of all sets, each as ``set:class``; bands; normalisation pooled over the sets by their share
            of a batch.
        sets: The Spec of each set, with that same normalisation.
        notes: What a user should know of the sets, a line each.

    Raises:
        DataError: A manifest cannot be trained on, or the sets differ in bands or units.
        RecipeError: A field of ``data`` is out of its range, or a set would have no part in a batch.
    """

    def __init__(self, config: SetsConfig, *, seed: int = 0, processes: int = 1) -> None:
        super().__init__()
        config.check()
        self.config = config
        parts = config.by_set().items()
        self._modules = {name: DataModule(own, seed=seed + i) for i, (name, own) in enumerate(parts)}
        manifests = {name: module.manifest for name, module in self._modules.items()}
        refuse_different_images(manifests)
        self._images = {name: len(manifest.rows("train")) for name, manifest in manifests.items()}
        self.parts = split_batch(config.batch_size * processes, self._images, processes)
        self.spec, self.sets = join_specs({name: m.spec for name, m in self._modules.items()}, self._images)
        entries = tuple(row for manifest in manifests.values() for row in manifest.entries)
        self.manifest = Manifest(entries, self.spec.bands, self.spec.legend)
        self._draws = [0] * len(manifests)
        self._first_step: int | None = None

    @property
    def notes(self) -> list[str]:
        """What a user should know of the sets, a line each."""
        whole = sum(self.parts.values())
        shares = [
            f"{name}: {self._images[name]:,} training images, {part} of each batch of {whole}, "
            f"{self.sets[name].classes} classes"
            for name, part in self.parts.items()
        ]
        return shares + [f"{name}: {note}" for name, module in self._modules.items() for note in module.notes]

    @property
    def slots(self) -> int:
        """No sample comes back: there are no views."""
        return 0

    def view_description(self) -> dict[str, Any]:
        """There are no views."""
        return {}

    def restart(self, unlabelled: bool) -> None:
        """Begin with the first draws again, for another training task; there are no unlabelled images."""
        self._draws, self._first_step = [0] * len(self._draws), None

    def train_dataloader(self) -> DataLoader[Sample]:
        """Give the endless loader of training batches, from the next draws on."""
        rank, world = self._rank_and_world
        self._first_step = 0 if self.trainer is None else self.trainer.global_step
        self.parts = split_batch(self.config.batch_size * world, self._images, world)
        batches = DealBatches(list(self.parts.values()), self._draws, rank, world)
        crops = SetsCrops([module.crops for module in self._modules.values()])
        return DataLoader(crops, batch_sampler=batches, **loading(self.config))

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Give a loader of validation tiles for each set that has any."""
        rank, world = self._rank_and_world
        loaders = []
        for position, module in enumerate(self._modules.values()):
            if module.manifest.rows("val"):
                tiles = module.tiles(padded_to=world)
                part = Subset(OneSet(tiles, position), range(rank, len(tiles), world))
                loaders.append(DataLoader(part, batch_size=self.config.batch_size, **loading(self.config)))
        return loaders

    @property
    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """Give the draws after the last finished step, for Lightning's checkpoints."""
        if self.trainer is None or self._first_step is None:
            return {"draws": self._draws}
        steps = (self.trainer.global_step - self._first_step) * self.trainer.accumulate_grad_batches
        return {"draws": [first + steps * size for first, size in zip(self._draws, self.parts.values(), strict=True)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draws that `state_dict` gave."""
        self._draws = [int(draw) for draw in state_dict["draws"]]


def join_specs(specs: Mapping[str, Spec], images: Mapping[str, int]) -> tuple[Spec, dict[str, Spec]]:
    """Join the Specs of several sets of the same bands.

    Args:
        specs: By name.
        images: Training images of each, which weigh its mean and deviation in the pooled ones.

    Returns:
        The Spec of all classes, named ``set:class``, and each set's own; both with the pooled normalisation.

    Raises:
        DataError: The sets have more than 255 classes in all.
    """
    weights = np.array([images[name] for name in specs], np.float64)
    weights /= weights.sum()
    means, stds = (np.array([getattr(spec, key) for spec in specs.values()]) for key in ("mean", "std"))
    mean = weights @ means
    # The variance of a mixture: within the sets and between them.
    std = np.sqrt(weights @ (stds**2 + (means - mean) ** 2))
    pooled_mean, pooled_std = tuple(map(float, mean)), tuple(map(float, std))
    names = tuple(f"{name}:{label}" for name, spec in specs.items() for label in spec.legend.names)
    if len(names) > 255:
        raise DataError(f"{len(specs)} sets with {len(names)} classes in all", "at most 255", "train on fewer sets")
    gsds = [spec.gsd for spec in specs.values() if spec.gsd is not None]
    bands, gsd = next(iter(specs.values())).bands, float(np.median(gsds)) if gsds else None
    every = Spec(Legend(names), bands, pooled_mean, pooled_std, gsd)
    return every, {name: replace(spec, mean=pooled_mean, std=pooled_std) for name, spec in specs.items()}


def refuse_different_images(manifests: Mapping[str, Manifest]) -> None:
    """Refuse sets that one network cannot read: of other bands, or in other units.

    Raises:
        DataError: Their bands, or the ranges of their samples, differ.
    """
    (first, known), *others = manifests.items()
    for name, manifest in others:
        own, theirs = known.bands, manifest.bands
        pairs = zip(own, theirs, strict=False)
        named = ((a, b) for a, b in pairs if not _UNNAMED.fullmatch(a) and not _UNNAMED.fullmatch(b))
        if len(own) != len(theirs) or any(a.lower() != b.lower() for a, b in named):
            raise DataError(
                f"set {name!r} with the bands {', '.join(theirs)} beside {first!r} with {', '.join(own)}",
                "the same bands in every set",
                "choose and order the bands when you scan, or train without that set",
            )
        high, higher = (m.statistics.maximum if m.statistics else () for m in (known, manifest))
        for band, low, top in zip(own, high, higher, strict=False):
            if max(low, top) > MOST_RANGE * max(min(low, top), 1e-12):
                raise DataError(
                    f"set {name!r} with samples up to {top:g} in {band} beside {first!r} with up to {low:g}",
                    "the same units in every set",
                    "bring the images to one unit and scan again",
                )


def _marked(sample: Sample, position: int) -> Sample:
    sample["set"] = position
    return sample
