"""What can be wrong with the files of a data set: one finding per line, the same in scan, stats and check."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.errors import CRSError

from geodistill.data.manifest import Manifest, Row
from geodistill.data.statistics import (
    NOTHING_TO_LEARN,
    Statistics,
    ignored_share,
    lone_classes,
    misread_in,
    vanished_labels,
)
from geodistill.errors import DataError, counted
from geodistill.raster import Grid, Raster, Window
from geodistill.spec import IGNORE_INDEX, Legend

Kind = Literal[
    "unreadable",
    "size_mismatch",
    "unknown_label",
    "unknown_colour",
    "unlabelled_mask",
    "constant_image",
    "no_valid_pixel",
    "missing_crs",
    "grid_mismatch",
    "band_count",
    "dtype",
    "duplicate",
    "duplicate_across_splits",
    "vanished_labels",
    "lone_class",
    "ignored_labels",
]

FAR = 0.5
"""Pixels by which a mask may lie off its image."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: The image or mask.
        kind: What kind of thing, for counting and filtering.
        message: What exactly, in one line.
        severity: ``error`` where training or scores would be wrong, ``warning`` where a look is worthwhile.
    """

    file: str
    kind: Kind
    message: str
    severity: Literal["error", "warning"] = "error"

    @property
    def line(self) -> str:
        """The finding as a manifest's problem."""
        return f"{self.file} {self.message}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that ``data check --json`` prints."""
        return asdict(self)


@dataclass(frozen=True)
class ImageSummary:
    """What is kept of each row to compare rows: the type of its image's samples, and whether that has a place.

    The digest is of its pixels; ``None`` where they were not read, or are all the same.
    """

    row: Row
    dtype: str
    georeferenced: bool
    digest: bytes | None = None


class PixelDigest:
    """A digest of an image's pixels, strip by strip.

    Args:
        raster: The image.
        window: The part of it.
    """

    def __init__(self, raster: Raster, window: Window) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._digest.update(f"{raster.channels} {window.height} {window.width} {raster.dtype}".encode())

    def add(self, pixels: NDArray[Any]) -> None:
        """Add ``(C, H, W)`` samples."""
        self._digest.update(np.ascontiguousarray(pixels).data)

    def bytes(self) -> bytes:
        """Return the digest so far."""
        return self._digest.digest()


def compare_companions(images: Sequence[ImageSummary], expect_crs: bool | None = None) -> list[Finding]:
    """Compare images: CRS (each should have one where any has, or as ``expect_crs`` says), type, equal pixels."""
    findings: list[Finding] = []
    if expect_crs is None:
        expect_crs = any(image.georeferenced for image in images)
    usual = Counter(image.dtype for image in images).most_common(1)
    first: dict[bytes, Row] = {}
    for image in images:
        file = str(image.row.image)
        if expect_crs and not image.georeferenced:
            findings.append(Finding(file, "missing_crs", "has no CRS or no transform"))
        if image.dtype != usual[0][0]:
            message = f"has samples of {image.dtype}, most of its companions {usual[0][0]}"
            findings.append(Finding(file, "dtype", message))
        if image.digest is None:
            continue
        other = first.setdefault(image.digest, image.row)
        if other is not image.row:
            across = other.split != image.row.split
            message = f"has the same pixels as {other.key} ({other.split}), and is in {image.row.split}"
            kind: Kind = "duplicate_across_splits" if across else "duplicate"
            findings.append(Finding(file, kind, message, "error" if across else "warning"))
    return findings


def compare_grids(row: Row, image: Grid, mask: Grid) -> list[Finding]:
    """Compare size and place of a mask with those of its image: no flip, shift, turn or other pixel size."""
    file, name = str(row.mask), row.image.name
    if (image.height, image.width) != (mask.height, mask.width):
        message = f"is {mask.width} x {mask.height} and its image {name} is {image.width} x {image.height}"
        return [Finding(file, "size_mismatch", message)]
    if image.transform.is_identity or mask.transform.is_identity or image.transform.determinant == 0:
        return []
    width, height = image.width, image.height
    image_points = np.array([(0, 0), (width, 0), (0, height), (width, height), (width / 2, height / 2)], np.float64)
    mask_points = _in_pixels(image_points, mask, image)
    if mask_points is None:
        if np.allclose(image.transform[:6], mask.transform[:6]):
            return []
        message = f"is in another coordinate system than its image {name}, and cannot be compared with it"
        return [Finding(file, "grid_mismatch", message, "warning")]
    if _largest(mask_points - image_points) <= FAR:
        return []
    return [Finding(file, "grid_mismatch", _how_far(mask_points, image_points, image, name))]


def refuse_elsewhere(row: Row, image: Raster, mask: Raster) -> None:
    """Refuse a mask that lies elsewhere than its image.

    Raises:
        DataError: It does.
    """
    for finding in compare_grids(row, image.grid, mask.grid):
        if finding.severity == "error":
            raise DataError(f"mask {finding.line}", "the same place", "warp the mask onto the image's grid")


