"""How images come into train, val and test: by file, by group, by spatial block or from lists; always seeded."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np

from geodistill.data.manifest import Row
from geodistill.errors import DataError, check_name, counted
from geodistill.raster import Window
from geodistill.reading import ANNOTATION_BYTES, read_text

SplitKind = Literal["file", "group", "block", "window", "lists"]
BlockUnit = Literal["metres", "pixels"]
NAMES = ("train", "val", "test")
LEFT_OUT = ""
"""Split of a row that no list and no named group takes in."""
SOURCE_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Split by the words that folders of detection sets are called by."""
_CONTENTS = re.compile("(image|img|jpegimage|label|annotation)s?|labeltxt")
"""Words of a folder's name that say what lies in it."""

_OF_KINDS: dict[str, tuple[SplitKind, ...]] = {
    "group_regex": ("group",),
    "group_file": ("group",),
    "groups": ("group", "block"),
    "block_size": ("block", "window"),
    "lists": ("lists",),
}
"""Fields that only some kinds of split look at."""


@dataclass(frozen=True)
class SplitPlan:
    """How rows are divided among train, val and test.

    Attributes:
        kind: ``file``: each file by itself. ``group``: files of one group stay together. ``block``: files whose
            centres lie in one square on the ground stay together. ``window``: each file is cut into squares that
            are divided, for large scenes. ``lists``: as ``train.txt``, ``val.txt`` and ``test.txt`` say.
        fractions: Wished shares of train, val and test.
        group_regex: Pattern looked for in an image's path (relative to the scanned folder, with ``/``); its first
            group, or the whole match, names the image's group.
        group_file: CSV or text file of ``image,group`` lines, instead of a pattern; images as in ``lists``, but a line
            that is no image's whole path may fit several.
        groups: Splits named outright, such as ``{"val": ["Tile_4"], "test": ["Tile_7"]}``. Groups not named
            are ``train`` if that is not in the mapping, and are left out otherwise.
        block_size: Side of a square, in metres on the ground; for ``window`` in pixels where `block_unit` says so.
        block_unit: ``metres``, or ``pixels`` for ``window``.
        lists: Folder of the three lists; each line is an image's relative path or the end of it, such as its file
            name, with or without suffix, and fits no other image.
        val_from_train: Share of the train files that becomes val, at random, where groups or lists name no val.
        seed: Random seed of the split.
    """

    kind: SplitKind = "file"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    group_regex: str | None = None
    group_file: Path | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    block_size: float | None = None
    block_unit: BlockUnit = "metres"
    lists: Path | None = None
    val_from_train: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("group_file", "lists"):
            if isinstance(place := getattr(self, name), str):
                object.__setattr__(self, name, Path(place))
        check_name("kind of split", self.kind, get_args(SplitKind))
        check_name("unit of blocks", self.block_unit, get_args(BlockUnit))
        if (
            len(self.fractions) != len(NAMES)
            or min(self.fractions) < 0
            or not math.isclose(sum(self.fractions), 1, abs_tol=1e-6)
        ):
            raise DataError(f"split fractions {self.fractions}", "three numbers from 0 that sum to 1")
        if not 0 <= self.val_from_train < 1:
            raise DataError(f"val_from_train {self.val_from_train}", "a share from 0 to below 1")
        try:
            re.compile(self.group_regex or "")
        except re.error as error:
            raise DataError(f"group pattern {self.group_regex!r} ({error})", "a regular expression") from error
        if unknown := set(self.groups) - set(NAMES):
            raise DataError(f"splits {sorted(unknown)}", f"splits among {', '.join(NAMES)}")
        if self.block_unit != "metres" and not self.block_size:
            raise DataError(f"block_unit {self.block_unit} without a block size", "a block size")
        for name, kinds in _OF_KINDS.items():
            if getattr(self, name) and self.kind not in kinds:
                raise DataError(f"{name} for a split by {self.kind}", f"a split by {' or '.join(kinds)}")
        if self.kind == "group" and not (self.group_regex or self.group_file):
            raise DataError("a split by group without groups", "a group pattern or a group file")
        if self.kind in ("block", "window") and not (self.block_size and self.block_size > 0):
            size = "no block size" if self.block_size is None else f"block size {self.block_size:g}"
            mend = "--block-size is in metres without --block-unit pixels"
            raise DataError(f"a split by {self.kind} with {size}", "a block size above 0", mend)
        if self.kind == "block" and self.block_unit != "metres":
            raise DataError("a split by block in pixels", "metres, since blocks lie on the ground")
        if self.kind == "lists" and self.lists is None:
            raise DataError("a split from lists without lists", "the folder of train.txt, val.txt and test.txt")


