"""Augmentation of image and mask together: scale, quarter turns and flips, and what is asked for beside them.

Each operation takes its own random generator and is a few lines of numpy. torchvision.transforms.v2 draws from
torch's global generator, which would make a crop depend on what its worker drew before, and its photometric
operations take 1 or 3 bands with values in 0..1 or 0..255; here a crop is a function of seed and draw number alone
and any number of bands in any unit is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from geodistill.data.reader import Patch
from geodistill.errors import RecipeError
from geodistill.raster import Window

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Augmentation:
    """How a random crop is changed; the defaults of a field leave it as it is.

    Fields are those of `geodistill.data.data_config.DataConfig`. A zoom of 2 reads half the crop's side from the file
    and enlarges it, and a gamma of 0.3 bends the band's range by exponents from 0.74 to 1.35. ``tries`` is the number
    of draws at most, also for a crop that is not wholly without valid pixels.

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
    colour_share: float = 1.0
    colour_one: bool = False
    mosaic: float = 0.0
    max_class_ratio: float = 1.0
    tries: int = 10
    resize: int | None = None
    rare: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise RecipeError(f"data.scale {list(self.scale)}", "smallest and largest zoom, above 0")
        for name, value, top in (
            ("brightness", self.brightness, np.inf),
            ("contrast", self.contrast, 1),
            ("gamma", self.gamma, np.inf),
            ("hue", self.hue, 0.5),
            ("saturation", self.saturation, 1),
            ("tint", self.tint, np.inf),
            ("mosaic", self.mosaic, 1),
            ("rare_classes", self.rare, 1),
            ("scale_share", self.scale_share, 1),
            ("colour_share", self.colour_share, 1),
        ):
            if not 0 <= value <= top:
                raise RecipeError(f"data.{name} {value}", f"a number from 0{'' if top == np.inf else f' to {top}'}")
        if not 0 < self.max_class_ratio <= 1 or self.tries < 1:
            raise RecipeError(
                f"data.max_class_ratio {self.max_class_ratio}, data.crop_tries {self.tries}",
                "a share above 0 up to 1, and at least 1",
            )

    def zoom(self, rng: np.random.Generator, image: Window) -> float:
        """Draw a zoom, log-uniform over the range, beside that which brings an image to its size."""
        size = enlargement(image, self.resize)
        if self.scale_share < 1 and rng.random() >= self.scale_share:
            return size
        return size * float(np.exp(rng.uniform(*np.log(self.scale))))

    @property
    def photometric(self) -> bool:
        """Whether samples are changed, which needs band statistics."""
        return bool(self.brightness or self.contrast or self.gamma or self.hue or self.saturation or self.tint)


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
