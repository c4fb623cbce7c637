"""The loaders that Lightning's trainer asks for, of one data set or of several at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch.utils.data import DataLoader, Subset

from geodistill.data.data_config import DataConfig
from geodistill.data.data_source import DataSource
from geodistill.data.dataset import RandomCrops, Tiles
from geodistill.data.loading import MixedCrops, OneSet, collate, start_worker
from geodistill.data.manifest import Manifest, Row
from geodistill.data.sampling import DrawBatches, Sample, split_batch
from geodistill.errors import RecipeError
from geodistill.spec import Legend, Spec

if TYPE_CHECKING:
    from geodistill.data.map_datasets import Datasets, MapDataset


class DataModule(lightning.LightningDataModule):
    """Training crops and validation tiles of one data set or several.

    A training batch of several sets holds a part of every set, set after set, by `split_batch`; its ``set`` says which
    is which, and each set that has validation images has a loader of its own. One set is the case of one part.

    The trainer must be made with ``use_distributed_sampler=False``: draws are shared among processes here. The
    training loader has no length, so the trainer's ``max_steps`` ends the run. Lightning keeps this module's
    state in its checkpoints: a resumed run goes on with the draw after the last finished step, also under another
    number of workers or processes.

    Args:
        config: The recipe's ``data``.
        spec: Classes and bands the network is made for; by default those of the manifest. One set only.
        seed: Seed of the crops where the recipe's ``data`` gives none.
        start_step: Steps already done, where no checkpoint says so.
        views: As for `RandomCrops`. One set only.
        labels: Whether masks are read; without them every train and unlabelled image is drawn.
        processes: Processes that will share each step.
        datasets: Map-style datasets in place of a manifest; see `of_datasets`.

    Attributes:
        manifest: The loaded manifest; all rows of all sets together where there are several.
        spec: Classes, bands and normalisation. Of several sets: the classes of all, each as ``set:class``, and the
            normalisation pooled over the sets by their share of a batch.
        sets: Spec of each data set by name, with that same normalisation, where there are several; else empty.
        parts: Samples of each set in a step of all processes.

    Raises:
        DataError: A manifest is missing, has problems that the scan found, does not fit the spec, or not one training
            (or validation) pixel carries a class; or the sets differ in bands or units.
        RecipeError: A field of ``data`` is out of its range, or a set would have no part in a batch.
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
        processes: int = 1,
        datasets: Datasets | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        if datasets is None:
            config.check()
            self._sources = {
                name: DataSource(part, Manifest.load(part.manifest), spec, seed=seed + i, views=views, labels=labels)
                for i, (name, part) in enumerate(config.sources().items())
            }
        else:
            config.check_values()
            reader = datasets.reader()
            self._sources = {"": DataSource(config, datasets.manifest, spec, seed=seed, reader=reader)}
        (only, *others) = self._sources.values()
        self.manifest, self.spec, self.sets = only.manifest, only.spec, dict[str, Spec]()
        self._images = {name: len(source.manifest.rows("train")) for name, source in self._sources.items()}
        if others:
            self._mix()
        self.parts = split_batch(config.samples * processes, self._images, processes)
        self._labels = labels
        self._start_step, self._draws = start_step, [0] * len(self._sources)
        self._first_step: int | None = None

    @classmethod
    def of_datasets(
        cls,
        train: MapDataset,
        val: MapDataset | None,
        legend: Legend,
        config: DataConfig | None = None,
        *,
        bands: Sequence[str] = (),
        seed: int = 0,
    ) -> DataModule:
        """Make a DataModule of map-style datasets, such as TorchGeo's.

        Their items are dicts with ``image``, ``(C, H, W)`` float, and ``mask``, ``(H, W)`` or ``(1, H, W)`` integers
        that are values of the legend. Each is read once to measure bands, sizes and classes, and then at every draw: an
        item must be the same each time. Crops, augmentation and validation tiles are those of a manifest's images.

        Raises:
            RecipeError: The config asks for what a manifest alone has: a fraction, or images without labels.
            DataError: A dataset is empty, an item has another form, or a mask holds a value outside the legend.
        """
        from geodistill.data.map_datasets import Datasets

        for key in ("unlabelled", "fraction"):
            if config is not None and getattr(config, key) is not None:
                raise RecipeError(f"data.{key} with datasets of tensors", "a manifest", "leave it out")
        by_split = {"train": train} if val is None else {"train": train, "val": val}
        return cls(config or DataConfig(), seed=seed, datasets=Datasets.measured(by_split, legend, bands))

    def _mix(self) -> None:
        """Pool what several sets need in common: classes of all, bands and normalisation."""
        from geodistill.data.several_sets import join_specs, refuse_different_images

        refuse_different_images({name: source.manifest for name, source in self._sources.items()})
        self.spec, self.sets = join_specs({n: source.spec for n, source in self._sources.items()}, self._images)
        entries = tuple(row for source in self._sources.values() for row in source.manifest.entries)
        self.manifest = Manifest(entries, self.spec.bands, self.spec.legend)

    @property
    def notes(self) -> list[str]:
        """What a user should know of the data, one line each.

        Classes without a training pixel, a set that is mostly ignored, what a fraction of the labels holds, no image to
        validate on; of several sets their parts of a batch too.
        """
        idle = "no validation images: trainer.val_every_steps and patience do nothing; the last weights are kept"
        unvalidated = [idle] if self._labels and not self.manifest.rows("val") else []
        if not self.sets:
            return self._only.notes + unvalidated
        whole = sum(self.parts.values())
        shares = [
            f"{name}: {self._images[name]:,} training images, {part} of each batch of {whole}, "
            f"{self.sets[name].classes} classes"
            for name, part in self.parts.items()
        ]
        notes = [f"{name}: {note}" for name, source in self._sources.items() for note in source.notes]
        return shares + notes + unvalidated

    @property
    def _only(self) -> DataSource:
        """The one data set; the first of several."""
        return next(iter(self._sources.values()))

    @property
    def _rank_and_world(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def restart(self, unlabelled: bool, plain: bool = False, batches: int = 0) -> None:
        """Begin with the first draw again, for another training task of so many batches.

        Args:
            unlabelled: Draw from unlabelled images too.
            batches: Of the task, where they are not drawn from the first on.
            plain: Give each image as it was before its colours were changed, too.
        """
        self._draws, self._first_step = [0] * len(self._draws), None
        for source in self._sources.values():
            first = round(self.config.unlabelled_from * batches) * sum(self.parts.values())
            source.crops.draw_unlabelled(self.config.unlabelled_share if unlabelled else 0.0, first)
            source.crops.plain = plain

    @property
    def rows(self) -> tuple[Row, ...]:
        """The images that may be seen: of the training and validation splits, and those without labels."""
        return tuple(row for source in self._sources.values() for row in source.rows)

    @property
    def slots(self) -> int:
        """Views of all samples, 0 where every draw is new."""
        schedule = self._only.crops.schedule
        return 0 if schedule is None else schedule.slots

    def view_description(self) -> dict[str, Any]:
        """Return what the views depend on, JSON-able; see `DataSource.view_description`. Several sets have no views."""
        return {} if self.sets else self._only.view_description()

    @property
    def crops(self) -> RandomCrops:
        """The training crops by draw, of the first of several sets."""
        return self._only.crops

    def tiles(self, padded_to: int = 1) -> Tiles:
        """Return the validation tiles, of the first of several sets; as many as a multiple of ``padded_to``."""
        return self._only.tiles(padded_to)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return the endless loader of training batches, from the next draws on."""
        rank, world = self._rank_and_world
        self.parts = split_batch(self.config.samples * world, self._images, world)
        if self._start_step and not any(self._draws):
            self._draws = [self._start_step * part for part in self.parts.values()]
        self._first_step = 0 if self.trainer is None else self.trainer.global_step
        crops = MixedCrops([source.crops for source in self._sources.values()], marked=bool(self.sets))
        batches = DrawBatches(list(self.parts.values()), self._draws, rank, world)
        return DataLoader(crops, batch_sampler=batches, **self._loading())

    def val_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Return the loader of validation tiles; of several sets one for each that has any.

        In a distributed run each process gets an equal part.
        """
        shared = self._rank_and_world
        if not self.sets:
            return self._tile_loader(self._only, None, *shared)
        return [
            self._tile_loader(source, position, *shared)
            for position, source in enumerate(self._sources.values())
            if source.manifest.rows("val")
        ]

    def whole_val_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of all validation tiles, of the first of several sets, whichever process asks."""
        return self._tile_loader(self._only, None, 0, 1)

    def _tile_loader(self, source: DataSource, position: int | None, rank: int, world: int) -> DataLoader[Sample]:
        tiles = source.tiles(padded_to=world)
        samples = tiles if position is None else OneSet(tiles, position)
        part = Subset(samples, range(rank, len(tiles), world))
        return DataLoader(part, batch_size=self.config.samples, **self._loading())

    def state_dict(self) -> dict[str, Any]:
        """Return the draws after the last finished step, for Lightning's checkpoints."""
        if self.trainer is None or self._first_step is None:
            return {"draws": self._draws}
        steps = (self.trainer.global_step - self._first_step) * self.trainer.accumulate_grad_batches
        return {"draws": [first + steps * size for first, size in zip(self._draws, self.parts.values(), strict=True)]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draws that `state_dict` returned."""
        # A run on one set wrote its draw alone in earlier versions.
        draws = state_dict["draws"] if "draws" in state_dict else [state_dict["draw"]]
        self._draws = [int(draw) for draw in draws]

    def _loading(self) -> dict[str, Any]:
        """Return the arguments of every loader: workers, how samples become a batch, pinned memory.

        Workers that are started anew, and so import everything again, stay from one validation to the next.
        """
        return {
            "num_workers": self.config.workers,
            "persistent_workers": self.config.workers > 0 and multiprocessing.get_start_method() != "fork",
            "collate_fn": collate,
            "worker_init_fn": start_worker,
            "pin_memory": torch.cuda.is_available(),
        }
