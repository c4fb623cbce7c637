"""What a run of ``label build`` is about: everything that its result depends on, in one place."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from geodistill.errors import GeodistillWarning, RecipeError, check_name
from geodistill.label.postprocess import Order, Rules, default_rules
from geodistill.label.segmenters.promptable import parse_prompt
from geodistill.lazy import load
from geodistill.legend_entries import Colour
from geodistill.reading import well_formed
from geodistill.spec import IGNORE_INDEX, Legend, default_colours

Empty = Literal["drop", "keep"]
Division = Literal["random", "source"]

DIVISION = ("fractions", "group_regex", "split", "lists", "seed")
"""Fields of `LabelSettings` that the manifest alone depends on, not the labels."""

PLACES = ("images", "boxes", "lists")
"""Fields of `LabelSettings` that are paths."""

MOVES = "moves_with"
"""Key of the folder above a run's own that moves with it, relative to it; runs of before have none."""

PRESET_NAMES = ("sota", "sior", "fast")
"""Keys of `geodistill.label.presets.PRESETS`."""


@dataclass(frozen=True)
class LabelSettings:
    """What the labels depend on. Two runs with equal settings and inputs write equal bytes.

    Attributes:
        images: Folder of the images.
        boxes: File or folder of the annotations.
        format: Name of the annotation format, a key of `geodistill.label.formats.detection.FORMATS`.
        segmenter: Name for `geodistill.label.segmenters.promptable.build_segmenter`.
        prompt: Prompts joined by ``+``, or ``auto``.
        classes: Class names in the order of their indices; boxes of others are dropped. By default those found.
        colours: One colour per class; well separated ones by default.
        category_field: Where an object's class stands, in formats that leave it open.
        background: Name of a class 0 for what no box touches; without one it stays unlabelled. Right only where
            every object of the classes has its box.
        tile: Side of the tiles in pixels; ``None`` for whole images.
        overlap: Pixels that neighbouring tiles share.
        share: Least share of a box's area inside a tile for the box to belong to it.
        empty: Whether tiles without any label are written; by default where there is a background, of which they
            are true samples.
        keep_difficult: Whether boxes marked difficult are used.
        order: What lies on top where instances overlap.
        rules: How masks are mended.
        bands: Positions, from 1, of the one or three bands that the segmenter sees; the first three by default.
        fractions: Shares of train, val and test in the manifest; images are never parted from their own tiles.
        group_regex: Names the group of an image from its key, for images that must stay in one split.
        split: ``random`` divides by the fractions; ``source`` keeps what the folders of the source say (``train``,
            ``val``, ``test``, ``JPEGImages-test`` ...), and divides by the fractions of train and val what they do not.
        lists: Folder of ``train.txt``, ``val.txt`` and ``test.txt`` with the names of source images; others are left
            out of the manifest.
        seed: Random seed of the split.

    Raises:
        RecipeError: A value makes no sense.
        UnknownNameError: A choice has another name.
    """

    images: Path
    boxes: Path
    format: str
    segmenter: str = "grabcut"
    prompt: str = "auto"
    classes: tuple[str, ...] | None = None
    colours: tuple[Colour, ...] | None = None
    category_field: str | None = None
    background: str | None = None
    tile: int | None = None
    overlap: int = 0
    share: float = 0.7
    empty: Empty | None = None
    keep_difficult: bool = True
    order: Order = "large-first"
    rules: Rules = field(default_factory=Rules)
    bands: tuple[int, ...] | None = None
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    group_regex: str | None = None
    split: Division = "random"
    lists: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        parse_prompt(self.prompt)
        check_name("empty", self.empty or "drop", get_args(Empty))
        check_name("painting order", self.order, get_args(Order))
        check_name("split", self.split, get_args(Division))
        check_view(self.tile, self.overlap, self.share, self.bands)
        if self.lists is not None and (self.split != "random" or self.group_regex is not None):
            raise RecipeError("lists beside another way to divide", "lists alone")
        if self.colours is not None and (self.classes is None or len(self.colours) != len(self.classes)):
            raise RecipeError(f"{len(self.colours)} colours", "one per class, with the classes named")

    @property
    def keeps_empty(self) -> bool:
        """Whether tiles without any label are written."""
        return self.background is not None if self.empty is None else self.empty == "keep"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form; equal settings give equal forms."""
        # However a place is spelled; linked folders keep the name they were given by.
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=os.path.abspath))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: Path | str) -> LabelSettings:
        """Read the form of `to_dict`, from a file ``source``.

        Raises:
            DataError: It is another form.
        """
        with well_formed(source, "settings as 'label build' writes them"):
            given = {name: data[name] for name in cls.__dataclass_fields__}
            for name in ("classes", "bands", "fractions"):
                given[name] = None if given[name] is None else tuple(given[name])
            if given["colours"] is not None:
                given["colours"] = tuple(tuple(colour) for colour in given["colours"])
            places = {name: Path(given[name]) for name in PLACES if given[name] is not None}
            return cls(**given | places | {"rules": Rules(**given["rules"])})

    def legend(self, categories: tuple[str, ...]) -> Legend:
        """Return the classes of the masks: the background first where there is one, then those named or found.

        Raises:
            RecipeError: There is no class at all, or the background's name is a class.
        """
        names = self.classes or categories
        if not names:
            raise RecipeError(f"no class in {self.boxes}", "annotations with classes", "name them with --classes")
        colours = self.colours or default_colours(len(names))
        if self.background is None:
            return Legend(names, colours)
        if self.background in names:
            raise RecipeError(f"background {self.background!r}", "a name that no class of boxes has")
        dark: Colour = next((level, level, level) for level in range(256) if (level, level, level) not in colours)
        return Legend((self.background, *names), (dark, *colours))


def chosen_settings(
    asked: Mapping[str, Any],
    *,
    preset: str | None = None,
    legend: Path | str | None = None,
    rules: Mapping[str, Any] | None = None,
) -> LabelSettings:
    """Return the settings that are asked for: they override a preset's, which override the defaults.

    Args:
        asked: Fields of `LabelSettings`, those that are given; the format among them, where no preset says it.
        preset: A key of `geodistill.label.presets.PRESETS`.
        legend: YAML or JSON file of classes and colours, in place of ``classes``, which are not asked for then.
        rules: Fields of `Rules` in place of the preset's, or of those that suit the segmenter.

    Raises:
        RecipeError: A value makes no sense.
        UnknownNameError: There is no such choice.
        DataError: The legend cannot be read.
    """
    given: dict[str, Any] = {}
    if preset is not None:
        presets: Mapping[str, Any] = load("geodistill.label.presets:PRESETS")
        check_name("preset", preset, presets)
        given |= presets[preset].to_settings()
    given |= asked
    if legend:
        classes = Legend.load(legend)
        _tell_values(classes, legend, first=0 if given.get("background") is None else 1)
        given |= {"classes": classes.names, "colours": classes.colours}
    elif "classes" in asked:
        given["colours"] = asked.get("colours")
    if asked.get("lists") is not None:
        given |= {"lists": Path(asked["lists"]), "split": asked.get("split", "random")}
    default = given.get("rules") or default_rules(given.get("segmenter", "grabcut"))
    return LabelSettings(**given | {"rules": replace(default, **rules or {})})


def _tell_values(legend: Legend, source: Path | str, first: int) -> None:
    """Tell of mask values that a legend has and the masks will not; without any, a legend's begin at 0."""
    count = len(legend)
    written = tuple(range(first, first + count))
    if legend.values in (written, tuple(range(count))) and legend.ignore_values in ((), (IGNORE_INDEX,)):
        return
    warnings.warn(
        f"the masks have the values {first} to {first + count - 1} in the order of the classes, and {IGNORE_INDEX} for"
        f" no label, whatever values {source} gives them",
        GeodistillWarning,
        stacklevel=3,
    )


