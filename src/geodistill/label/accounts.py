"""What became of every image, tile and box of a set, as ``label.json`` holds it; the sums must come out even."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from geodistill.errors import GeodistillError
from geodistill.label.boxes import ImageBoxes
from geodistill.label.output_folder import ACCOUNT
from geodistill.label.postprocess import CHANGES
from geodistill.label.tile_records import TileRecord
from geodistill.lazy import load
from geodistill.reading import read_object

ImageCounts = TypedDict("ImageCounts", {"in": int, "labelled": int, "empty": int, "failed": int})
"""Images by what became of them."""

TileCounts = TypedDict("TileCounts", {"in": int, "labelled": int, "empty": int, "failed": int, "written": int})
"""Tiles by what became of them; ``written`` are those that have files."""

BoxCounts = TypedDict("BoxCounts", {"in": int, "labelled": int, "dropped": dict[str, int]})
"""Boxes by what became of them; ``dropped`` by reason."""

ClassCounts = TypedDict(
    "ClassCounts", {"in": int, "labelled": int, "dropped": dict[str, int], "changed": dict[str, int]}
)
"""The same of one class, and how often each change happened to a mask."""


class Overlaps(TypedDict):
    """Pixels that several instances claim, those that several classes claim, and instances hidden by others."""

    pixels: int
    pixels_between_classes: int
    hidden_instances: int


class Failure(TypedDict):
    """An image that could not be used, and why."""

    key: str
    image: str
    error: str


class Unmatched(TypedDict):
    """Annotations without an image: how many, and the first names."""

    count: int
    first: list[str]


class ReviewCounts(TypedDict):
    """What people decided: how many masks, by verdict, by class and by reviewer.

    ``not_applied`` are decisions about masks that are others now; ``sample`` is a `GoodShare`.
    """

    decided: int
    verdicts: dict[str, int]
    classes: dict[str, dict[str, int]]
    reviewers: dict[str, int]
    not_applied: int
    sample: NotRequired[dict[str, Any]]


class ManifestCounts(TypedDict, total=False):
    """Images of the manifest by split, those it leaves out, what was found in it.

    Empty where no box gave a label, and where a person's manifest was kept that cannot be read.
    """

    splits: dict[str, int]
    other_bands_left_out: int
    in_no_list: int
    problems: list[str]
    notes: list[str]


class Counts(TypedDict):
    """The counts of a whole run."""

    images: ImageCounts
    boxes: BoxCounts
    tiles: TileCounts
    instances: int
    overlaps: Overlaps
    classes: dict[str, ClassCounts]
    failures: list[Failure]


class Account(Counts):
    """All that ``label.json`` holds."""

    format_version: int
    annotations_without_image: Unmatched
    review: NotRequired[ReviewCounts]
    manifest: ManifestCounts
    legend: dict[str, Any]
    settings: dict[str, Any]


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

    def to_dict(self) -> ClassCounts:
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
    failures: list[Failure] = field(default_factory=list)

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

    def boxes(self) -> BoxCounts:
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

    def to_dict(self) -> Counts:
        """Return the JSON form."""
        images, tiles = self.images, self.tiles
        return {
            "images": {
                "in": images["in"],
                "labelled": images["labelled"],
                "empty": images["empty"],
                "failed": images["failed"],
            },
            "boxes": self.boxes(),
            "tiles": {
                "in": tiles["in"],
                "labelled": tiles["labelled"],
                "empty": tiles["empty"],
                "failed": tiles["failed"],
                "written": tiles["written"],
            },
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


def read_account(folder: Path | str) -> Account:
    """Return the account of a finished run.

    Raises:
        DataError: The folder holds none.
    """
    return cast(Account, read_object(Path(folder) / ACCOUNT))


def format_account(account: Account, out: Path) -> str:
    """Write what `build` returned as a few lines and a table of the classes."""
    images, boxes, tiles = account["images"], account["boxes"], account["tiles"]
    lines = [
        f"{out}: {images['in']} images in: {images['labelled']} labelled, {images['empty']} empty,"
        f" {images['failed']} failed",
        f"{tiles['in']} tiles: {tiles['labelled']} labelled, {tiles['empty']} empty, {tiles['failed']} failed;"
        f" {tiles['written']} written",
        f"{boxes['in']} boxes in: {boxes['labelled']} labelled{_counts(boxes['dropped'], ', dropped: ')}",
        f"{account['instances']} instances; {account['overlaps']['pixels']} pixels claimed more than once"
        f" ({account['overlaps']['pixels_between_classes']} by different classes),"
        f" {account['overlaps']['hidden_instances']} instances hidden",
    ]
    width = max((len(name) for name in account["classes"]), default=0)
    for name, entry in account["classes"].items():
        counts = _counts(entry["dropped"], "; dropped ") + _counts(entry["changed"], "; ")
        lines.append(f"  {name:<{width}} {entry['in']:>8} in {entry['labelled']:>8} labelled{counts}")
    if review := account.get("review"):
        lines.append(f"{review['decided']} reviewed{_counts(review['verdicts'], ': ')}")
        if sample := review.get("sample"):
            lines.append(load("geodistill.label.share_of_good:GoodShare").from_json(sample).text)
        if review["not_applied"]:
            lines.append(f"{review['not_applied']} decisions are of masks that are others now: review them again")
    without = account["annotations_without_image"]
    if without["count"]:
        more = (
            f" and {without['count'] - len(without['first'])} more" if without["count"] > len(without["first"]) else ""
        )
        lines.append(f"{without['count']} annotations without an image: {', '.join(without['first'])}{more}")
    manifest = account["manifest"]
    if manifest:
        splits = ", ".join(f"{name} {count}" for name, count in manifest["splits"].items())
        lines.append(f"{out / 'manifest.parquet'}: {splits}")
        if manifest["other_bands_left_out"]:
            lines.append(f"{manifest['other_bands_left_out']} images with another number of bands are not in it")
        if manifest["in_no_list"]:
            lines.append(f"{manifest['in_no_list']} images in no list are not in it")
        lines += [f"problem: {problem}" for problem in manifest["problems"][:5]]
        lines += [f"note: {note}" for note in manifest["notes"]]
    lines += [f"failed: {failure['error']}" for failure in account["failures"][:5]]
    if len(account["failures"]) > 5:
        lines.append(f"... and {len(account['failures']) - 5} more failed")
    return "\n".join(lines)


def _counts(counts: dict[str, int], before: str) -> str:
    named = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return before + named if named else ""