def parse_groups(text: str) -> dict[str, list[str]]:
    """Read ``"val=Tile_4 test=Tile_7,Tile_8"`` as groups by split.

    Raises:
        DataError: A part has no ``=``.
    """
    groups: dict[str, list[str]] = {}
    for part in text.split():
        split, equals, names = part.partition("=")
        if not equals or not names:
            raise DataError(f"group assignment {part!r}", "split=group,group such as 'val=Tile_4 test=Tile_7'")
        groups.setdefault(split, []).extend(name for name in names.split(",") if name)
    return groups


def divide(rows: Sequence[tuple[str, Row]], plan: SplitPlan) -> list[tuple[Row, str, str]]:
    """Divide rows, each with its image's relative name, among the splits; their own split and group are not looked at.

    Returns:
        Row, split and group; `LEFT_OUT` as split where a row belongs to none. More rows than were given where
        files are cut into windows.

    Raises:
        DataError: The plan does not fit the rows.
    """
    divided = _divide(rows, plan)
    train = [i for i, (_, split, _) in enumerate(divided) if split == "train"]
    if plan.val_from_train and not any(split == "val" for _, split, _ in divided):
        count = max(round(plan.val_from_train * len(train)), 1)
        if count >= len(train):
            raise DataError(f"{len(train)} train images to take val from", "at least two")
        for i in np.random.default_rng(plan.seed).permutation(train)[:count]:
            divided[i] = (divided[i][0], "val", divided[i][2])
    return divided


def _divide(rows: Sequence[tuple[str, Row]], plan: SplitPlan) -> list[tuple[Row, str, str]]:
    if plan.kind == "lists":
        return _from_lists(rows, plan)
    if plan.kind == "window":
        parts = [part for name, row in rows for part in _cut(name, row, plan)]
        splits = _by_fractions([group for _, group in parts], plan)
        return [(row, splits[group], group) for row, group in parts]
    if plan.kind == "file":
        splits = _by_fractions([name for name, _ in rows], plan)
        return [(row, splits[name], "") for name, row in rows]
    groups = _groups(rows, plan) if plan.kind == "group" else _blocks(rows, plan)
    splits = _named(groups, plan) or _by_fractions(groups, plan)
    return [(row, splits[group], group) for (_, row), group in zip(rows, groups, strict=True)]


def _by_fractions(groups: Sequence[str], plan: SplitPlan) -> dict[str, str]:
    """Return each group a split so that shares of rows come near the fractions; no wished split stays empty."""
    counts = Counter(groups)
    names = sorted(counts)
    wished = [name for name, fraction in zip(NAMES, plan.fractions, strict=True) if fraction > 0]
    if len(names) < len(wished):
        what, mend = "group", "--fractions 0.8 0.2 0 asks for two"
        if plan.kind == "file":
            what, mend = "image", "a large image is divided by --split window --block-size 512 --block-unit pixels"
        elif plan.kind in ("block", "window"):
            what, mend = plan.kind, f"the --block-size of {plan.block_size:g} {plan.block_unit} is too large"
        received = f"{len(names)} {what}{'s' * (len(names) != 1)}"
        raise DataError(f"{received} for the splits {', '.join(wished)}", f"at least {len(wished)}", mend)
    order = [names[i] for i in np.random.default_rng(plan.seed).permutation(len(names))]
    # Large groups first: the small ones then even out the shares.
    order.sort(key=lambda name: -counts[name])
    target = {name: f * len(groups) for name, f in zip(NAMES, plan.fractions, strict=True) if f > 0}
    taken = dict.fromkeys(target, 0)
    result: dict[str, str] = {}
    for position, group in enumerate(order):
        empty = [name for name in target if taken[name] == 0]
        forced = len(order) - position <= len(empty)
        split = max(empty if forced else target, key=lambda name: target[name] - taken[name])
        result[group] = split
        taken[split] += counts[group]
    return result


