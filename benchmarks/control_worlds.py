"""Made-up worlds in each of which the premise of one training mechanism holds, small enough for minutes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.spec import Legend

LEGEND = Legend(("ground", "target"))
LEGENDS = {
    "copypaste": Legend(("ground", "fine", "coarse")),
    "gsd": Legend(("ground", "small", "large")),
    "kda": Legend(("fine", "middle", "coarse")),
}
"""Classes of the worlds with more than two."""

SIDE, FINE = 64, 0.5
"""Side of an image in pixels; metres per pixel of the finer images where sizes matter."""

TRANSFER_MECHANISMS = ("transfer", "cosine", "relation", "query", "masked", "phi-s", "mixup")
"""Mechanisms of the transfer before the labels, all shown in the world of two places."""

Pixels = tuple[NDArray[np.float64], NDArray[np.uint8]]


@dataclass(frozen=True)
class World:
    """A made-up data set.

    Attributes:
        manifest: Its labelled images in the splits train and test, and val where the mechanism needs one.
        unlabelled: Manifest of images without labels, or ``None``.
        source: Manifest of many labelled images of both places, or of another class, that a teacher has learnt from.
    """

    manifest: Path
    unlabelled: Path | None = None
    source: Path | None = None


def _blobs(rng: np.random.Generator, count: int, side: int) -> NDArray[np.uint8]:
    """Return ``count`` squares of ``side`` pixels as class 1, on class 0."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row, col in rng.integers(0, SIDE - side, (count, 2)):
        mask[row : row + side, col : col + side] = 1
    return mask


def _painted(rng: np.random.Generator, mask: NDArray[np.uint8], contrast: float, noise: float) -> NDArray[np.float64]:
    """Return ``(H, W, 3)`` samples in which class 1 is brighter by ``contrast`` under noise, both in 0..255."""
    colour = contrast * np.array([1.0, 0.6, 0.3])
    image: NDArray[np.float64] = 110 + mask[..., None] * colour + rng.normal(0, noise, (*mask.shape, 3))
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


