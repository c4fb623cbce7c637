"""What became of a tile, and the files that were written for it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from geodistill.label.tiles import TileId
from geodistill.raster import Window

FileSums = dict[str, list[int]]
"""Size in bytes and CRC-32 of files, by their names below the output folder."""


@dataclass(frozen=True)
class GroundPlace:
    """Where and when a tile was seen; what is not known is ``None``.

    Attributes:
        lon: Longitude of the centre in degrees.
        lat: Latitude of the centre in degrees.
        gsd: Ground sampling distance in metres per pixel.
        date: Day of acquisition as ``YYYY-MM-DD``.
    """

    lon: float | None = None
    lat: float | None = None
    gsd: float | None = None
    date: str | None = None


@dataclass(frozen=True)
class TileFiles:
    """What was written for a tile; names are below the output folder, with forward slashes.

    Attributes:
        image: The tile's own image file; empty where the source image serves as it is.
        masks: Files of class indices and of colours.
        sums: Of all these files.
        bands: Names of the image's bands.
        place: Where the tile lies on the ground.
        instances: COCO annotations without their ids, ``mask_value`` among them.
    """

    image: str
    masks: tuple[str, ...]
    sums: FileSums
    bands: tuple[str, ...]
    place: GroundPlace
    instances: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class TileRecord:
    """What became of one tile.

    Attributes:
        key: The image's key.
        window: The tile, in pixels of the image.
        error: Why the image could not be read, else an empty text; nothing below is known then.
        stamp: What the image was, as `geodistill.raster.Raster.stamp` tells; ``None`` where no pixel was looked at.
        outcomes: Index of each box, and why it gave no label here (an empty text where it gave one).
        changes: How often each change happened to masks, by class.
        painted: Pixels that several instances claim, those that several classes claim, and instances hidden by others.
        files: What was written, or ``None``.
        reviewed: Digest of the decisions of people that its files follow; empty where there are none.
    """

    key: str
    window: Window
    error: str = ""
    stamp: list[Any] | None = None
    outcomes: tuple[tuple[int, str], ...] = ()
    changes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    painted: tuple[int, int, int] = (0, 0, 0)
    files: TileFiles | None = None
    reviewed: str = ""

    @property
    def tile(self) -> TileId:
        """The tile that the record is about."""
        return TileId(self.key, self.window.row, self.window.col)

    @property
    def instances(self) -> tuple[dict[str, Any], ...]:
        """COCO annotations of the tile, without their ids."""
        return () if self.files is None else self.files.instances

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, always in one order; what is not known has no key."""
        window = self.window
        data: dict[str, Any] = {
            "key": self.key,
            "window": [window.row, window.col, window.height, window.width],
            "error": self.error,
        }
        if self.stamp is None:
            return data
        data |= {"stamp": self.stamp, "outcomes": self.outcomes, "changes": self.changes, "painted": self.painted}
        data |= {"reviewed": self.reviewed} if self.reviewed else {}
        if self.files is None:
            return data
        files = {"image": self.files.image, "masks": self.files.masks, "files": self.files.sums}
        about = {"bands": self.files.bands, "place": asdict(self.files.place), "instances": self.files.instances}
        return data | files | about

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TileRecord:
        """Read the JSON form.

        Raises:
            KeyError: A part is missing.
            TypeError: A part has another form.
            ValueError: A part has another form.
        """
        key, window = data["key"], data["window"]
        if not isinstance(key, str) or [type(value) for value in window] != [int] * 4:
            raise ValueError(f"tile {str(key)[:80]!r}, {str(window)[:80]}")
        record = cls(key, Window(*window), data["error"])
        if "stamp" not in data:
            return record
        outcomes = tuple((index, reason) for index, reason in data["outcomes"])
        overlapping, between_classes, hidden = data["painted"]
        painted = (overlapping, between_classes, hidden)
        record = replace(record, stamp=data["stamp"], outcomes=outcomes, changes=data["changes"], painted=painted)
        record = replace(record, reviewed=str(data.get("reviewed", "")))
        if "masks" not in data:
            return record
        files = TileFiles(
            image=data["image"],
            masks=tuple(data["masks"]),
            sums=data["files"],
            bands=tuple(data["bands"]),
            place=GroundPlace(**data["place"]),
            instances=tuple(data["instances"]),
        )
        return replace(record, files=files)


_PART = 1 << 20


def file_sum(path: Path) -> list[int]:
    """Return size in bytes and CRC-32 of a file.

    Raises:
        OSError: It cannot be read.
    """
    size, crc = 0, 0
    with path.open("rb") as file:
        while part := file.read(_PART):
            size += len(part)
            crc = zlib.crc32(part, crc)
    return [size, crc]


def file_sums(folder: Path, names: tuple[str, ...]) -> FileSums:
    """Return the sum of each file of a folder, by its name."""
    return {name: file_sum(folder / name) for name in names}


def altered_files(folder: Path, sums: Mapping[str, Any]) -> list[str]:
    """Return the names of files that are missing or no longer as `file_sums` found them; links count as missing."""
    return [name for name, known in sums.items() if not _is_same(folder / name, known)]


def _is_same(path: Path, known: Any) -> bool:
    try:
        # Most damage shows in the size, which costs nothing to read.
        return not path.is_symlink() and [path.stat().st_size] == known[:1] and file_sum(path) == known
    except (OSError, TypeError, ValueError):
        return False
