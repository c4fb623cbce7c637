"""The size that annotations give for an image, compared with the image's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from geodistill.errors import DataError, GeodistillWarning
from geodistill.label.formats.base import Found, Scale
from geodistill.label.formats.images import Picture

SAME: Scale = (1.0, 1.0)
_LARGEST = 1e7
"""Pixels of a side; what says more is no size."""


class Frames:
    """Compares sizes image by image, and tells at the end how many images were annotated at another size."""

    def __init__(self) -> None:
        self._scaled: list[str] = []

    def fit(
        self, objects: Iterable[Found], picture: Picture, width: object, height: object, source: Path
    ) -> list[Found]:
        """Return the objects of an image in its own pixels, or to be dropped where it has another size.

        Args:
            objects: As annotated.
            picture: The image.
            width: Of the image, as annotations give it, in pixels.
            height: Of the image, as annotations give it, in pixels.
            source: The annotation file.
        """
        try:
            scale = self.scale(picture, width, height, source)
        except DataError as error:
            return [replace(found, fault=error, reason="another size") for found in objects]
        return [found.scaled(scale) for found in objects]

    def scale(self, picture: Picture, width: object, height: object, source: Path) -> Scale:
        """Return by what annotated x and y are multiplied: the ratios of the sides, where these agree to a pixel.

        Sizes that are missing, 0 or no numbers say nothing; nor can an image be compared that cannot be opened.

        Args:
            picture: The image.
            width: Of the image, as annotations give it, in pixels.
            height: Of the image, as annotations give it, in pixels.
            source: The annotation file.

        Raises:
            DataError: The image has another aspect ratio, for example because one of the two is turned or cut off; at
                which end it was cut, nobody knows.
        """
        across, down = side(width), side(height)
        if picture.size is None or across is None or down is None or picture.size == (across, down):
            return SAME
        own_across, own_down = picture.size
        if not _alike(across, down, own_across, own_down):
            raise DataError(
                f"{source} speaks of {across:g} x {down:g} pixels, {picture.path} has {own_across} x {own_down}"
                + _turned(picture, across, down),
                "one size, or one aspect ratio",
                "give the images that were annotated, as they were shown",
            )
        self._scaled.append(
            f"{picture.path.name} is {own_across} x {own_down} and was annotated at {across:g} x {down:g}"
        )
        return own_across / across, own_down / down

    def tell(self) -> None:
        """Warn where boxes were scaled."""
        if self._scaled:
            warnings.warn(
                f"boxes of {len(self._scaled)} images were scaled to another size ({self._scaled[0]})",
                GeodistillWarning,
                stacklevel=3,
            )


def side(value: object) -> float | None:
    """Return a side in pixels as annotations write it, number or text; ``None`` where it says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 < number < _LARGEST else None


def _alike(across: float, down: float, own_across: float, own_down: float) -> bool:
    """Whether two sizes have one aspect ratio: a side follows from the other to a pixel, in either frame."""
    return (
        abs(across * own_down / down - own_across) <= 1
        or abs(down * own_across / across - own_down) <= 1
        or abs(own_across * down / own_down - across) <= 1
        or abs(own_down * across / own_across - down) <= 1
    )


def _turned(picture: Picture, across: float, down: float) -> str:
    """Say where a turn by 90 degrees explains the difference."""
    if picture.size is None or not _alike(down, across, *picture.size):
        return ""
    if picture.turned:
        return " when turned as its EXIF orientation asks"
    return ": its sides are exchanged, as by a turn that EXIF orientation asked for"