def _how_far(mask_points: NDArray[np.float64], image_points: NDArray[np.float64], image: Grid, name: str) -> str:
    upside, sideways = image_points * [1, -1] + [0, image.height], image_points * [-1, 1] + [image.width, 0]
    both = image_points * [-1, -1] + [image.width, image.height]
    for how, expected in (("upside down", upside), ("mirrored", sideways), ("turned by 180 degrees", both)):
        if _largest(mask_points - expected) <= FAR:
            return f"is {how} against its image {name}, by its transform"
    away = float(np.hypot(*(mask_points[-1] - image_points[-1])))
    if away > FAR:
        metres = "" if image.gsd is None else f"{away * image.gsd:.3g} m "
        return f"lies {metres}away from its image {name} ({away:.3g} pixels)"
    off = _largest(mask_points - image_points)
    return f"has pixels of another size or direction than its image {name} (corners {off:.3g} pixels off)"


def _in_pixels(points: NDArray[np.float64], mask: Grid, image: Grid) -> NDArray[np.float64] | None:
    """Bring ``(N, 2)`` points from pixels of the mask to those of the image; ``None`` where that is not known."""
    x, y = mask.transform @ (points[:, 0], points[:, 1])
    if mask.crs is not None and image.crs is not None and mask.crs != image.crs:
        try:
            known = pyproj.Transformer.from_crs(mask.crs.to_wkt(), image.crs.to_wkt(), always_xy=True)
            x, y = known.transform(x, y)
        except (pyproj.exceptions.ProjError, CRSError):
            return None
    placed = np.stack(~image.transform @ (np.asarray(x), np.asarray(y)), -1)
    return placed if np.isfinite(placed).all() else None


def _largest(offsets: NDArray[np.float64]) -> float:
    return float(np.hypot(offsets[:, 0], offsets[:, 1]).max())


def lone_class_findings(manifest: Manifest, counts: Mapping[str, Sequence[int]]) -> list[Finding]:
    """Report each of train and val of which every labelled pixel, by its class counts, is of one class."""
    if manifest.legend is None:
        return []
    return [
        Finding(str(manifest.path or ""), "lone_class", f"has no label in {split} but {name!r}: {NOTHING_TO_LEARN}")
        for split, name in lone_classes(manifest.legend, counts).items()
        if split in ("train", "val")
    ]


def ignored_note(legend: Legend, ignored: Mapping[str, int], pixels: int) -> list[str]:
    """Say which mask values are ignored, with their shares; no line where there are none.

    Args:
        legend: The classes; where it names nothing to ignore, that is `IGNORE_INDEX` alone.
        ignored: Valid pixels of each value that is ignored.
        pixels: Valid pixels of all masks.
    """
    if not ignored:
        return []
    each = ", ".join(
        f"{label} ({count / max(pixels, 1):.1%} of the pixels)" for label, count in sorted(ignored.items())
    )
    default = legend.ignore_values == (IGNORE_INDEX,) and not legend.ignore_colours
    why = "being no class of the legend" if default else "as the legend says"
    return [f"mask values that are ignored, {why}: {each}"]


def vanished_lines(
    legend: Legend, counts: Mapping[str, Sequence[int]], ignored: Mapping[str, int], misread: str
) -> list[str]:
    """Return the lines of `vanished_labels`; what `misread_labels` asks takes the place of the classes' own line."""
    return [*ignored_share(counts, ignored), misread] if misread else vanished_labels(legend, counts, ignored)


def label_notes(manifest: Manifest, statistics: Statistics | None = None) -> list[str]:
    """Say what of a manifest's labels is not there, one line each: see `vanished_labels` and `ignored_note`."""
    measured, legend = statistics or manifest.statistics, manifest.legend
    if legend is None or measured is None or not measured.class_pixels:
        return []
    misread = misread_in(legend, measured)
    lines = vanished_lines(legend, measured.class_pixels, measured.ignored_pixels, misread)
    lone = [f"the set {finding.message}" for finding in lone_class_findings(manifest, measured.class_pixels)]
    return lines + lone + ignored_note(legend, measured.ignored_labels, measured.mask_pixels)


def format_findings(findings: Sequence[Finding], shown: int = 5) -> str:
    """Write findings as the text that ``data check`` prints: by kind, with the first ``shown`` files of each."""
    if not findings:
        return "nothing wrong found"
    lines = []
    for kind, count in sorted(Counter(f.kind for f in findings).items()):
        of_kind = [f for f in findings if f.kind == kind]
        errors = sum(f.severity == "error" for f in of_kind)
        lines.append(f"{kind.replace('_', ' ')}: {counted(count, 'error' if errors else 'warning')}")
        lines += [f"  {f.file}: {f.message}" for f in of_kind[:shown]]
        if count > shown:
            lines.append(f"  ... and {count - shown} more")
    errors = sum(f.severity == "error" for f in findings)
    return "\n".join([*lines, f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}"])
