"""What a paper's table is: its rows with their printed figures, how each is run, and what the table is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geodistill.data.catalog.declarations import CATALOG

Figure = float | int | str | bool | list[Any]
"""A printed cell: a number, sides of images as a list, a tick as a truth value, bands as text."""

Part = Literal["encoder", "segmenter"]


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
    overrides: Mapping[str, Any] = field(default_factory=dict)
    into: str = ""
    part: Part = "encoder"
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column as it is printed.

    Attributes:
        heading: The paper's own.
        metric: ``miou``, ``mf1``, ``mprecision``, ``mrecall``, ``oa``; ``iou``, ``f1``, ``precision`` and ``recall``
            of the last class of a set with two; ``iou:CLASS`` and the like of any class (all in per cent);
            ``parameters`` and ``decoder_parameters`` in millions, ``gflops`` in G operations of one image,
            ``images_per_second``; any other name of a table that is counted and not run.
        overrides: Recipe keys of the runs that this column is of, where a row has one run per group of columns.
    """

    heading: str
    metric: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        label: Its name as printed, without citation numbers.
        describes: What it is, in words.
        figures: The printed figures by heading; an empty cell is not among them.
        text: Figures that the paper's text gives of it, by metric.
        recipe: The shipped recipe that it runs; empty where it cannot be run.
        overrides: Recipe keys, dotted, and their values.
        like: The run whose data, optimiser, schedule and trainer it takes over: that of a baseline's table.
        before: The runs that it needs first, in this order.
        prompt: For a row that trains nothing: the prompts that a segmenter is given, such as ``cp+hbox``.
        open: Why it cannot be run: its network is in no library that is kept, for example.
        note: What to know about it.
    """

    label: str
    describes: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    text: Mapping[str, float] = field(default_factory=dict)
    recipe: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    like: Step | None = None
    before: tuple[Step, ...] = ()
    prompt: str = ""
    open: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table, and how its rows are scored.

    Attributes:
        paper: The paper, such as ``ktda``; ``ours`` for tables that no paper prints.
        number: As printed, Roman or Arabic.
        about: What its rows compare.
        dataset: The benchmark set's name in the catalogue.
        columns: Its columns as printed.
        rows: Its rows by label.
        split: Variant of the set's split; the catalogue's first where not given.
        layout: Variant of the set's files that is trained on; likewise.
        scored: The split that is scored.
        scored_set: Another set that is scored instead, where nothing is trained on it.
        scored_zone: Climate zone of that set, as its paper names it.
        scored_region: Where that set lies (see `geodistill.text.places`), or ``file`` where its files are named by
            their region; not given where they say it themselves.
        scored_gsd: Metres per pixel that its images are brought to first, about those that were trained on.
        class_map: Class of that set by class of the one trained on; scores are those of the classes in it.
        classes: Classes the means are over; all where not given.
        flips: Average predictions over mirrored images.
        size: Side in pixels of the image that operations are counted and passes timed for.
        decimals: Digits behind the point that its shares are printed with.
        note: What to know before comparing figures.
        doubts: What speaks against printed figures, where no rule of `geodistill.papers.sanity` finds it.
    """

    paper: str
    number: str
    about: str
    dataset: str
    columns: tuple[Column, ...]
    rows: Mapping[str, PaperRow]
    split: str | None = None
    layout: str | None = None
    scored: str = "test"
    scored_set: str | None = None
    scored_zone: str | None = None
    scored_region: str | None = None
    scored_gsd: float | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    flips: bool = False
    size: int = 512
    decimals: int = 2
    note: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``PAPER/NUMBER``."""
        return f"{self.paper}/{self.number}"

    @property
    def runs_of_a_row(self) -> tuple[tuple[Column, ...], ...]:
        """The columns, those that one run fills together."""
        groups: list[list[Column]] = []
        for column in self.columns:
            group = next((one for one in groups if one[0].overrides == column.overrides), None)
            groups.append([column]) if group is None else group.append(column)
        return tuple(map(tuple, groups))

    @property
    def mean_classes(self) -> tuple[str, ...]:
        """The classes that printed means are over, where each of them is a column."""
        named = tuple(dict.fromkeys(c.metric.partition(":")[2] for c in self.columns if ":" in c.metric))
        legend = CATALOG[self.dataset].legend
        complete = self.classes or (legend.names if legend is not None else ())
        return named if set(named) == set(complete) else ()

    @property
    def text_columns(self) -> tuple[Column, ...]:
        """The columns that the paper does not print: figures of its text."""
        metrics = dict.fromkeys(metric for row in self.rows.values() for metric in row.text)
        return tuple(Column(f"{metric.replace('_', ' ')} (text)", metric) for metric in metrics)

    def printed(self, row: PaperRow) -> dict[str, Figure]:
        """Return a row's figures by heading: the table's, and those of the text."""
        return dict(row.figures) | {c.heading: row.text[c.metric] for c in self.text_columns if c.metric in row.text}


def numbers(figure: Figure) -> Iterator[float]:
    """Yield the numbers of a printed cell: one, the sides of an image, or none of ticks and words."""
    if isinstance(figure, list):
        for part in figure:
            yield from numbers(part)
    elif not isinstance(figure, bool | str):
        yield figure
