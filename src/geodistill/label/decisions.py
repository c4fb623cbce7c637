"""What people decided about the objects of a label set: a file of the set, which `label build` keeps to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from geodistill.errors import DataError
from geodistill.files import json_text, write_text
from geodistill.label.accounts import TileRecord
from geodistill.label.ledger import DECISIONS, Journal
from geodistill.label.postprocess import DROPPED, EMPTIED, IGNORED, MASKLESS
from geodistill.label.share_of_good import GoodShare
from geodistill.label.tiles import TileId
from geodistill.reading import ANNOTATION_BYTES, read_json

Verdict = Literal["accept", "drop", "box", "prompt", "ignore", "undecided"]
"""``accept``: the mask is right; a box without a mask stays unlabelled. ``drop``: there is no such object. ``box``: the
filled box is better than the mask. ``prompt``: a mask drawn anew stands for it. ``ignore``: nobody can say, so that its
pixels stay unlabelled. ``undecided``: an earlier decision was taken back."""

FORMAT = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Decision:
    """What a person decided about an object.

    Attributes:
        tile: Where it lies.
        box: Index of its box in the image.
        verdict: What was decided.
        by: Who.
        at: When, in ISO 8601.
        original: Its COCO annotation as the segmenter made it, without ids; of a box without a mask, ``no_mask`` says
            why there is none.
        mask: COCO run lengths in the frame of the tile that take the mask's place, of ``prompt`` only.
        score: The segmenter's estimate of that mask.
    """

    tile: TileId
    box: int
    verdict: Verdict
    by: str
    at: str
    original: Mapping[str, Any]
    mask: Mapping[str, Any] | None = None
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        about = {"key": self.tile.key, "row": self.tile.row, "col": self.tile.col, "box": self.box}
        about |= {"verdict": self.verdict, "by": self.by, "at": self.at, "original": self.original}
        return about | ({} if self.mask is None else {"mask": self.mask, "score": self.score})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        """Read the JSON form.

        Raises:
            KeyError: A part is missing.
            TypeError: A part has another form.
            ValueError: A part has another form.
        """
        verdict, mask = data["verdict"], data.get("mask")
        if verdict not in get_args(Verdict) or (verdict == "prompt") != isinstance(mask, dict):
            raise ValueError(f"verdict {str(verdict)[:40]!r}")
        tile = TileId(str(data["key"]), int(data["row"]), int(data["col"]))
        original = dict(data["original"])
        int(original["mask_value"])
        score = None if data.get("score") is None else float(data["score"])
        return cls(tile, int(data["box"]), verdict, str(data["by"]), str(data["at"]), original, mask, score)


Decisions = Mapping[TileId, Sequence[Decision]]
"""Decisions by tile."""


def read_decisions(folder: Path) -> dict[TileId, list[Decision]]:
    """Return the decisions of a label set; none where it has no such file.

    Raises:
        DataError: The file is malformed.
    """
    return _read(folder, lambda data: by_tile(map(Decision.from_json, data["decisions"]))) or {}


def read_good_share(folder: Path) -> GoodShare | None:
    """Return the share of good labels that the decisions of a label set tell; ``None`` where they tell none.

    Raises:
        DataError: The file is malformed.
    """
    return _read(folder, lambda data: GoodShare.from_json(data["sample"]) if "sample" in data else None)


def _read(folder: Path, part: Callable[[dict[str, Any]], T]) -> T | None:
    """Return a part of the file of decisions; ``None`` where there is no such file."""
    path = folder / DECISIONS
    if not path.exists():
        return None
    data = read_json(path, ANNOTATION_BYTES)
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT:
        raise DataError(f"{path} has format version {str(version)[:40]}", f"{FORMAT}", "update geodistill")
    try:
        return part(data)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(f"{path} ({error!r})", "decisions as 'geodistill review --export' writes them") from error


def by_tile(decisions: Iterable[Decision]) -> dict[TileId, list[Decision]]:
    """Return decisions by tile, in their order."""
    tiles: dict[TileId, list[Decision]] = {}
    for decision in decisions:
        tiles.setdefault(decision.tile, []).append(decision)
    return tiles


def write_decisions(folder: Path, decisions: Iterable[Decision], share: GoodShare | None = None) -> None:
    """Write the decisions of a label set, one per line, and the share of good labels where it is known.

    Raises:
        OutputError: The file cannot be written.
    """
    lines = ",\n".join(json_text(decision.to_json()) for decision in decisions)
    sample = "" if share is None else f', "sample": {json_text(share.to_json())}'
    write_text(folder / DECISIONS, f'{{"format_version": {FORMAT}{sample}, "decisions": [\n{lines}\n]}}\n')


def decisions_digest(decisions: Sequence[Decision]) -> str:
    """Return a digest of a tile's decisions, by which its record says that they are in its files."""
    text = json.dumps([decision.to_json() for decision in decisions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tiles_to_decide(decisions: Decisions, journal: Journal) -> list[TileId]:
    """Return the tiles whose files do not follow their decisions yet."""
    written = set(journal.tiles())
    waiting = [tile for tile in decisions if tile in written]
    return [tile for tile in waiting if _waits(journal.read(tile), decisions[tile])]


def _waits(record: TileRecord, decisions: Sequence[Decision]) -> bool:
    return not record.error and record.reviewed != decisions_digest(decisions)


def original_instances(record: TileRecord, decisions: Sequence[Decision]) -> dict[int, Mapping[str, Any]]:
    """Return a tile's objects as the segmenter made them, by box, whatever was decided and written since.

    An object that was decided is the one that its decision speaks of; any other is as the record has it. A box that
    gave no mask is an object of which the record knows the index and the reason alone.
    """
    decided = {box for box, reason in record.outcomes if reason in (DROPPED, IGNORED, EMPTIED)}
    decided |= {one["box"] for one in record.instances if "reviewed" in one}
    instances: dict[int, Mapping[str, Any]] = {one["box"]: one for one in record.instances}
    instances |= {box: {"box": box, "no_mask": reason} for box, reason in record.outcomes if reason in MASKLESS}
    return instances | {each.box: each.original for each in decisions if each.box in decided}


def has_mask(original: Mapping[str, Any]) -> bool:
    """Return whether the segmenter made a mask of an object, and not a box without one."""
    return "segmentation" in original


def applicable(decisions: Sequence[Decision], originals: Mapping[int, Mapping[str, Any]]) -> dict[int, Decision]:
    """Return the decisions, by box, that speak of objects as they are: another mask was not what a person saw."""
    return {each.box: each for each in decisions if _is_of(each, originals.get(each.box))}


def _is_of(decision: Decision, original: Mapping[str, Any] | None) -> bool:
    if original is None or has_mask(original):
        return original == decision.original
    return bool(original["no_mask"] == decision.original.get("no_mask"))


def review_account(
    decisions: Decisions, journal: Journal, classes: Sequence[str], share: GoodShare | None = None
) -> dict[str, Any]:
    """Count the decisions that are in the masks: by verdict, by class, by reviewer; empty where there are none.

    ``not_applied`` counts those that speak of masks which the segmenter has drawn otherwise since; ``sample`` is the
    share of good labels, where it is known.
    """
    by_class: dict[str, Counter[str]] = {}
    verdicts, reviewers, left = Counter[str](), Counter[str](), 0
    written = set(journal.tiles())
    for tile, each in decisions.items():
        record = journal.read(tile) if tile in written else None
        applied = {} if record is None else applicable(each, original_instances(record, each))
        for decision in each:
            if decision.verdict == "undecided":
                continue
            if decision.box not in applied:
                left += 1
                continue
            verdicts[decision.verdict] += 1
            reviewers[decision.by] += 1
            by_class.setdefault(classes[decision.original["mask_value"]], Counter())[decision.verdict] += 1
    if not verdicts and not left:
        return {}
    return {
        "decided": verdicts.total(),
        "verdicts": {name: verdicts[name] for name in get_args(Verdict)[:-1]},
        "classes": {name: dict(sorted(counts.items())) for name, counts in sorted(by_class.items())},
        "reviewers": dict(sorted(reviewers.items())),
        "not_applied": left,
        **({} if share is None else {"sample": share.to_json()}),
    }
