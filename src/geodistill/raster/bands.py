"""Bands of a file: which is meant by a number or name, and which are alpha."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.raster.grid import Window

SENSORS: dict[str, dict[str, str]] = {
    "sentinel-2": {
        "coastal": "b1",
        "blue": "b2",
        "green": "b3",
        "red": "b4",
        "rededge1": "b5",
        "rededge2": "b6",
        "rededge3": "b7",
        "nir": "b8",
        "nir08": "b8a",
        "nir09": "b9",
        "cirrus": "b10",
        "swir16": "b11",
        "swir22": "b12",
    },
    "landsat-8": {
        "coastal": "b1",
        "blue": "b2",
        "green": "b3",
        "red": "b4",
        "nir": "b5",
        "swir16": "b6",
        "swir22": "b7",
        "pan": "b8",
        "cirrus": "b9",
    },
    "landsat-5": {"blue": "b1", "green": "b2", "red": "b3", "nir": "b4", "swir16": "b5", "swir22": "b7", "pan": "b8"},
}
"""Band of each sensor by the common name that STAC gives it; Landsat 9 has those of 8, Landsat 4 and 7 those of 5."""

COMMON = frozenset[str]().union(*SENSORS.values()) | {"rededge", "swir", "thermal"}
"""Names of light: a description that is one of them says what a band holds."""

_NAMES = {
    "sentinel-2": re.compile(r"(?i)^(S2[ABCD]_|T\d{2}[A-Z]{3}_|HLS\.S30\.)"),
    "landsat-8": re.compile(r"(?i)^(L[COT]0[89]_|HLS\.L30\.)"),
    "landsat-5": re.compile(r"(?i)^L[TEM]0[457]_"),
}
_TOKEN = re.compile(r"(?i)(?<![A-Z0-9])B(?:and)?[ _]?0?(\d{1,2}A?)(?![A-Z0-9])")


_UNNAMED = re.compile(r"band\d+")

DESCRIBED = "DESCRIPTION"
"""Tag of a stack's band: its description in its file, since the band itself is called after the file."""

_SURE = {".png", ".webp", ".jp2", ".gif"}
"""Suffixes of formats whose alpha is what they say it is."""

_RESOLUTION = re.compile(r"(?i)(?<![A-Z0-9])R?[126]0m(?![A-Z0-9])")


def band_token(text: str) -> str | None:
    """Find a band's number in a file's name or a band's description: ``LC08_..._B4.TIF`` -> ``b4``, or ``None``."""
    tokens = _tokens(text)
    return f"b{tokens[-1][1].lower()}" if tokens else None


def before_band(text: str) -> str:
    """Return what stands before a band's number: ``LC08_..._``, which the band files of one scene share.

    Sentinel-2's resolution is no part of it: ``R10m_B04``.
    """
    tokens = _tokens(text)
    return _RESOLUTION.sub("", text[: tokens[-1].start()] if tokens else text)


def without_gain(text: str) -> str:
    """Return what both files of Landsat 7's thermal band share: ``LE07_..._B6`` of ``..._B6_VCID_1``."""
    return re.sub(r"_VCID_\d$", "", text)


def _tokens(text: str) -> list[re.Match[str]]:
    # File names part their words by underscores, which a regular expression takes for letters.
    return list(_TOKEN.finditer(text.replace("_", " ").replace(".", " ")))


def aliases(file_name: str, description: str | None, colour: str | None, alone: bool) -> set[str]:
    """Return every name, in lower case, that a band answers to.

    Args:
        file_name: Name of its file, which tells the sensor.
        description: The band's name in the file.
        colour: Its colour interpretation: ``red``, ``nir`` ... Writers give one unasked (red, green, blue, alpha to the
            first four bands of an 8-bit TIFF), so a description of `COMMON` counts in its place.
        alone: Whether it is its file's only band: a number in the file's name then goes before one in the description.
    """
    described = (description or "").strip().lower()
    names = {name for name in (described, "" if described in COMMON else (colour or "").lower()) if name}
    # "Band 1", or "Band 3" of a composite that was taken apart, is what writers call an only band unasked.
    token = (band_token(file_name) if alone else None) or (band_token(description) if description else None)
    if token:
        # Sentinel-2 writes B04 and B8A, Landsat B4.
        names |= {token, f"b0{token[1:]}" if token[1:].isdecimal() and len(token) == 2 else token}
        for sensor, pattern in _NAMES.items():
            if pattern.match(file_name):
                names |= {common for common, band in SENSORS[sensor].items() if band == token}
    return names