def _groups(rows: Sequence[tuple[str, Row]], plan: SplitPlan) -> list[str]:
    mend = ""
    if plan.group_file is not None:
        source = f"group file {plan.group_file}"
        lines = _group_lines(plan.group_file)
        groups, unused = _assigned(rows, lines, source, "group")
        # The first line may be a header, whose group is then that of no other.
        header = [line for line, group in lines[:1] if group not in {other for _, other in lines[1:]}]
        mend = next((f"its line {line!r} names no image" for line in unused if line not in header), "")
    else:
        source = f"group pattern {plan.group_regex!r}"
        pattern = re.compile(plan.group_regex or "")
        matches = [pattern.search(name) for name, _ in rows]
        groups = ["" if m is None else (m.group(1) if pattern.groups else m.group(0)) or "" for m in matches]
    without = [name for (name, _), group in zip(rows, groups, strict=True) if not group]
    if without:
        received = f"{source} finds no group for {counted(len(without), 'image')} such as {without[0]}"
        raise DataError(received, "one for each", mend)
    return groups


def _group_lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = list(csv.reader(read_text(path, ANNOTATION_BYTES).splitlines()))
    except csv.Error as error:
        raise DataError(f"group file {path} cannot be read ({error})", "lines 'image,group'") from error
    lines = [line if len(line) > 1 else line[0].split() for line in lines if line]
    if bad := next((line for line in lines if len(line) != 2), None):
        raise DataError(f"group file {path} with the line {','.join(bad)!r}", "lines 'image,group'")
    return [(image.strip(), group.strip()) for image, group in lines]


def _named(groups: Sequence[str], plan: SplitPlan) -> dict[str, str] | None:
    """Return groups the splits they are named for; groups called train, val and test need no naming."""
    known = set(groups)
    if not plan.groups:
        return {name: name for name in known} if known <= set(NAMES) and len(known) > 1 else None
    result: dict[str, str] = {}
    for split, names in plan.groups.items():
        for name in names:
            check_name("group", name, known)
            if name in result:
                raise DataError(f"group {name!r} in both {result[name]} and {split}", "one split per group")
            result[name] = split
    rest = LEFT_OUT if "train" in plan.groups else "train"
    return {name: result.get(name, rest) for name in known}


def _blocks(rows: Sequence[tuple[str, Row]], plan: SplitPlan) -> list[str]:
    without = [name for name, row in rows if row.lon is None or row.lat is None]
    if without:
        raise DataError(
            f"{len(without)} images without a place on the ground, such as {without[0]}",
            "georeferenced images for a split by block",
            "split by file or by group",
        )
    # Metres east and north on a sphere about the set's mean latitude: blocks need equal sizes, not a survey.
    metres = math.radians(1) * 6_371_008.8
    shrink = math.cos(math.radians(float(np.mean([row.lat for _, row in rows]))))
    size = plan.block_size or 1.0
    places = [((row.lon or 0.0) * metres * shrink, (row.lat or 0.0) * metres) for _, row in rows]
    return [f"x{math.floor(x / size)}y{math.floor(y / size)}" for x, y in places]


