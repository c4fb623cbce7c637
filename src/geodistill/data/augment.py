"""Augmentation of image and mask together: scale, quarter turns and flips, and what is asked for beside them.

Each operation takes its own random generator and is a few lines of numpy. torchvision.transforms.v2 draws from
torch's global generator, which would make a crop depend on what its worker drew before, and its photometric
operations take 1 or 3 bands with values in 0..1 or 0..255; here a crop is a function of seed and draw number alone
and any number of bands in any unit is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geodistill.data.labelled_objects import hollow_objects, number_objects
from geodistill.data.reader import Patch
from geodistill.data.statistics import Statistics
from geodistill.errors import RecipeError
from geodistill.raster import Window
from geodistill.spec import IGNORE_INDEX

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Augmentation:
    """How a random crop is changed; the defaults of a field leave it as it is.

    Fields are those of `geodistill.data.data_config.DataConfig`. A zoom of 2 reads half the crop's side from the file
    and enlarges it, and a gamma of 0.3 bends the band's range by exponents from 0.74 to 1.35. ``crop_tries`` are
    the draws at most, also for a crop that is not wholly without valid pixels.

    Raises:
        RecipeError: A field is out of its range.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    scale_share: float = 1.0
    flips: bool = False
    vertical_flips: bool = False
    turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
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
    resize: int | None = None
    rare_classes: float = 0.0
    gsd: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"data.scale {list(self.scale)}", "smallest and largest zoom, above 0")
        if self.gsd is not None and not (0 < self.gsd[0] <= self.gsd[1] and self.resize is None):
            raise RecipeError(f"data.gsd {list(self.gsd)}", "smallest and largest, above 0, and no data.resize")
        for name, value, top in (
            ("brightness", self.brightness, np.inf),
            ("contrast", self.contrast, 1),
            ("gamma", self.gamma, np.inf),
            ("hue", self.hue, 0.5),
            ("saturation", self.saturation, 1),
            ("tint", self.tint, np.inf),
            ("recolour", self.recolour, np.inf),
            ("hollow", self.hollow, 1),
            ("mosaic", self.mosaic, 1),
            ("rare_classes", self.rare_classes, 1),
            ("scale_share", self.scale_share, 1),
            ("colour_share", self.colour_share, 1),
        ):
            if not 0 <= value <= top:
                raise RecipeError(f"data.{name} {value}", f"a number from 0{'' if top == np.inf else f' to {top}'}")
        if not 0 < self.max_class_ratio <= 1 or self.crop_tries < 1:
            raise RecipeError(
                f"data.max_class_ratio {self.max_class_ratio}, data.crop_tries {self.crop_tries}",
                "a share above 0 up to 1, and at least 1",
            )

    def zoom(self, rng: np.random.Generator, image: Window, gsd: float | None = None) -> float:
        """Draw a zoom, log-uniform over the range, beside that which brings an image to its size.

        Where the range is one of ground sampling distances, it is the image's own ``gsd``, in metres per pixel, over
        the one drawn.
        """
        size = enlargement(image, self.resize)
        if self.scale_share < 1 and rng.random() >= self.scale_share:
            return size
        if self.gsd is not None and gsd is not None:
            return gsd / float(np.exp(rng.uniform(*np.log(self.gsd))))
        return size * float(np.exp(rng.uniform(*np.log(self.scale))))

    @property
    def photometric(self) -> bool:
        """Whether samples are changed, which needs band statistics."""
        colours = (self.brightness, self.contrast, self.gamma, self.hue, self.saturation, self.tint)
        return any((*colours, self.recolour, self.hollow))


def enlargement(image: Window, resize: int | None) -> float:
    """Return by how much an image is enlarged for a longer side of ``resize`` pixels; 1 where it keeps its size."""
    return 1.0 if resize is None else resize / max(image.height, image.width)


def resample(patch: Patch, height: int, width: int) -> Patch:
    """Bring a patch to another size: image bilinear (antialiased where it shrinks), mask and validity nearest.

    Pixels that are not valid give nothing to their neighbours.
    """
    if patch.valid.shape == (height, width):
        return patch
    old_height, old_width = patch.valid.shape
    # Nearest by pixel centres, as the bilinear samples lie.
    rows = ((np.arange(height) + 0.5) * old_height / height).astype(np.int64)
    cols = ((np.arange(width) + 0.5) * old_width / width).astype(np.int64)
    valid = patch.valid[rows[:, None], cols]
    image = _bilinear(patch.image, height, width)
    if not patch.valid.all():
        weight = _bilinear(patch.valid[None].astype(np.float32), height, width)
        image = np.where(valid, image / np.maximum(weight, 1e-6), np.float32(0))
    return Patch(image, patch.mask[rows[:, None], cols], valid)


