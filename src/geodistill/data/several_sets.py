"""Several data sets at once: what one network needs of them in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from geodistill.data.manifest import Manifest
from geodistill.errors import DataError
from geodistill.raster.bands import are_others
from geodistill.spec import Legend, Spec

MOST_RANGE = 8.0
"""Largest ratio of two sets' highest samples of a band in one unit; 8-bit samples and reflectance differ by more."""


def join_specs(specs: Mapping[str, Spec], images: Mapping[str, int]) -> tuple[Spec, dict[str, Spec]]:
    """Join the Specs of several sets of the same bands, each weighed by its number of training images.

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
    """Refuse sets that one network cannot read: of other bands, or in other units (DataError)."""
    (first, known), *others = manifests.items()
    for name, manifest in others:
        first_bands, bands = known.bands, manifest.bands
        if are_others(first_bands, bands):
            raise DataError(
                f"set {name!r} with the bands {', '.join(bands)} beside {first!r} with {', '.join(first_bands)}",
                "the same bands in every set",
                "write its images with the bands in that order and scan again, or train without that set",
            )
        high, higher = (m.statistics.maximum if m.statistics else () for m in (known, manifest))
        for band, low, top in zip(first_bands, high, higher, strict=False):
            if max(low, top) > MOST_RANGE * max(min(low, top), 1e-12):
                raise DataError(
                    f"set {name!r} with samples up to {top:g} in {band} beside {first!r} with up to {low:g}",
                    "the same units in every set",
                    "bring the images to one unit and scan again",
                )