class LabelChoices(TypedDict, total=False):
    """The fields of `LabelSettings` as keyword arguments, but for images, boxes and format."""

    segmenter: str
    prompt: str
    classes: tuple[str, ...] | None
    category_field: str | None
    background: str | None
    tile: int | None
    overlap: int
    share: float
    empty: Empty | None
    keep_difficult: bool
    order: Order
    rules: Rules
    bands: tuple[int, ...] | None
    fractions: tuple[float, float, float]
    group_regex: str | None
    split: Division
    lists: Path | str | None
    seed: int


def check_view(tile: int | None, overlap: int, share: float, bands: tuple[int, ...] | None) -> None:
    """Refuse what no image could be seen by: tiles and their overlap in pixels, share of a box, bands from 1.

    Raises:
        RecipeError: A value makes no sense.
    """
    if tile is not None and tile < 16:
        raise RecipeError(f"tiles of {tile} pixels", "at least 16, or no tiles")
    if not 0 <= overlap < (tile or 1):
        raise RecipeError(f"overlap {overlap} of tiles of {tile} pixels", "0 to below the tile's side")
    if not 0 < share <= 1:
        raise RecipeError(f"share {share}", "above 0, at most 1")
    if bands is not None and (len(bands) not in (1, 3) or min(bands) < 1):
        raise RecipeError(f"bands {list(bands)}", "one or three positions, counted from 1")


def moving_root(out: Path, moves_with: Path | None, earlier: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what the settings of a run say of the folder that moves with it: as begun, where it was begun before."""
    if earlier is not None:
        return {MOVES: str(earlier[MOVES])} if MOVES in earlier else {}
    if moves_with is None or moves_with.absolute() not in out.absolute().parents:
        return {}
    return {MOVES: Path(os.path.relpath(moves_with, out)).as_posix()}
