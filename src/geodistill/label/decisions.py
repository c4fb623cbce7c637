"""What people decided about the objects of a label set: a file of the set, which `label build` keeps to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from geodistill.engine import progress_bar
from geodistill.errors import DataError
from geodistill.files import json_text, write_text
from geodistill.label.accounts import ReviewCounts
from geodistill.label.annotated_masks import checked_runs
from geodistill.label.boxes import Box, boxes_in
from geodistill.label.masks import Runs
from geodistill.label.output_folder import DECISIONS, Journal, remove_files
from geodistill.label.postprocess import DROPPED, EMPTIED, EMPTY, IGNORED, MASKLESS, filled_shape
from geodistill.label.share_of_good import GoodShare
from geodistill.label.tile_labeller import BoxResult, Labeller, TileJob
from geodistill.label.tile_records import TileRecord
from geodistill.label.tiles import ImageTask, TileId, TileTask
from geodistill.reading import ANNOTATION_BYTES, read_json, well_formed
from geodistill.spec import Legend

Verdict = Literal["accept", "drop", "box", "prompt", "ignore", "undecided"]
"""``accept``: the mask is right; a box without a mask stays unlabelled. ``drop``: there is no such object. ``box``: the
filled box or outline is better than the mask. ``prompt``: a mask drawn anew stands for it. ``ignore``: nobody can say,
so that its pixels stay unlabelled. ``undecided``: an earlier decision was taken back."""

FORMAT = 1


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

    @property
    def saw_mask(self) -> bool:
        """Whether the segmenter had made a mask of the object, and not a box without one."""
        return has_mask(self.original)

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
        original["mask_value"] = int(original["mask_value"])
        score = None if data.get("score") is None else float(data["score"])
        return cls(tile, int(data["box"]), verdict, str(data["by"]), str(data["at"]), original, mask, score)


Decisions = Mapping[TileId, Sequence[Decision]]
"""Decisions by tile."""


def read_decisions(folder: Path) -> dict[TileId, list[Decision]]:
    """Return the decisions of a label set; none where it has no such file.

    Raises:
        DataError: The file is malformed.
    """
    return read_review(folder)[0]


def read_review(folder: Path) -> tuple[dict[TileId, list[Decision]], GoodShare | None]:
    """Return the decisions of a label set, and the share of good labels where they tell it; none without such a file.

    Raises:
        DataError: The file is malformed.
    """
    path = folder / DECISIONS
    if not path.exists():
        return {}, None
    data = read_json(path, ANNOTATION_BYTES)
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT:
        raise DataError(f"{path} has format version {str(version)[:40]}", f"{FORMAT}", "update geodistill")
    with well_formed(path, "decisions as 'geodistill review --export' writes them"):
        share = GoodShare.from_json(data["sample"]) if "sample" in data else None
        return by_tile(map(Decision.from_json, data["decisions"])), share


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


def original_instances(
    record: TileRecord, decisions: Sequence[Decision], tile: TileTask, share: float, legend: Legend
) -> dict[int, Mapping[str, Any]]:
    """Return a tile's objects as the segmenter made them, by box, whatever was decided and written since.

    An object that was decided is the one that its decision speaks of, where its class is one of the legend's; any other
    is as the record has it. Of a box that gave no mask ``no_mask`` says why, in place of ``segmentation`` and ``bbox``.

    Args:
        record: What was written down of the tile.
        decisions: Those about it.
        tile: The tile, for its boxes that gave no mask.
        share: Of a box's area, that makes it a tile's.
        legend: The classes.
    """
    decided = {box for box, reason in record.outcomes if reason in (DROPPED, IGNORED, EMPTIED)}
    decided |= {one["box"] for one in record.instances if "reviewed" in one}
    instances: dict[int, Mapping[str, Any]] = {one["box"]: one for one in record.instances}
    maskless = {box: reason for box, reason in record.outcomes if reason in MASKLESS}
    boxes = indexed_boxes(tile, share) if maskless else {}
    instances |= {box: {"box": box, "no_mask": r} | _about_box(boxes[box], legend) for box, r in maskless.items()}
    mine = [each for each in decisions if each.box in decided and 0 <= each.original["mask_value"] < len(legend.names)]
    return instances | {each.box: each.original for each in mine}


def indexed_boxes(tile: TileTask, share: float) -> dict[int, Box]:
    """Return the boxes of a tile in its frame, by index; ``share`` of a box's area makes it the tile's."""
    return {box.index: box for box in boxes_in(tile.boxes, tile.window, share)}


def has_mask(original: Mapping[str, Any]) -> bool:
    """Return whether the segmenter made a mask of an object, and not a box without one."""
    return "segmentation" in original


def applicable(decisions: Sequence[Decision], originals: Mapping[int, Mapping[str, Any]]) -> dict[int, Decision]:
    """Return the decisions, by box, that speak of objects as they are: another mask was not what a person saw."""
    return {each.box: each for each in decisions if each.original == originals.get(each.box)}


def _about_box(box: Box, legend: Legend) -> dict[str, Any]:
    """Say where a box without a mask lies and of which class it is."""
    left, top, right, bottom = box.hbox
    return {
        "mask_value": legend.names.index(box.category),
        "annotated_bbox": [round(v, 2) for v in (left, top, right - left, bottom - top)],
        "area": 0,
        "changed": [],
    }


class Review:
    """What people decided about a label set, and the way into its tiles.

    Args:
        folder: The label set.
        journal: Its records.
        tasks: Its images and their tiles.
        share: Of a box's area, that makes it a tile's.
        legend: Its classes.

    Raises:
        DataError: The file of decisions is malformed.
    """

    def __init__(
        self, folder: Path, journal: Journal, tasks: Sequence[ImageTask], share: float, legend: Legend
    ) -> None:
        self._folder, self._journal, self._legend = folder, journal, legend
        self._decisions, self._good = read_review(folder)
        self._tiles = {
            name: (task, tile)
            for task in tasks
            for name, tile in zip(task.ids(), task.tiles, strict=True)
            if name in self._decisions
        }
        self._share_of_box = share

    def _originals(self, record: TileRecord, decisions: Sequence[Decision]) -> dict[int, Mapping[str, Any]]:
        _, tile = self._tiles[record.tile]
        return original_instances(record, decisions, tile, self._share_of_box, self._legend)

    def waiting(self) -> set[TileId]:
        """Return the tiles whose files do not follow their decisions yet."""
        written = self._decisions.keys() & set(self._journal.tiles())
        return {tile for tile in written if self._waits(self._journal.read(tile), self._decisions[tile])}

    @staticmethod
    def _waits(record: TileRecord, decisions: Sequence[Decision]) -> bool:
        return not record.error and record.reviewed != decisions_digest(decisions)

    def apply(self, labeller: Labeller, progress: bool) -> None:
        """Write the tiles anew that people decided about otherwise than their files have it.

        Raises:
            DataError: An image cannot be read, or a decision holds no mask of its tile.
        """
        waiting = self.waiting()
        todo = [(name, *place) for name, place in self._tiles.items() if name in waiting]
        for name, task, tile in progress_bar(todo, "deciding", progress):
            record = self._journal.read(name)
            self._journal.append([self._write_anew(labeller, replace(task, tiles=(tile,)), record)])

    def _write_anew(self, labeller: Labeller, task: ImageTask, record: TileRecord) -> TileRecord:
        """Write the one tile of a task as people decided, without the segmenter; return its new record.

        Decisions that speak of other masks than the segmenter's are left aside.
        """
        decisions = self._decisions[record.tile]
        originals = self._originals(record, decisions)
        known = applicable(decisions, originals)
        with ExitStack() as open_files:
            (job,) = labeller.read(task, open_files)
            reasons = dict(record.outcomes)
            results = [
                _as_made(box, originals[box.index], job)
                if box.index in originals
                else BoxResult(box, None, 0.0, reasons.get(box.index, EMPTY), ())
                for box in job.boxes
            ]
            written = labeller.write(job, [_decided(each, known.get(each.box.index), job) for each in results])
        if written.files is None:
            remove_files(self._folder, record)
        return replace(written, changes=record.changes, reviewed=decisions_digest(decisions))

    def account(self) -> ReviewCounts | None:
        """Count the decisions that are in the masks: by verdict, by class, by reviewer; nothing where there are none.

        ``not_applied`` counts those that speak of masks which the segmenter has drawn otherwise since. ``sample`` is
        the share of good labels, where it is known and every decision is about the labels as they are.
        """
        by_class: dict[str, Counter[str]] = {}
        verdicts, reviewers, left = Counter[str](), Counter[str](), 0
        written = set(self._journal.tiles())
        for tile, each in self._decisions.items():
            record = self._journal.read(tile) if tile in written else None
            applied = {} if record is None else applicable(each, self._originals(record, each))
            for decision in each:
                if decision.verdict == "undecided":
                    continue
                if decision.box not in applied:
                    left += 1
                    continue
                verdicts[decision.verdict] += 1
                reviewers[decision.by] += 1
                name = self._legend.names[decision.original["mask_value"]]
                by_class.setdefault(name, Counter())[decision.verdict] += 1
        if not verdicts and not left:
            return None
        counts: ReviewCounts = {
            "decided": verdicts.total(),
            "verdicts": {name: verdicts[name] for name in get_args(Verdict)[:-1]},
            "classes": {name: dict(sorted(number.items())) for name, number in sorted(by_class.items())},
            "reviewers": dict(sorted(reviewers.items())),
            "not_applied": left,
        }
        if self._good is not None and not left:
            counts["sample"] = self._good.to_json()
        return counts


def _as_made(box: Box, instance: Mapping[str, Any], job: TileJob) -> BoxResult:
    """Return what the segmenter made of a box, from its COCO annotation."""
    if not has_mask(instance):
        return BoxResult(box, None, 0.0, str(instance["no_mask"]), ())
    height, width = job.tile.valid.shape
    runs = Runs.from_coco(checked_runs(instance["segmentation"], width, height, box.source))
    return BoxResult(box, runs, float(instance["score"]), "", tuple(instance["changed"]))


def _decided(result: BoxResult, decision: Decision | None, job: TileJob) -> BoxResult:
    """Return what a person made of a box; no object has pixels where the file has no data."""
    if decision is None or decision.verdict == "undecided":
        return result
    result = replace(result, decision=decision)
    if decision.verdict == "accept":
        return result
    if decision.verdict in ("drop", "ignore"):
        return replace(result, runs=None, reason=DROPPED if decision.verdict == "drop" else IGNORED)
    height, width = job.tile.valid.shape
    if decision.mask is None:
        mask = filled_shape(result.box, height, width)
    else:
        mask = Runs.from_coco(checked_runs(decision.mask, width, height, result.box.source)).crop()
    mask = replace(mask, pixels=mask.pixels & job.tile.valid[mask.place])
    score = 1.0 if decision.score is None else decision.score
    if not mask.pixels.any():
        return replace(result, runs=None, reason=EMPTIED)
    return replace(result, runs=mask.runs(height, width), score=score, reason="", changes=())
