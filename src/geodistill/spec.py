"""What a segmenter is about, each fact said once: classes, colours, bands, normalisation, ground sampling distance."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import ArtifactError, DataError, listed, shown
from geodistill.legend_entries import LISTS, Colour, read_classes, read_lists
from geodistill.reading import read_yaml

IGNORE_INDEX = 255
"""Label of pixels that take no part in losses or scores. Every mask inside geodistill uses this value."""

_VALUES = range(-(2**31), 2**32)
"""Values that a pixel of a mask file can have: those of whole numbers of up to 32 bits."""


@dataclass(frozen=True)
class Legend:
    """The classes of a label set and how mask files encode them.

    Attributes:
        names: Class names; the position is the class index.
        colours: One RGB colour in 0..255 per class, for RGB masks, maps and pictures.
        values: The pixel value of each class in single-band mask files; the class index where not given.
        ignore_values: Pixel values of single-band mask files that mean "no label".
        ignore_colours: RGB colours of mask files that mean "no label".
        nearest: Take a colour that is in no entry as the entry nearest to it in RGB, for masks with off-palette
            pixels; they are counted all the same.

    Raises:
        DataError: Names repeat, the lists do not fit each other, or a value is one that no mask file can have.

    Example:
        >>> legend = gd.Legend(("ground", "building"), colours=((90, 120, 60), (200, 60, 50)))
        >>> legend.values
        (0, 1)
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    values: tuple[int, ...] = ()
    ignore_values: tuple[int, ...] = ()
    ignore_colours: tuple[Colour, ...] = ()
    nearest: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 255:
            raise DataError(f"legend with {len(self.names)} classes ({listed(self.names)})", "1 to 255 classes")
        if not all(isinstance(name, str) and name.strip() for name in self.names):
            raise DataError(f"legend with the classes {listed(self.names)}", "names that are text, and not empty")
        if repeated := _repeated(self.names):
            raise DataError(f"legend with the class {repeated[0]!r} twice", "distinct class names")
        if not self.colours:
            object.__setattr__(self, "colours", default_colours(len(self.names)))
        if not self.values:
            object.__setattr__(self, "values", tuple(range(len(self.names))))
        if unfit := [value for value in (*self.values, *self.ignore_values) if value not in _VALUES]:
            raise DataError(f"legend with the mask value {shown(unfit[0])}", "whole numbers of up to 32 bits")
        if not self.ignore_values and IGNORE_INDEX not in self.values:
            object.__setattr__(self, "ignore_values", (IGNORE_INDEX,))
        for label, given in (("colour", self.colours), ("value", self.values)):
            if len(given) != len(self.names):
                raise DataError(f"legend with {len(given)} {label}s for {len(self.names)} classes", "one per class")
            if repeated := _repeated(given):
                raise DataError(f"legend with the {label} {repeated[0]} for two classes", f"distinct {label}s")
        if set(self.values) & set(self.ignore_values) or set(self.colours) & set(self.ignore_colours):
            raise DataError("legend with an entry that is both a class and ignored", "classes or ignored, not both")

    def __len__(self) -> int:
        return len(self.names)

    def _repr_html_(self) -> str:
        """Return the classes for a notebook."""
        from geodistill.notebook import html_table

        return html_table(("", "class", "value"), zip(self.colours, self.names, self.values, strict=True))

    def indices_from_values(self, values: NDArray[Any]) -> tuple[NDArray[np.uint8], dict[int, int]]:
        """Turn the pixel values of a single-band mask into class indices.

        Args:
            values: ``(H, W)`` integers as stored in the file.

        Returns:
            ``(H, W)`` uint8 class indices (``IGNORE_INDEX`` where ignored or unknown), and the count of pixels
            of each value that stands neither in the legend nor among its ignored values.
        """
        indices = np.full(values.shape, IGNORE_INDEX, np.uint8)
        known = np.zeros(values.shape, bool)
        for index, value in enumerate(self.values):
            hit = values == np.int64(value)  # which masks of a smaller type are compared with, too
            indices[hit] = index
            known |= hit
        for value in self.ignore_values:
            known |= values == np.int64(value)
        unknown, counts = np.unique(values[~known], return_counts=True)
        return indices, {int(v): int(n) for v, n in zip(unknown, counts, strict=True)}

    def indices_from_colours(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], dict[Colour, int]]:
        """Turn an RGB mask into class indices.

        Args:
            rgb: ``(3, H, W)`` uint8 colours as stored in the file.

        Returns:
            ``(H, W)`` uint8 class indices (``IGNORE_INDEX`` where ignored or unknown, unless `nearest`), and the count
            of pixels of each colour that is in no legend entry.
        """
        packed = _pack(rgb.astype(np.uint32))
        indices = np.full(packed.shape, IGNORE_INDEX, np.uint8)
        known = np.zeros(packed.shape, bool)
        for index, colour in enumerate(self.colours):
            hit = packed == _pack(np.array(colour, np.uint32))
            indices[hit] = index
            known |= hit
        for colour in self.ignore_colours:
            known |= packed == _pack(np.array(colour, np.uint32))
        unknown, which, counts = np.unique(packed[~known], return_inverse=True, return_counts=True)
        if self.nearest:
            indices[~known] = self._nearest(unknown)[which]
        return indices, {
            (int(v) >> 16, int(v) >> 8 & 255, int(v) & 255): int(n) for v, n in zip(unknown, counts, strict=True)
        }

    def _nearest(self, packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Class index of the entry nearest to each packed colour, `IGNORE_INDEX` where that is an ignored one."""
        entries = np.array([*self.colours, *self.ignore_colours], np.int64)
        meant = np.array([*range(len(self)), *(IGNORE_INDEX for _ in self.ignore_colours)], np.uint8)
        rgb = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.int64)
        nearest: NDArray[np.uint8] = meant[((rgb[:, None] - entries) ** 2).sum(-1).argmin(1)]
        return nearest

    def paint(self, indices: NDArray[Any]) -> NDArray[np.uint8]:
        """Colour class indices for a picture: ``(H, W)`` integers -> ``(H, W, 3)`` uint8; ignored is black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colours
        painted: NDArray[np.uint8] = table[np.clip(indices, 0, 255).astype(np.uint8)]
        return painted

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form that `from_dict` reads back."""
        plain = {key: [list(v) if isinstance(v, tuple) else v for v in getattr(self, key)] for key in LISTS}
        return plain | ({"nearest": True} if self.nearest else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Legend:
        """Read what `to_dict` wrote.

        Raises:
            DataError: It is something else.
        """
        return cls(**read_lists(data))

    @classmethod
    def load(cls, path: Path | str) -> Legend:
        """Read a legend file (YAML or JSON): what `from_classes` takes.

        Raises:
            DataError: The file is missing or is not such a legend.
        """
        return cls.from_classes(read_yaml(Path(path)), str(path))

    @classmethod
    def from_classes(cls, data: Any, path: str = "of a mapping") -> Legend:
        """Read a mapping as it stands in a legend file.

        It has ``classes``: a list of names, or a mapping from name to a colour ``"#rrggbb"``, a mask value,
        or ``{colour: ..., value: ...}``; and optionally ``ignore``: a list of colours and values that mean no label.

        Args:
            data: The mapping.
            path: Where it stood, for messages.

        Raises:
            DataError: It is something else.
        """
        arguments = read_classes(data, path)
        try:
            return cls(**arguments)
        except DataError as error:
            raise DataError(f"legend {path}: {error.received}", error.expected, error.mend) from error


def hexadecimal(colour: Colour) -> str:
    """Return a colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def default_colours(count: int) -> tuple[Colour, ...]:
    """Return ``count`` well separated colours (golden-angle hues), for legends that name none."""
    colours: list[Colour] = []
    for i in range(count):
        r, g, b = colorsys.hsv_to_rgb((i * 0.618034 + 0.08) % 1.0, 0.55 + 0.3 * (i % 2), 0.9 - 0.25 * (i % 3))
        colours.append((round(255 * r), round(255 * g), round(255 * b)))
    return tuple(colours)


Classes = Legend | Mapping[str, Any] | Sequence[str] | Path | str
"""A legend: itself, its file, its names in the order of their mask values, or a mapping as in a legend file."""


def as_legend(classes: Classes) -> Legend:
    """Return the legend that is meant."""
    if isinstance(classes, Legend):
        return classes
    if isinstance(classes, Path | str):
        return Legend.load(classes)
    if isinstance(classes, Mapping):
        return Legend.from_dict(classes) if "names" in classes else Legend.from_classes(classes)
    return Legend(tuple(classes))


def _pack(rgb: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.asarray((rgb[0] << 16) | (rgb[1] << 8) | rgb[2])


def _repeated(items: Sequence[Any]) -> list[Any]:
    earlier: set[Any] = set()
    return [item for item in items if item in earlier or earlier.add(item)]  # type: ignore[func-returns-value]


_LARGEST = 1e30
"""Means and deviations go into float32, where larger ones, or smaller ones than one over it, are infinite or 0."""

_GSD = (1e-6, 1e7)
"""Metres per pixel, from under a microscope to the whole Earth in four pixels."""


@dataclass(frozen=True)
class Spec:
    """What travels with data, network and artifact.

    Attributes:
        legend: The classes.
        bands: One name per band, in the order of the image's channels.
        mean: Mean of each band in sensor units; the network subtracts it.
        std: Standard deviation of each band in sensor units, above 0; the network divides by it.
        gsd: Ground sampling distance in metres per pixel, or ``None`` where unknown.

    Raises:
        DataError: The lists do not fit each other, a number is not finite, or a deviation or distance not positive.

    Example:
        >>> legend = gd.Legend(("ground", "building"))
        >>> spec = gd.Spec(legend, ("red", "green", "blue"), mean=(0.0,) * 3, std=(255.0,) * 3, gsd=0.3)
        >>> spec.channels, spec.classes
        (3, 2)
    """

    legend: Legend
    bands: tuple[str, ...]
    mean: tuple[float, ...] = field(default=())
    std: tuple[float, ...] = field(default=())
    gsd: float | None = None

    def __post_init__(self) -> None:
        count = len(self.bands)
        if not self.mean:
            object.__setattr__(self, "mean", (0.0,) * count)
        if not self.std:
            object.__setattr__(self, "std", (1.0,) * count)
        if count == 0 or len(self.mean) != count or len(self.std) != count:
            raise DataError(
                f"{count} bands, {len(self.mean)} means, {len(self.std)} deviations",
                "as many of each, at least one",
            )
        if not all(isinstance(name, str) for name in self.bands):
            raise DataError(f"bands {listed(self.bands)}", "names")
        if not all(lies_in(value, -_LARGEST, _LARGEST) for value in self.mean):
            raise DataError(f"band means {listed(self.mean)}", "finite numbers")
        if not all(lies_in(value, 1 / _LARGEST, _LARGEST) for value in self.std):
            raise DataError(f"band deviations {listed(self.std)}", "finite numbers above 0")
        if self.gsd is not None and not lies_in(self.gsd, *_GSD):
            raise DataError(f"ground sampling distance {shown(self.gsd)}", f"{_GSD[0]} to {_GSD[1]:g} metres per pixel")

    @property
    def channels(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.legend)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form that `from_dict` reads back."""
        return {
            "legend": self.legend.to_dict(),
            "bands": list(self.bands),
            "mean": list(self.mean),
            "std": list(self.std),
            "gsd": self.gsd,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spec:
        """Read what `to_dict` wrote.

        Raises:
            DataError: It is something else.
        """
        keys = ("legend", "bands", "mean", "std")
        if not isinstance(data, Mapping) or any(key not in data for key in keys):
            raise DataError(f"spec {shown(data)}", f"a mapping with the keys {', '.join(keys)}")
        for key in keys[1:]:
            if not isinstance(data[key], list | tuple):
                raise DataError(f"spec with {key} {shown(data[key])}", "a list")
        bands, mean, std = (tuple(data[key]) for key in keys[1:])
        return cls(Legend.from_dict(data["legend"]), bands, mean, std, data.get("gsd"))


def lies_in(value: Any, low: float, high: float) -> bool:
    """Return whether a value is a number within two bounds; truth values are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


SCALES = (0.25, 4.0)
"""Least and largest factor of an image's sides that a model averages over."""


def check_scales(scales: Sequence[float], holder: str) -> tuple[float, ...]:
    """Return scales as they are used.

    Raises:
        ArtifactError: There are none, or more than eight, or one is out of `SCALES`.
    """
    if not 1 <= len(scales) <= 8 or not all(lies_in(scale, *SCALES) for scale in scales):
        expected = f"1 to 8 numbers from {SCALES[0]:g} to {SCALES[1]:g}"
        raise ArtifactError(f"{holder} with the scales {list(scales)}", expected)
    return tuple(map(float, scales))
