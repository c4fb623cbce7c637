"""``data check``: everything that is wrong with the files of a manifest, each by name."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from geodistill.data.manifest import Manifest, Row
from geodistill.data.masks import decode_mask, label_name, strips
from geodistill.data.stats import size_mismatch_error
from geodistill.errors import DataError
from geodistill.raster import Raster
from geodistill.spec import IGNORE_INDEX, Colour

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
]


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

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form that ``data check --json`` prints."""
        return asdict(self)


@dataclass
class _Seen:
    """What is kept of each row to compare rows with each other."""

    row: Row
    dtype: str
    georeferenced: bool
    digest: bytes
    constant: bool


def check(manifest: Manifest, *, expect_crs: bool | None = None, progress: bool = False) -> list[Finding]:
    """Read every file wholly, in strips of bounded memory, and name what is wrong.

    Found are: unreadable and truncated files, masks of another size or another place on the ground than their
    image, labels and colours in no legend entry with their counts, masks without a labelled pixel, constant
    images, images without a valid pixel, missing CRS, odd band counts and sample types, and images with equal
    pixels, in one split (a warning) or across splits (an error).

    Args:
        manifest: The data set.
        expect_crs: Whether each image should have a CRS; by default if any of them has one.
        progress: Show a progress bar on a terminal.

    Returns:
        The findings, in the manifest's order; empty where all is well.
    """
    findings: list[Finding] = []
    seen: list[_Seen] = []
    for row in tqdm(manifest.entries, "checking", unit="image", disable=not (progress and sys.stderr.isatty())):
        # A row that cannot be read still gets its mask looked at: both may be broken.
        image = _check_image(row, len(manifest.bands), findings)
        if image is not None:
            seen.append(image)
        if row.mask is not None:
            findings += _check_mask(row, row.mask, manifest)
    findings += _check_companions(seen, expect_crs)
    order = {str(path): i for i, row in enumerate(manifest.entries) for path in (row.image, row.mask) if path}
    return sorted(dict.fromkeys(findings), key=lambda finding: order.get(finding.file, 0))


def _check_image(row: Row, bands: int, findings: list[Finding]) -> _Seen | None:
    file = str(row.image)
    digest = hashlib.blake2b(digest_size=16)
    low = high = None
    valid_pixels = 0
    try:
        with Raster(row.image) as raster:
            if raster.channels != bands:
                message = f"has {raster.channels} bands, its companions {bands}"
                findings.append(Finding(file, "band_count", message))
            grid = raster.grid
            window = row.window.intersection(grid.height, grid.width)
            if row.window.height == 0 or window != row.window:
                message = f"is {grid.width} x {grid.height} and was not so when it was scanned; scan again"
                findings.append(Finding(file, "size_mismatch", message))
            digest.update(f"{raster.channels} {window.height} {window.width} {raster.dtype}".encode())
            for strip in strips(window):
                pixels, valid = raster.read(strip)
                digest.update(np.ascontiguousarray(pixels).data)
                if not valid.any():
                    continue
                valid_pixels += int(valid.sum())
                inside = pixels[:, valid]
                lows, highs = inside.min(axis=1), inside.max(axis=1)
                low = lows if low is None else np.minimum(low, lows)
                high = highs if high is None else np.maximum(high, highs)
            seen = _Seen(row, str(raster.dtype), grid.georeferenced, digest.digest(), True)
    except DataError as error:
        findings.append(Finding(file, "unreadable", str(error)))
        return None
    if low is None or high is None:
        findings.append(Finding(file, "no_valid_pixel", "has no valid pixel: all is nodata", "warning"))
    elif bool((low == high).all()):
        value = ", ".join(f"{v:g}" for v in low.tolist())
        findings.append(Finding(file, "constant_image", f"is constant: every pixel is {value}", "warning"))
    else:
        seen.constant = False
    return seen


