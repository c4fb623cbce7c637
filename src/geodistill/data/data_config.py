"""The ``data`` part of a recipe: what is trained on, of one data set or several, and how it is drawn."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from geodistill.data.augment import Augmentation
from geodistill.errors import RecipeError, check_name

Choice = Literal["classes", "random", "place"]
BATCH_SIZE = 8

MixKind = Literal["classmix", "cutmix", "copypaste"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class DataConfig:
    """What is trained on and how it is drawn.

    Attributes:
        manifest: The manifest that ``geodistill data scan`` wrote.
        unlabelled: Manifest of more images that serve feature transfer only; its masks are not read. Its
            ``unlabelled`` images are taken, or its ``train`` images where it has none of those. May be the same file.
        unlabelled_share: Share of each batch drawn from `unlabelled`.
        unlabelled_from: Share of the steps on labels before any are drawn: a teacher that learns along, as in
            self-training, must know the classes first.
        crop: Side of training crops and validation tiles in pixels.
        batch_size: Crops in a step of one process; ``auto``: as many as fit into the GPU's memory, 8 on a CPU.
        workers: Processes that read; 0 reads in the training process.
        seed: Seed of the crops; the trainer's seed where not given.
        fraction: Share of the labelled training windows that are used, such as 0.05; a window is a part of an image of
            about the crop's size, or a smaller image whole. All where not given.
        fraction_choice: Which windows the seed chooses: ``classes`` first those that together hold every class,
            ``random`` any, ``place`` neighbours of one, as one day's labelling gives them.
        resize: Pixels that the longer side of every image, small or large, is brought to before crops are taken; images
            keep their own size where not given.
        scale: Smallest and largest zoom; 2 reads half the crop's side and enlarges it.
        gsd: Smallest and largest ground sampling distance, in metres per pixel, that crops are brought to, in place of
            `scale`; images whose own is not known keep to `scale`.
        scale_share: Share of the crops that are zoomed at all.
        flips: Mirror half of the crops left to right.
        vertical_flips: Mirror half of the crops top to bottom; where crops are turned, `flips` alone gives every view.
        turns: Turn crops by 0, 90, 180 or 270 degrees.
        brightness: Largest shift, in standard deviations of each band.
        contrast: Largest relative change of contrast, below 1.
        gamma: Largest logarithm of the exponent that bends the band's range.
        hue: Largest turn of the hue of images with three bands, as a share of the colour circle, at most 0.5; others
            keep theirs.
        saturation: Largest relative change of the saturation of images with three bands, at most 1.
        tint: Largest shift of each band by itself, in its standard deviations.
        recolour: Largest such shift of an object by itself, of half of the objects: connected pixels of any class but
            the set's most frequent one (domain randomisation, Tobin et al. 2017), for colours they have elsewhere.
        hollow: Share of the other such objects that keep their rim alone and show the crop's ground inside, as
            foundations, ruins and roofs of the ground's colour do.
        colour_share: Share of the crops of which any colours are changed.
        colour_one: Change one of them in such a crop in place of all: brightness, contrast or gamma, each as likely, or
            hue and saturation together, three fifths as often.
        mosaic: Probability of a crop put together from four.
        max_class_ratio: Draw again when one class holds more than this share of a crop's labels; 1 never.
        crop_tries: Draws at most for that, for a class, and for a crop with any label; 1 takes every crop as it is
            drawn.
        rare_classes: Share of the draws that are for one class, mostly a rare one, and are drawn again until they
            hold it.
        mix: Probability that a crop gets a part of another one of its batch, with labels.
        mix_kind: What that part is: half of the other's classes, a rectangle, or half of its objects.
        without_replacement: Draw each image once, large ones once for every crop that covers them, before any is drawn
            again, as loaders with epochs do; each draw is independent where not.
        statistics: What the network's input is normalised by: ``encoder`` (what its weights, or those of ``init``, were
            trained with), ``data`` (the data's own mean and deviation), or ``auto``: the first where there are weights
            for images of as many bands in such units, else the second.
        cache: Keep decoded images without tiles (JPEG, PNG) and small ones in memory.
        cache_mb: Memory for that, in MiB, over all workers.
        classes: Number of classes of the data set that the recipe was written for, which ``geodistill inspect``
            takes where the manifest is not there; training takes the manifest's.
    """

    manifest: str = ""
    unlabelled: str | None = None
    unlabelled_share: float = 0.5
    unlabelled_from: float = 0.0
    crop: int = 256
    batch_size: int | Literal["auto"] = BATCH_SIZE
    workers: int = 2
    seed: int | None = None
    fraction: float | None = None
    fraction_choice: Choice = "classes"
    resize: int | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    gsd: tuple[float, float] | None = None
    scale_share: float = 1.0
    flips: bool = True
    vertical_flips: bool = False
    turns: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.2
    hue: float = 0.0
    saturation: float = 0.0
    tint: float = 0.0
    recolour: float = 0.0
    hollow: float = 0.0
    colour_share: float = 1.0
    colour_one: bool = False
    mosaic: float = 0.0
    max_class_ratio: float = 1.0
    crop_tries: int = 10
    rare_classes: float = 0.0
    mix: float = 0.0
    mix_kind: MixKind = "classmix"
    without_replacement: bool = False
    statistics: Literal["auto", "encoder", "data"] = "auto"
    cache: bool = True
    cache_mb: int = 1024
    classes: int | None = None

    def augmentation(self) -> Augmentation:
        """Return the fields that change a crop.

        Raises:
            RecipeError: A field is out of its range.
        """
        return Augmentation(**{each.name: getattr(self, each.name) for each in fields(Augmentation)})

    def idle_keys(self) -> dict[str, str]:
        """Return the recipe's keys that do nothing beside the other fields, each with the reason."""
        idle = {} if self.mix else {"data.mix_kind": "data.mix is 0"}
        if self.unlabelled is None:
            idle["data.unlabelled_from"] = "data.unlabelled is not given"
        return idle if self.fraction else idle | {"data.fraction_choice": "data.fraction is not given"}

    @property
    def samples(self) -> int:
        """Crops in a step of one process; the default while nothing was chosen for ``auto``."""
        return BATCH_SIZE if self.batch_size == "auto" else self.batch_size

    @property
    def worker_cache_mb(self) -> int:
        """Memory of each worker for decoded images, in MiB."""
        return self.cache_mb // max(self.workers, 1) if self.cache else 0

    def sources(self) -> dict[str, DataConfig]:
        """Return each data set's config by name; the one set has no name."""
        return {"": self}

    def check(self) -> None:
        """Refuse values that are out of range, before any file is opened.

        Raises:
            RecipeError: A field is out of its range, or the manifest is not given.
        """
        if not self.manifest:
            raise RecipeError("data.manifest is not given", "the file that 'geodistill data scan' wrote")
        self.check_values()

    def check_values(self) -> None:
        """Refuse values that are out of range, whatever the images come from.

        Raises:
            RecipeError: A field is out of its range.
        """
        for name, value, least in (("crop", self.crop, 1), ("batch_size", self.samples, 1),
                                   ("workers", self.workers, 0), ("cache_mb", self.cache_mb, 0),
                                   ("seed", self.seed or 0, 0)):  # fmt: skip
            if value < least:
                raise RecipeError(f"data.{name} {value}", f"at least {least}")
        for name, share in (("share", self.unlabelled_share), ("from", self.unlabelled_from)):
            if not 0 <= share <= 1:
                raise RecipeError(f"data.unlabelled_{name} {share}", "a share from 0 to 1")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise RecipeError(f"data.fraction {self.fraction}", "a share above 0, at most 1")
        if self.resize is not None and (self.resize < 1 or self.fraction is not None):
            raise RecipeError(f"data.resize {self.resize}", "at least 1, and no data.fraction, which cuts images up")
        check_name("data.fraction_choice", self.fraction_choice, get_args(Choice))
        self.augmentation()
        if not 0 <= self.mix <= 1:
            raise RecipeError(f"data.mix {self.mix}", "a probability from 0 to 1")


@dataclass(frozen=True)
class SetsConfig(DataConfig):
    """What is trained on: the one ``manifest``, or several ``manifests`` at once, and how it is drawn.

    Attributes:
        manifests: Manifests of several data sets, each learnt by a head of its own; in place of ``manifest``.
        names: Name of each, for heads, logs and results; by default that of the manifest's file, or of its folder
            where the file is called manifest.parquet.
    """

    manifests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse values that are out of range, before any file is opened.

        Raises:
            RecipeError: A field is out of its range or does not go with another.
        """
        if self.names and not self.manifests:
            raise RecipeError("data.names without data.manifests", "one name for each of several manifests")
        if self.manifests and self.manifest:
            raise RecipeError("data.manifest beside data.manifests", "one of them", "leave data.manifest empty")
        if self.manifests and self.unlabelled is not None:
            raise RecipeError("data.unlabelled beside data.manifests", "labelled images alone")
        if not self.manifests:
            super().check()
        for config in self.by_set().values():
            config.check()

    def sources(self) -> dict[str, DataConfig]:
        """Return each data set's config by name; the one set has no name."""
        return self.by_set() if self.manifests else {"": self}

    def by_set(self) -> dict[str, DataConfig]:
        """Return each set's own config by its name, in order; memory for decoded images is shared out evenly.

        Raises:
            RecipeError: Names repeat, do not do for files, or are not as many as the manifests.
        """
        names = self.names or tuple(_name_of(Path(path)) for path in self.manifests)
        if len(names) != len(self.manifests):
            raise RecipeError(
                f"{len(names)} data.names for {len(self.manifests)} data.manifests", "one name per manifest"
            )
        if unfit := [name for name in names if not _NAME.fullmatch(name)]:
            raise RecipeError(f"data.names with {unfit[0]!r}", "names of letters, digits, _ and -")
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            which = " and ".join(path for path, name in zip(self.manifests, names, strict=True) if name == twice[0])
            raise RecipeError(
                f"two sets with the name {twice[0]!r} ({which})",
                "a name of its own for each",
                "name them in the manifests' order with --data.names",
            )
        values = {field.name: getattr(self, field.name) for field in fields(DataConfig)}
        values["cache_mb"] = self.cache_mb // max(len(names), 1)
        return {
            name: DataConfig(**values | {"manifest": path}) for name, path in zip(names, self.manifests, strict=True)
        }


def _name_of(path: Path) -> str:
    """Name of a set by its manifest: of the file, or of its folder where the file has the usual name."""
    name = path.resolve().parent.name if path.stem == "manifest" else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name) or "set"