def _bilinear(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    tensor = torch.from_numpy(image)[None]
    shrinks = height < image.shape[1] or width < image.shape[2]
    resized = functional.interpolate(tensor, (height, width), mode="bilinear", antialias=shrinks, align_corners=False)
    result: NDArray[np.float32] = resized[0].numpy()
    return result


def turn_and_flip(patch: Patch, rng: np.random.Generator, augmentation: Augmentation) -> Patch:
    """Apply one of the eight symmetries of the square, or of those that are asked for, each as likely."""
    quarter = int(rng.integers(4)) if augmentation.turns else 0
    mirror = bool(rng.integers(2)) if augmentation.flips else False
    upside_down = bool(rng.integers(2)) if augmentation.vertical_flips else False

    def moved(array: NDArray[_T]) -> NDArray[_T]:
        array = np.rot90(array, quarter, axes=(-2, -1))
        array = array[..., ::-1] if mirror else array
        return np.ascontiguousarray(array[..., ::-1, :] if upside_down else array)

    return Patch(moved(patch.image), moved(patch.mask), moved(patch.valid))


_ODDS = np.array((5, 5, 5, 3))
"""How often one of brightness, contrast, gamma, and hue with saturation is chosen (SAMRS's released code)."""


class Photometric:
    """Brightness, contrast and gamma in the units of each band; hue and saturation of images with three bands.

    One random amount is drawn for all bands, so that the bands keep their relation, and a tint for each, which changes
    it as haze, hour and camera do. Objects may get colours of their own, or the ground inside. Results stay within the
    range that the band has in the data set, or in the image where that is wider, as that of another place without
    labels may be.

    Args:
        statistics: Mean, deviation and range of each band.
        augmentation: The largest amounts.
        ground: Index of the class that lies between objects.
    """

    def __init__(self, statistics: Statistics, augmentation: Augmentation, ground: int = 0) -> None:
        self._amounts, self._ground = augmentation, ground
        figures = (statistics.mean, statistics.std, statistics.minimum, statistics.maximum)
        self._mean, self._std, self._low, self._high = (
            np.array(figure, np.float32)[:, None, None] for figure in figures
        )
        # Gamma bends what most pixels span: a single outlier must not decide where mid-tones lie.
        self._dark = np.maximum(self._low, self._mean - 3 * self._std)
        span = np.minimum(self._high, self._mean + 3 * self._std) - self._dark
        self._span = np.where(span > 0, span, np.float32(1))

    def __call__(self, patch: Patch, rng: np.random.Generator) -> Patch:
        """Change the image's samples; pixels that are not valid stay 0."""
        amounts = self._amounts
        if amounts.colour_share < 1 and rng.random() >= amounts.colour_share:
            return patch
        coloured = len(patch.image) == 3
        groups = [(amounts.brightness,), (amounts.contrast,), (amounts.gamma,), (amounts.hue, amounts.saturation)]
        asked = np.array([any(group) and (coloured or at < 3) for at, group in enumerate(groups)])
        if amounts.colour_one and asked.any():
            chosen = rng.choice(len(groups), p=_ODDS * asked / (_ODDS * asked).sum())
            asked &= np.arange(len(groups)) == chosen
        most = [amount * on for group, on in zip(groups, asked.tolist(), strict=True) for amount in group]
        shift, stretch, bend, turn, fade = (
            np.float32(rng.uniform(-amount, amount)) if at < 3 or amount else np.float32(0)
            for at, amount in enumerate(most)
        )
        image, (low, high) = patch.image, self._range(patch)
        if bend:
            share = (image - self._dark) / self._span
            bent = self._dark + self._span * np.clip(share, 0, 1) ** np.exp(bend)
            image = np.where((share > 0) & (share < 1), bent, image)
        if turn or fade:
            image = self._turned(image, float(turn), float(fade), low, high)
        image = (image - self._mean) * (1 + stretch) + self._mean + shift * self._std
        if amounts.tint:
            image += rng.uniform(-amounts.tint, amounts.tint, self._mean.shape).astype(np.float32) * self._std
        if amounts.recolour or amounts.hollow:
            image = self._with_other_objects(image, patch, rng)
        image = np.clip(image, low, high)
        return Patch(np.where(patch.valid, image, np.float32(0)), patch.mask, patch.valid)

    def _with_other_objects(
        self, image: NDArray[np.float32], patch: Patch, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Shift the bands of half of the objects, each by amounts of its own, and fill some of the others."""
        counted = patch.valid & (patch.mask != IGNORE_INDEX)
        numbers = number_objects(patch.mask, counted, self._ground)
        count, amounts = int(numbers.max()) + 1, self._amounts
        recoloured = np.zeros(count, np.bool_)
        if amounts.recolour:
            shifts = rng.uniform(-amounts.recolour, amounts.recolour, (count, len(image))).astype(np.float32)
            recoloured = rng.random(count) < 0.5
            recoloured[0] = False  # what is no object
            shifts *= recoloured[:, None]
            image = image + shifts[numbers].transpose(2, 0, 1) * self._std
        if amounts.hollow:
            image = hollow_objects(image, numbers, counted, (rng.random(count) < amounts.hollow) & ~recoloured, rng)
        return image

    def _range(self, patch: Patch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the least and the largest sample of each band, ``(C, 1, 1)``, in the data set or the patch."""
        samples = patch.image[:, patch.valid]
        if not samples.size:
            return self._low, self._high
        least, most = (extreme(samples, axis=1)[:, None, None] for extreme in (np.min, np.max))
        return np.minimum(self._low, least), np.maximum(self._high, most)

    def _turned(
        self,
        image: NDArray[np.float32],
        turn: float,
        fade: float,
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Turn the hue of three bands, as shares of their ranges, and multiply their saturation (HSV)."""
        width = np.maximum(high - low, np.float32(1e-12))
        shares = np.clip((image - low) / width, 0, 1).transpose(1, 2, 0)
        hue, saturation, value = cv2.split(cv2.cvtColor(shares, cv2.COLOR_RGB2HSV))
        turned = cv2.merge([(hue + 360 * turn) % 360, np.clip(saturation * (1 + fade), 0, 1), value])
        changed: NDArray[np.float32] = cv2.cvtColor(turned, cv2.COLOR_HSV2RGB).transpose(2, 0, 1) * width + low
        return changed