def are_others(known: Sequence[str], bands: Sequence[str]) -> bool:
    """Whether bands are not as many as known ones, or one has another name; those without a name may be any."""
    pairs = zip(known, bands, strict=False)
    named = ((a, b) for a, b in pairs if not _UNNAMED.fullmatch(a) and not _UNNAMED.fullmatch(b))
    return len(known) != len(bands) or any(a.lower() != b.lower() for a, b in named)


def lie_otherwise(known: Sequence[str], bands: Sequence[str]) -> bool:
    """Whether bands have the names of known ones, in another order."""
    before, now = ([name.lower() for name in names] for names in (known, bands))
    return before != now and sorted(before) == sorted(now)


def described(file: DatasetReader) -> tuple[str | None, ...]:
    """Return the description of each band of a file, ``None`` for all where they are in another encoding than UTF-8."""
    try:
        return tuple(file.descriptions)
    except UnicodeDecodeError:
        return (None,) * int(file.count)


def choose(asked: Sequence[str], known: Sequence[tuple[int, set[str]]], source: str) -> list[int]:
    """Return the indexes of bands, in the order asked for: each by a number, counted from 1, or a name.

    ``known`` holds index and every name of each band there is.

    Raises:
        DataError: A band does not exist, or a name fits several.
    """
    chosen = []
    for name in asked:
        if name.strip().isdecimal():
            position = int(name)
            if not 1 <= position <= len(known):
                raise DataError(f"{source}: band {position}", f"1 to {len(known)}")
            chosen.append(known[position - 1][0])
            continue
        fitting = [index for index, names in known if name.strip().lower() in names]
        if len(fitting) != 1:
            has = ", ".join("/".join(sorted(names)) or str(index) for index, names in known)
            matches = f"{len(fitting)} bands named {name!r}" if fitting else f"no band {name!r}"
            raise DataError(f"{source}: {matches}", f"one of {has}", "name bands by their number, counted from 1")
        chosen.append(fitting[0])
    return chosen


def alpha_bands(file: DatasetReader) -> list[int]:
    """Return the bands tagged as alpha that hold opacity; none where there is no other band."""
    tagged = [i for i, kind in enumerate(file.colorinterp, 1) if kind == ColorInterp.alpha]
    if tagged and _may_be_guessed(file):
        tagged = [i for i in tagged if _holds_alpha(file, i)]
    return tagged if len(tagged) < file.count else []


def _may_be_guessed(file: DatasetReader) -> bool:
    """Whether alpha may be a guess of GDAL's: in a TIFF, or a virtual raster that may be made of some."""
    if file.driver != "VRT":
        return bool(file.driver == "GTiff")
    # The texts of `stack` and `mosaic` say what each source's alpha was found to be.
    return not (file.name.startswith("<") or any(Path(name).suffix.lower() in _SURE for name in file.files))


def _holds_alpha(file: DatasetReader, index: int) -> bool:
    """Whether a band tagged as alpha is mostly 0, 255 or the largest value, in five sampled places.

    GDAL tags the fourth band of any 8-bit TIFF as alpha unless its tags say otherwise, near infrared too, and virtual
    rasters say the same of it. Zeros alone may be water in near infrared, or lie in the empty part of an image: beside
    a nodata value the band is alpha only if it is mostly opaque where another band has data, in 25 places.
    """
    kind = np.dtype(file.dtypes[index - 1])
    opaque = (255, np.iinfo(kind).max if kind.kind in "ui" else 1)
    alpha = _sample(file, [index], ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)))[0]
    if 2 * np.isin(alpha, (0, *opaque)).sum() < alpha.size:
        return False
    if file.nodata is None or np.isin(alpha, opaque).any():
        return True
    along = (0, 0.25, 0.5, 0.75, 1)
    alpha, colour = _sample(file, [index, 1 if index > 1 else file.count], product(along, along))
    shown = alpha[colour != file.nodata]
    return bool(shown.size and 2 * np.isin(shown, opaque).sum() >= shown.size)


def _sample(file: DatasetReader, bands: list[int], places: Iterable[tuple[float, float]]) -> NDArray[Any]:
    """Return what bands have within 16 pixels of places, shares of height and width; ``(N, P)``, readable ones only."""
    samples = [np.zeros((len(bands), 0), file.dtypes[bands[0] - 1])]
    for row, col in places:
        window = Window(int(row * file.height) - 16, int(col * file.width) - 16, 32, 32)
        with suppress(RasterioError):
            sample = file.read(bands, window=window.intersection(file.height, file.width).to_rasterio())
            samples.append(sample.reshape(len(bands), -1))
    return np.concatenate(samples, 1)
