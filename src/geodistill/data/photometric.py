"""Colours of a crop: brightness, contrast, gamma, hue and saturation, in the units of its bands."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.data.augment import Augmentation
from geodistill.data.reader import Patch
from geodistill.data.statistics import Statistics

_ODDS = np.array((5, 5, 5, 3))
"""How often one of brightness, contrast, gamma, and hue with saturation is chosen (SAMRS's released code)."""


class Photometric:
    """Brightness, contrast and gamma in the units of each band; hue and saturation of images with three bands.

    One random amount is drawn for all bands, so that the bands keep their relation, and a tint for each, which changes
    it as haze, hour and camera do. Results stay within the range that the band has in the data set.

    Args:
        statistics: Mean, deviation and range of each band.
        augmentation: The largest amounts.
    """

    def __init__(self, statistics: Statistics, augmentation: Augmentation) -> None:
        self._amounts = augmentation
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
        image = patch.image
        if bend:
            share = (image - self._dark) / self._span
            bent = self._dark + self._span * np.clip(share, 0, 1) ** np.exp(bend)
            image = np.where((share > 0) & (share < 1), bent, image)
        if turn or fade:
            image = self._turned(image, float(turn), float(fade))
        image = (image - self._mean) * (1 + stretch) + self._mean + shift * self._std
        if amounts.tint:
            image += rng.uniform(-amounts.tint, amounts.tint, self._mean.shape).astype(np.float32) * self._std
        image = np.clip(image, self._low, self._high)
        return Patch(np.where(patch.valid, image, np.float32(0)), patch.mask, patch.valid)

    def _turned(self, image: NDArray[np.float32], turn: float, fade: float) -> NDArray[np.float32]:
        """Turn the hue of three bands, as shares of their ranges, and multiply their saturation (HSV)."""
        width = np.maximum(self._high - self._low, np.float32(1e-12))
        shares = np.clip((image - self._low) / width, 0, 1).transpose(1, 2, 0)
        hue, saturation, value = cv2.split(cv2.cvtColor(shares, cv2.COLOR_RGB2HSV))
        turned = cv2.merge([(hue + 360 * turn) % 360, np.clip(saturation * (1 + fade), 0, 1), value])
        changed: NDArray[np.float32] = cv2.cvtColor(turned, cv2.COLOR_HSV2RGB).transpose(2, 0, 1) * width + self._low
        return changed