def _cut(name: str, row: Row, plan: SplitPlan) -> list[tuple[Row, str]]:
    """Cut a file into nearly equal rectangles of about the block size."""
    size = plan.block_size or 1.0
    if plan.block_unit == "metres":
        if row.gsd is None:
            raise DataError(f"{row.image} has no ground sampling distance", "one", "give the block size in pixels")
        size /= row.gsd
    window = row.window
    down, across = (max(1, round(length / size)) for length in (window.height, window.width))
    tops = [window.height * i // down for i in range(down + 1)]
    lefts = [window.width * i // across for i in range(across + 1)]
    parts = []
    for i in range(down):
        for j in range(across):
            part = Window(window.row + tops[i], window.col + lefts[j], tops[i + 1] - tops[i], lefts[j + 1] - lefts[j])
            parts.append((replace(row, split="", group="", window=part), f"{name}:{i},{j}"))
    return parts


def _from_lists(rows: Sequence[tuple[str, Row]], plan: SplitPlan) -> list[tuple[Row, str, str]]:
    folder = plan.lists or Path()
    files = {split: folder / f"{split}.txt" for split in NAMES if (folder / f"{split}.txt").is_file()}
    if not files:
        raise DataError(f"no list in {folder}", "train.txt, val.txt or test.txt")
    lines = [
        (line, split)
        for split, path in files.items()
        for line in filter(None, map(str.strip, read_text(path, ANNOTATION_BYTES).splitlines()))
    ]
    splits, unused = _assigned(rows, lines, f"a list in {folder}", "list")
    if unused:
        raise DataError(f"a list in {folder} names {unused[0]!r}, which fits 0 images", "exactly one image")
    return [(row, split, "") for (_, row), split in zip(rows, splits, strict=True)]


def _assigned(
    rows: Sequence[tuple[str, Row]], lines: Sequence[tuple[str, str]], source: str, kind: str
) -> tuple[list[str], list[str]]:
    """Return the list or group that lines put each image into, empty where none does; and what names no image.

    Of the lines that fit an image the longest path counts; of the images that a line fits, the one whose whole path it
    is. A line of a list means one image.
    """
    aliases = [_aliases(name) for name, _ in rows]
    images, shorter = ({line: list[int]() for line, _ in lines} for _ in range(2))
    for index, ends in enumerate(aliases):
        fitting = filter(None, (end & images.keys() for end in ends))
        for taken, names in enumerate(fitting):
            for line in names:
                (shorter if taken else images)[line].append(index)
    result = [""] * len(rows)
    for line, value in lines:
        hits = images[line]
        if kind == "list" and not hits:  # a second name of an image: in one list with the first, or in none
            hits = shorter[line]
        hits = [index for index in hits if line in aliases[index][0]] or hits
        if kind == "list" and len(hits) > 1:  # a group may take in every image of a name
            examples = " and ".join(rows[index][0] for index in hits[:2])
            received = f"{source} names {line!r}, which fits {len(hits)} images such as {examples}"
            raise DataError(received, "exactly one image", "write their whole paths")
        for index in hits:
            if result[index] not in ("", value):
                raise DataError(f"{line!r} is in the {kind}s {result[index]} and {value}", f"one {kind} per image")
            result[index] = value
    return result, [line for line, hits in images.items() if not hits and not shorter[line]]


def _aliases(name: str) -> list[set[str]]:
    """The names a line may call an image by, with and without suffix: its relative path, then ever shorter ends."""
    parts = PurePosixPath(name).parts
    ends = [PurePosixPath(*parts[start:]) for start in range(len(parts))]
    return [{end.as_posix(), end.with_suffix("").as_posix()} for end in ends]


def source_split(key: str) -> str:
    """Return the split that a folder of a source image's path names; nothing where none does, or names two."""
    splits = set[str]().union(*folder_splits(key.split("/")[:-1]).values())
    return splits.pop() if len(splits) == 1 else ""


def folder_splits(folders: Iterable[str]) -> dict[str, set[str]]:
    """Return the splits that folders name, each by what else its folder is called; numbers and contents left out.

    ``train2017`` and ``train_images`` are no more than a split, ``VisDrone-DET-train`` is that of ``visdrone det``.
    """
    splits: dict[str, set[str]] = {}
    for folder in folders:
        words = re.findall("[a-z]+", folder.lower())
        rest = " ".join(word for word in words if not (word in SOURCE_SPLITS or _CONTENTS.fullmatch(word)))
        for word in SOURCE_SPLITS.keys() & words:
            splits.setdefault(rest, set()).add(SOURCE_SPLITS[word])
    return splits
