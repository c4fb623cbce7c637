"""Colours of classes in a report: the legend's own, and a set that people with any colour vision can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from geodistill.legend_entries import Colour, parse_colour

_SAFE = {
    8: ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#4d4d4d"),
    10: ("#332288", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#dddddd"),
}
"""Okabe and Ito's eight (2008), with grey for black, and Tol's muted ten (2021)."""

_LEAST = 12.0
"""Distance in CIELAB under which two areas of colour are easily taken for one another."""

_DICHROMATS = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Linear RGB as it is seen without one kind of cones (Machado et al. 2009, severity 1.0)."""

_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE = (0.9505, 1.0, 1.089)


def safe_colours(count: int) -> tuple[Colour, ...] | None:
    """Return colours that people with any colour vision can tell apart; ``None`` for more classes than there are."""
    for most, colours in _SAFE.items():
        if count <= most:
            return tuple(map(parse_colour, colours[:count]))
    return None


def least_distance(colours: Sequence[Colour]) -> float:
    """Return how far the two nearest colours are apart in CIELAB, in the worst of four kinds of colour vision."""
    values = np.array(colours, np.float64).reshape(-1, 3) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    views = [linear, *(linear @ np.array(matrix).T for matrix in _DICHROMATS.values())]
    distances = [
        float(np.linalg.norm(lab[first] - lab[second]))
        for lab in map(_lab, views)
        for first, second in combinations(range(len(lab)), 2)
    ]
    return min(distances, default=float("inf"))


def are_distinct(colours: Sequence[Colour]) -> bool:
    """Whether people with any colour vision can tell some colours apart."""
    return least_distance(colours) >= _LEAST


def starts_safe(colours: Sequence[Colour]) -> bool:
    """Whether a page shows classes in safe colours until it is asked for these."""
    return safe_colours(len(colours)) is not None and not are_distinct(colours)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn ``(N, 3)`` linear RGB into CIELAB under D65."""
    scaled = linear.clip(0, 1) @ np.array(_TO_XYZ).T / np.array(_WHITE)
    root = np.where(scaled > 216 / 24389, np.cbrt(scaled), (24389 / 27 * scaled + 16) / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
