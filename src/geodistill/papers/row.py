"""What a paper's table is declared by: its rows, the runs a row needs before it, and what the table is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Part = Literal["encoder", "segmenter"]

ISPRS_FIVE = ("impervious surface", "building", "low vegetation", "tree", "car")
"""Classes that the papers' means on Vaihingen and Potsdam are over: all but clutter."""


@dataclass(frozen=True)
class Step:
    """A run that has to be finished before a row's own: phase 1, a teacher, a pre-training.

    Two rows with equal steps, or a row that is what another needs first, share one run.

    Attributes:
        recipe: The shipped recipe.
        overrides: Recipe keys, dotted, and their values.
        into: Recipe key of the run behind it that takes the path of what this one leaves.
        part: What it leaves there: its ``encoder`` or its ``segmenter``.
        sets: Names of the data sets it learns at once, for ``data.manifests``; the table's own set where not given.
    """

    recipe: str
    overrides: dict[str, Any] = field(default_factory=dict)
    into: str = "network.encoder_weights"
    part: Part = "encoder"
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperRow:
    """One row of a paper's table.

    Attributes:
        overrides: Recipe keys, dotted, and their values.
        recipe: The shipped recipe they change.
        miou: The published mIoU in per cent, or ``None`` where we know none.
        figures: Other published figures by column (`About.columns`); a column that is not here is not known to us.
        note: What to know about the row: above all why a printed figure cannot be right.
        open: Why the row cannot be run: its network is in no library that is kept, for example.
        before: The runs that it needs first, in this order.
        prompt: For a row that trains nothing: the prompts that a segmenter is given, such as ``cp+hbox``.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    miou: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    open: str = ""
    before: tuple[Step, ...] = ()
    prompt: str = ""

    @property
    def published(self) -> dict[str, float]:
        """The known published figures by column."""
        return ({} if self.miou is None else {"miou": self.miou}) | dict(self.figures)


@dataclass(frozen=True)
class About:
    """What a table is of.

    Attributes:
        title: What its rows compare.
        dataset: The benchmark set's name in the catalogue.
        columns: Its columns: ``miou``, ``mf1``, ``mprecision``, ``mrecall``, ``oa``; ``iou``, ``f1``, ``precision``
            and ``recall`` of the last class of a set with two; ``iou:CLASS`` and the like of any class (all in per
            cent); ``parameters`` and ``decoder_parameters`` in millions, ``gflops``.
        split: Variant of the set's split; the catalogue's first where not given.
        layout: Variant of the set's files that is trained on; likewise.
        scored: The split that is scored.
        scored_set: Another set that is scored instead, where nothing is trained on it.
        scored_region: Where that set lies (see `geodistill.text.places`), or ``file`` where its files are named by
            their region; not given where they say it themselves.
        class_map: Class of that set by class of the one trained on; scores are those of the classes in it.
        classes: Classes the means are over; all where not given.
        flips: Average predictions over mirrored images.
        size: Side in pixels of the image that ``gflops`` are for.
        note: What to know before comparing figures.
    """

    title: str
    dataset: str
    columns: tuple[str, ...] = ("miou",)
    split: str | None = None
    layout: str | None = None
    scored: str = "test"
    scored_set: str | None = None
    scored_region: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    flips: bool = False
    size: int = 512
    note: str = ""