def lit(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of brighter squares in light of some colour, which is further off for the test."""
    mask = _blobs(rng, 4, 18)
    shift = rng.uniform(-1, 1, 3) * (70 if test else 20)
    return shift + _painted(rng, mask, 45, 18), mask


def _checks(side: int) -> NDArray[np.float64]:
    """Return ``(H, W)`` squares of so many pixels, -0.5 and 0.5 by turns: a texture that turns and mirrors leave."""
    rows, cols = np.mgrid[:SIDE, :SIDE] // side
    checks: NDArray[np.float64] = (rows + cols) % 2 - 0.5
    return checks


def checked(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of objects of two classes, told apart by a fine and a coarse texture in them.

    To learn from, one class lies on dark ground alone and the other on bright ground: the ground is the easier cue, and
    a wrong one for the test, where both lie on both.
    """
    dark = bool(rng.integers(2))
    kinds = rng.integers(1, 3, 3) if test else np.full(3, 1 if dark else 2)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    ground = np.full((SIDE, SIDE), 80.0 if dark else 140.0)
    for kind, (row, col) in zip(kinds, rng.integers(0, SIDE - 20, (3, 2)), strict=True):
        inside = np.s_[row : row + 20, col : col + 20]
        mask[inside] = kind
        ground[inside] = 110 + 120 * _checks(2 if kind == 1 else 5)[inside]
    return ground[..., None] + rng.normal(0, 8, (SIDE, SIDE, 3)), mask


def roofed(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of squares of a fine texture on a coarse one, blue in what is learnt from and red in the test."""
    mask = _blobs(rng, 4, 18)
    image = 110 + 90 * np.where(mask, _checks(2), _checks(5))[..., None] + rng.normal(0, 8, (SIDE, SIDE, 3))
    image[..., 0 if test else 2] += 50.0 * mask
    return image, mask


def walled(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of brighter squares, of which the test has the outlines alone."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    bright = np.zeros((SIDE, SIDE), np.uint8)
    for corner in np.ndindex(2, 2):
        row, col = np.array(corner) * (SIDE // 2) + rng.integers(1, SIDE // 2 - 20, 2)
        mask[row : row + 18, col : col + 18] = bright[row : row + 18, col : col + 18] = 1
        if test:
            bright[row + 2 : row + 16, col + 2 : col + 16] = 0
    return _painted(rng, bright, 90, 20), mask


def textured(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of four fields in any colours, whose class is how coarse their texture is.

    Few labelled fields say as much of colours; the texture of many is in the last map of who has learnt it, whose
    pixels are as large as a field.
    """
    side = SIDE // 2
    kinds = np.kron(rng.integers(0, 3, (2, 2)), np.ones((side, side), np.uint8)).astype(np.uint8)
    base, contrast = (np.kron(rng.normal(0, size, (2, 2, 3)), np.ones((side, side, 1))) for size in (30, 40))
    texture = np.choose(kinds, [_checks(2), _checks(3), _checks(5)])[..., None]
    return 120 + base + contrast * texture + rng.normal(0, 10, (SIDE, SIDE, 3)), kinds


def sized(rng: np.random.Generator, test: bool, metres: float = 1.0) -> Pixels:
    """Return an image of objects of 6 or of 12 m, which are two classes, at so many metres per pixel.

    All of an image are alike, and as far apart in pixels at any resolution: what lies around an object does not tell
    how fine the image is.
    """
    side, kind = round(SIDE / metres), int(rng.integers(1, 3))
    mask, size = np.zeros((side, side), np.uint8), round(6 * kind / metres)
    for index, filled in enumerate(rng.random((side // 32) ** 2) < 0.5):
        row, col = np.divmod(index, side // 32) * np.array(32) + rng.integers(0, 4, 2)
        if filled or not index:
            mask[row : row + size, col : col + size] = kind
    return _painted(rng, (mask > 0).astype(np.uint8), 60, 15), mask


def bright_cells(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of brighter squares, for a teacher to have learnt from."""
    mask = _cells(rng)
    return _painted(rng, mask, 60, 20), mask


def checked_cells(rng: np.random.Generator, test: bool) -> Pixels:
    """Return an image of squares that are as bright as the ground, of a fine texture where that has a coarse one."""
    mask = _cells(rng)
    image: NDArray[np.float64] = 110 + 30 * np.where(mask, _checks(2), _checks(4))[..., None]
    return image + rng.normal(0, 20, (SIDE, SIDE, 3)), mask


def _cells(rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.kron(rng.random((SIDE // 16, SIDE // 16)) < 0.4, np.ones((16, 16))).astype(np.uint8)


def write_world(name: str, folder: Path, seed: int, *, train: int = 8, test: int = 8, unlabelled: int = 24) -> World:
    """Write a world of `WORLDS` as PNG files with manifests.

    Args:
        name: Key of `WORLDS`.
        folder: Where it goes.
        seed: Any integer from 0.
        train: Labelled training images.
        test: Images to be measured on.
        unlabelled: Images without labels, where the mechanism learns from such, and of the teacher's labelled ones.
    """
    rng, draw = np.random.default_rng(seed), WORLDS[name]
    splits = ["train"] * train + ["test"] * test + ["val"] * (test if name == "head-rates" else 0)
    for i, split in enumerate(splits):
        fine = name == "gsd" and split == "train" and i % 2 == 0
        _write(folder / "labelled", f"{split}_{i}", sized(rng, False, FINE) if fine else draw(rng, split != "train"))
    manifest = _scanned(folder / "labelled", legend := LEGENDS.get(name, LEGEND), ("train", "val", "test"))
    if name == "gsd":
        _set_gsd(manifest)
    source = more = None
    if name in TEACHER_WORLDS:
        for i in range(unlabelled):
            _write(folder / "source", f"train_{i}", TEACHER_WORLDS[name](rng, i % 2 == 0))
        source = _scanned(folder / "source", legend, ("train",))
    if draw in (labelled_place, textured):
        for i in range(unlabelled):
            _write(folder / "more", f"image_{i}", (draw(rng, True)[0], None))
        more = folder / "more.parquet"
        scan(folder / "more" / "images", out=more, legend=legend, unlabelled=True)
    return World(manifest, more, source)


def _scanned(folder: Path, legend: Legend, splits: tuple[str, ...]) -> Path:
    """Write the manifest of a folder whose files are named by their split."""
    groups = {split: [split] for split in splits if any(folder.glob(f"images/{split}_*"))}
    plan = SplitPlan(kind="group", group_regex="(train|val|test)_", groups=groups)
    scan(folder, out=folder.with_suffix(".parquet"), legend=legend, split=plan)
    return folder.with_suffix(".parquet")


def _set_gsd(manifest: Path) -> None:
    """Say in a manifest how many metres the pixels of each image are: every second one to learn from is finer."""
    known = Manifest.load(manifest)
    fine = {f"train_{i}.png" for i in range(0, len(known.entries), 2)}
    entries = tuple(replace(row, gsd=FINE if row.image.name in fine else 1.0) for row in known.entries)
    replace(known, entries=entries).save(manifest)


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
    "average-last": faint_class,
    "copypaste": checked,
    "gsd": sized,
    "head-rates": faint_class,
    "lora": checked_cells,
    "style-noise": lit,
    "recolour": roofed,
    "hollow": walled,
    "kda": textured,
    **dict.fromkeys(TRANSFER_MECHANISMS, labelled_place),
}
"""What draws an image and its labels, for training or for the test, by the mechanism."""

TEACHER_WORLDS: dict[str, Callable[[np.random.Generator, bool], Pixels]] = {
    "lora": bright_cells,
    "kda": textured,
    **dict.fromkeys(TRANSFER_MECHANISMS, labelled_place),
}
"""What the teacher has learnt from, where there is one."""
