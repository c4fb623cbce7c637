"""Whether a scene's numbers are such as a model was trained on: 16 bits under a model of 8, reflectances of 0..1."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from geodistill.errors import DataError, GeodistillWarning
from geodistill.raster import Raster, Window
from geodistill.spec import Spec

MOST_DEVIATIONS = 5.0
"""How far a scene's mean may lie from the model's, in the model's standard deviations, on average over the bands.

Between drone and aerial images of Dubai, Kampala, Zanzibar, two forests of the United States and farmland of Minnesota,
each taken as the model's for all others, single images reach 4.7; eight bits stretched to sixteen, 500.
"""

LEAST_SHARE = 1 / 8
"""What share of the model's mean, and of its deviation, a scene's may at least have; one of the two is enough.

Between those images the mean falls to 0.17 and the deviation, over a field, to 0.05; reflectances of 0..1 under a model
of 8 bits have 0.003 of both.
"""

_SIDE = 64
_PLACES = (1 / 8, 1 / 2, 7 / 8)


def sample_moments(raster: Raster) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and standard deviation of each band over nine small windows; ``None`` where none has data."""
    grid, found = raster.grid, []
    for row in _PLACES:
        for col in _PLACES:
            window = Window(int(row * grid.height) - _SIDE // 2, int(col * grid.width) - _SIDE // 2, _SIDE, _SIDE)
            try:
                image, valid = raster.read(window.intersection(grid.height, grid.width))
            except DataError:
                continue  # whoever maps the scene comes upon it
            found.append(image[:, valid].astype(np.float64))
    samples = np.concatenate(found, 1) if found else np.zeros((raster.channels, 0))
    if not samples.shape[1]:
        return None
    return tuple(samples.mean(1).tolist()), tuple(samples.std(1).tolist())


def how_far(spec: Spec, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Say how far samples lie from those that a model was trained on; ``None`` where they might be of its kind.

    Args:
        spec: The model's; without statistics (all means 0) nothing can be said.
        mean: Mean of each band, sensor units.
        std: Standard deviation of each band.
    """
    ours, theirs = np.array([mean, std], np.float64), np.array([spec.mean, spec.std], np.float64)
    if not theirs[0].any() or ours.shape != theirs.shape:
        return None
    deviations = float(np.mean(np.abs(ours[0] - theirs[0]) / theirs[1]))
    shares = np.abs(ours).mean(1) / np.abs(theirs).mean(1)
    if deviations <= MOST_DEVIATIONS and (shares >= LEAST_SHARE).any():
        return None
    (mean_here, std_here), (mean_there, std_there) = ours.mean(1), theirs.mean(1)
    return (
        f"samples of {mean_here:.4g} on average, deviation {std_here:.3g}, where the model was trained on "
        f"{mean_there:.4g}, deviation {std_there:.3g} ({deviations:.2g} standard deviations apart): "
        "another sample type or scaling, and the classes may mean nothing"
    )


def warn_far(raster: Raster, spec: Spec) -> None:
    """Warn where a scene's samples lie far from those that a model was trained on."""
    moments = sample_moments(raster) if any(spec.mean) else None
    told = how_far(spec, *moments) if moments is not None else None
    if told is not None:
        warnings.warn(f"{raster.source} has {told}", GeodistillWarning, stacklevel=2)
