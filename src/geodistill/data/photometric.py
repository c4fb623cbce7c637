"""Changes of colour in the units of each band."""

from __future__ import annotations

import numpy as np

from geodistill.data.augment import Augmentation
from geodistill.data.reader import Patch
from geodistill.data.statistics import Statistics


class Photometric:
    """Brightness, contrast and gamma in the units of each band.

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
        most = [amounts.brightness, amounts.contrast, amounts.gamma]
        if amounts.colour_one:
            chosen = int(rng.choice(np.flatnonzero(most)))
            most = [amount if at == chosen else 0.0 for at, amount in enumerate(most)]
        shift, stretch, bend = (np.float32(rng.uniform(-amount, amount)) for amount in most)
        image = patch.image
        if bend:
            share = (image - self._dark) / self._span
            bent = self._dark + self._span * np.clip(share, 0, 1) ** np.exp(bend)
            image = np.where((share > 0) & (share < 1), bent, image)
        image = (image - self._mean) * (1 + stretch) + self._mean + shift * self._std
        if amounts.tint:
            image += rng.uniform(-amounts.tint, amounts.tint, self._mean.shape).astype(np.float32) * self._std
        image = np.clip(image, self._low, self._high)
        return Patch(np.where(patch.valid, image, np.float32(0)), patch.mask, patch.valid)