def _check_mask(row: Row, path: Path, manifest: Manifest) -> list[Finding]:
    findings: list[Finding] = []
    file, legend = str(path), manifest.legend
    odd: Counter[int | Colour] = Counter()
    labelled = 0
    try:
        with Raster(path) as mask:
            findings += _check_grids(row, mask, file)
            if legend is None:
                return findings
            for strip in strips(row.window.intersection(mask.grid.height, mask.grid.width)):
                indices, unknown = decode_mask(mask, legend, strip)
                odd.update(unknown)
                labelled += int(np.count_nonzero(indices != IGNORE_INDEX))
    except DataError as error:
        return [*findings, Finding(file, "unreadable", str(error))]
    severity: Literal["error", "warning"] = "warning" if manifest.ignore_unknown else "error"
    if odd:
        kind: Kind = "unknown_label" if isinstance(next(iter(odd)), int) else "unknown_colour"
        findings.append(Finding(file, kind, _unknown_message(odd), severity))
    if not labelled:
        findings.append(Finding(file, "unlabelled_mask", "has no labelled pixel: all is ignored", "warning"))
    return findings


def _unknown_message(labels: Counter[int | Colour]) -> str:
    most = labels.most_common()
    named = ", ".join(f"{label_name(label)} ({count} pixels)" for label, count in most[:8])
    more = f" and {len(most) - 8} more" if len(most) > 8 else ""
    return f"has {'values' if isinstance(most[0][0], int) else 'colours'} in no legend entry: {named}{more}"


def _check_grids(row: Row, mask: Raster, file: str) -> list[Finding]:
    """Compare the mask's size and place with its image's; an unreadable image is reported elsewhere."""
    try:
        with Raster(row.image) as image:
            grid = image.grid
    except DataError:
        return []
    mask_grid = mask.grid
    size, mask_size = (grid.height, grid.width), (mask_grid.height, mask_grid.width)
    if size != mask_size:
        message = size_mismatch_error(row.image, size, mask.path, mask_size).received
        return [Finding(file, "size_mismatch", message)]
    if grid.lonlat is None or mask_grid.lonlat is None or grid.gsd is None:
        return []
    # Degrees to metres, closely enough to tell half a pixel.
    metres = np.array([111_320 * np.cos(np.radians(grid.lonlat[1])), 110_574])
    away = float(np.hypot(*((np.array(grid.lonlat) - mask_grid.lonlat) * metres)))
    if away > grid.gsd / 2:
        message = f"lies {away:.3g} m away from its image {row.image.name} ({away / grid.gsd:.3g} pixels)"
        return [Finding(file, "grid_mismatch", message, "warning")]
    return []


def _check_companions(seen: Sequence[_Seen], expect_crs: bool | None) -> list[Finding]:
    """Compare images with each other: CRS, sample type, equal pixels."""
    findings: list[Finding] = []
    if expect_crs is None:
        expect_crs = any(image.georeferenced for image in seen)
    usual = Counter(image.dtype for image in seen).most_common(1)
    first: dict[bytes, Row] = {}
    for image in seen:
        file = str(image.row.image)
        if expect_crs and not image.georeferenced:
            findings.append(Finding(file, "missing_crs", "has no CRS or no transform"))
        if image.dtype != usual[0][0]:
            message = f"has samples of {image.dtype}, most of its companions {usual[0][0]}"
            findings.append(Finding(file, "dtype", message))
        if image.constant:
            continue
        other = first.setdefault(image.digest, image.row)
        if other is not image.row:
            across = other.split != image.row.split
            message = f"has the same pixels as {other.key} ({other.split}), and is in {image.row.split}"
            findings.append(
                Finding(
                    file,
                    "duplicate_across_splits" if across else "duplicate",
                    message,
                    "error" if across else "warning",
                )
            )
    return findings


def format_findings(findings: Sequence[Finding], shown: int = 5) -> str:
    """Write findings as the text that ``data check`` prints: by kind, with the first ``shown`` files of each."""
    if not findings:
        return "nothing wrong found"
    lines = []
    for kind, count in sorted(Counter(f.kind for f in findings).items()):
        of_kind = [f for f in findings if f.kind == kind]
        errors = sum(f.severity == "error" for f in of_kind)
        lines.append(f"{kind.replace('_', ' ')}: {count} {'errors' if errors else 'warnings'}")
        lines += [f"  {f.file}: {f.message}" for f in of_kind[:shown]]
        if count > shown:
            lines.append(f"  ... and {count - shown} more")
    errors = sum(f.severity == "error" for f in findings)
    return "\n".join([*lines, f"{errors} errors, {len(findings) - errors} warnings"])
