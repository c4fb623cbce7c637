"""What became of every tile, box and image; the sums must come out even."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from geodistill.errors import GeodistillError
from geodistill.label.postprocess import CHANGES
from geodistill.label.records import ImageBoxes
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


NO_TILE = "in no tile"
"""Reason of a box of which no tile holds the set share."""

UNREADABLE = "unreadable image"
"""Reason of the boxes of an image that does not decode."""


class AccountingError(GeodistillError):
    """What went in is not what came out."""


@dataclass
class ClassAccount:
    """What became of the boxes of one class, each source box counted once; changes count every tile it lies in."""

    boxes: int = 0
    labelled: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "in": self.boxes,
            "labelled": self.labelled,
            "dropped": dict(sorted(self.dropped.items())),
            "changed": {name: self.changes[name] for name in CHANGES},
        }


@dataclass
class Accounts:
    """Counts over a whole run; images are added one by one."""

    images: Counter[str] = field(default_factory=Counter)
    tiles: Counter[str] = field(default_factory=Counter)
    classes: dict[str, ClassAccount] = field(default_factory=dict)
    instances: int = 0
    overlapping: int = 0
    between_classes: int = 0
    hidden: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def add(self, image: ImageBoxes, records: Sequence[TileRecord], error: str = "") -> bool:
        """Count one source image with the records of its tiles, and the reason where it could not be opened at all.

        Returns:
            Whether its labels count; a single tile that does not decode fails the image.
        """
        error = error or next((record.error for record in records if record.error), "")
        outcomes = {} if error else _outcomes(records)
        for dropped in image.dropped:
            self._class(dropped.category).boxes += 1
            self._class(dropped.category).dropped[dropped.reason] += 1
        labelled = False
        for box in image.boxes:
            account = self._class(box.category)
            account.boxes += 1
            reason = UNREADABLE if error else outcomes.get(box.index, NO_TILE)
            if reason:
                account.dropped[reason] += 1
            else:
                account.labelled += 1
                labelled = True
        self.images["in"] += 1
        self.images["failed" if error else "labelled" if labelled else "empty"] += 1
        if error:
            self.failures.append({"key": image.key, "image": str(image.image), "error": error})
            self.tiles["in"] += len(records)
            self.tiles["failed"] += len(records)
            return False
        for record in records:
            self._add_tile(record)
        return True

    def _add_tile(self, record: TileRecord) -> None:
        self.tiles["in"] += 1
        self.tiles["labelled" if record.instances else "empty"] += 1
        self.tiles["written"] += record.files is not None
        self.instances += len(record.instances)
        for category, changes in record.changes.items():
            self._class(category).changes.update(changes)
        overlapping, between_classes, hidden = record.painted
        self.overlapping += overlapping
        self.between_classes += between_classes
        self.hidden += hidden

    def _class(self, category: str) -> ClassAccount:
        return self.classes.setdefault(category, ClassAccount())

    def boxes(self) -> dict[str, Any]:
        """Return ``in``, ``labelled`` and ``dropped`` over all classes."""
        dropped: Counter[str] = Counter()
        for account in self.classes.values():
            dropped.update(account.dropped)
        return {
            "in": sum(account.boxes for account in self.classes.values()),
            "labelled": sum(account.labelled for account in self.classes.values()),
            "dropped": dict(sorted(dropped.items())),
        }

    def check(self, images: Sequence[ImageBoxes], tiles: int) -> None:
        """Compare the sums with all images that were read and the number of tiles that were planned.

        Raises:
            AccountingError: They differ.
        """
        boxes = self.boxes()
        given = sum(len(image.boxes) + len(image.dropped) for image in images)
        rows = (
            ("images", len(images), self.images["in"], [self.images[k] for k in ("labelled", "empty", "failed")]),
            ("boxes", given, boxes["in"], [boxes["labelled"], *boxes["dropped"].values()]),
            ("tiles", tiles, self.tiles["in"], [self.tiles[k] for k in ("labelled", "empty", "failed")]),
        )
        for name, real, counted, parts in rows:
            if not real == counted == sum(parts):
                raise AccountingError(
                    f"{real} {name} went in, {counted} were counted and {sum(parts)} have an outcome ({parts})",
                    "three equal numbers",
                    "the journal is not of this input: label into another folder",
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "images": {key: self.images[key] for key in ("in", "labelled", "empty", "failed")},
            "boxes": self.boxes(),
            "tiles": {key: self.tiles[key] for key in ("in", "labelled", "empty", "failed", "written")},
            "instances": self.instances,
            "overlaps": {
                "pixels": self.overlapping,
                "pixels_between_classes": self.between_classes,
                "hidden_instances": self.hidden,
            },
            "classes": {name: account.to_dict() for name, account in sorted(self.classes.items())},
            "failures": self.failures,
        }


def _outcomes(records: Sequence[TileRecord]) -> dict[int, str]:
    """Return the outcome of each box by its index: labelled (an empty text) if any tile labelled it, else why not."""
    outcomes: dict[int, str] = {}
    for record in records:
        for index, reason in record.outcomes:
            first = outcomes.setdefault(index, reason)
            outcomes[index] = first if reason else ""
    return outcomes


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
