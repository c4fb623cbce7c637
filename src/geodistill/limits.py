"""What a model's settings may be, read from its file or asked for: scales and temperature."""

from __future__ import annotations

from collections.abc import Sequence

from geodistill.errors import ArtifactError

SCALES = (0.25, 4.0)
"""Least and largest factor of an image's sides that a model averages over."""

TEMPERATURES = (0.1, 20.0)
"""Least and largest number that a model's logits are divided by."""


def check_scales(scales: Sequence[float], holder: str) -> tuple[float, ...]:
    """Return scales as they are used.

    Raises:
        ArtifactError: There are none, or more than eight, or one is out of `SCALES`.
    """
    numbers = all(isinstance(scale, int | float) and not isinstance(scale, bool) for scale in scales)
    if not numbers or not 1 <= len(scales) <= 8 or not all(SCALES[0] <= scale <= SCALES[1] for scale in scales):
        expected = f"1 to 8 numbers from {SCALES[0]:g} to {SCALES[1]:g}"
        raise ArtifactError(f"{holder} with the scales {list(scales)}", expected)
    return tuple(map(float, scales))


def check_temperature(temperature: float, holder: str) -> float:
    """Return a temperature as it is used.

    Raises:
        ArtifactError: It is no number, or out of `TEMPERATURES`.
    """
    least, most = TEMPERATURES
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not least <= temperature <= most:
        raise ArtifactError(f"{holder} with temperature {temperature!r}", f"a number from {least:g} to {most:g}")
    return float(temperature)
