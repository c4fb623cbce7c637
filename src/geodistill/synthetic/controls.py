"""Made-up worlds in each of which the premise of one training mechanism holds, small enough for minutes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend

LEGEND = Legend(("ground", "target"))
SIDE = 64

Pixels = tuple[NDArray[np.float64], NDArray[np.uint8]]


@dataclass(frozen=True)
class World:
    """A made-up data set.

    Attributes:
        manifest: Its labelled images in the splits train and test.
        unlabelled: Manifest of images without labels, or ``None``.
    """

    manifest: Path
    unlabelled: Path | None = None


def _blobs(rng: np.random.Generator, count: int, side: int) -> NDArray[np.uint8]:
    """Return ``count`` squares of ``side`` pixels as class 1, on class 0."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row, col in rng.integers(0, SIDE - side, (count, 2)):
        mask[row : row + side, col : col + side] = 1
    return mask


def _painted(rng: np.random.Generator, mask: NDArray[np.uint8], contrast: float, noise: float) -> NDArray[np.float64]:
    """Return ``(H, W, 3)`` samples in which class 1 is brighter by ``contrast`` under noise, both in 0..255."""
    colour = contrast * np.array([1.0, 0.6, 0.3])
    image: NDArray[np.float64] = 110 + mask[..., None] * colour + rng.normal(0, noise, (SIDE, SIDE, 3))
    return image


def faint_class(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of a class that is hard to see; to learn from, one label in three is wrong.

    Each step of few crops then pulls another way, and at a constant rate the weights never come to rest.
    """
    mask = _blobs(rng, 4, 16)
    image = _painted(rng, mask, 30, 35)
    wrong = np.kron(rng.random((SIDE // 4, SIDE // 4)) < 1 / 3, np.ones((4, 4), bool))
    return image, (mask if test else np.where(wrong, 1 - mask, mask).astype(np.uint8))


def rare_class(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of which about 1 % is a class that looks much like the rest."""
    mask = _blobs(rng, 2, 5)
    return _painted(rng, mask, 45, 30), mask


def labelled_place(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of the place with labels, or for the test one of the other place: darker and of less contrast."""
    mask = _blobs(rng, 4, 18)
    image = _painted(rng, mask, 45, 18)
    return (30 + 0.6 * image if test else image), mask


def write_world(name: str, folder: Path, seed: int, *, train: int = 8, test: int = 8, unlabelled: int = 24) -> World:
    """Write a world of `WORLDS` as PNG files with manifests.

    Args:
        name: Key of `WORLDS`.
        folder: Where it goes.
        seed: Any integer from 0.
        train: Labelled training images.
        test: Images to be measured on.
        unlabelled: Images without labels, in the world of self-training.
    """
    rng, draw = np.random.default_rng(seed), WORLDS[name]
    names = [f"train_{i}" for i in range(train)] + [f"test_{i}" for i in range(test)]
    for stem in names:
        _write(folder / "labelled", stem, draw(rng, stem.startswith("test")))
    plan = SplitPlan(kind="group", group_regex="(train|test)_", groups={"test": ["test"], "train": ["train"]})
    scan(folder / "labelled", out=folder / "labelled.parquet", legend=LEGEND, split=plan)
    if name != "self-training":
        return World(folder / "labelled.parquet")
    for i in range(unlabelled):
        _write(folder / "more", f"image_{i}", (draw(rng, True)[0], None))
    scan(folder / "more" / "images", out=folder / "more.parquet", legend=LEGEND, unlabelled=True)
    return World(folder / "labelled.parquet", folder / "more.parquet")


def _write(folder: Path, stem: str, pixels: tuple[NDArray[np.float64], NDArray[np.uint8] | None]) -> None:
    image, mask = pixels
    for kind, array in (("images", image.clip(1, 255).astype(np.uint8)), ("masks", mask)):
        if array is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{stem}.png")


WORLDS: dict[str, Callable[[np.random.Generator, bool], Pixels]] = {
    "ema": faint_class,
    "class-weights": rare_class,
    "self-training": labelled_place,
}
"""What draws an image and its labels, for training or for the test, by the mechanism."""
