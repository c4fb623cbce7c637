"""A table reproduced: each run is done once, its scores are kept, and the table is set beside the paper's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from geodistill.data.catalog import CATALOG
from geodistill.errors import GeodistillError, RecipeError, UnknownNameError
from geodistill.evaluation.results import check_place
from geodistill.folders import claim_files, hold_folder
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.planner import (
    Planner,
    Settings,
    TrainingRun,
    known_keys,
    parse_overrides,
    why_open,
)
from geodistill.papers.reproduce.prompt_table import prompt_figures
from geodistill.papers.reproduce.result_table import (
    EXACT,
    PaperTable,
    State,
    TableRow,
    printed_complaints,
    result_names,
)
from geodistill.papers.reproduce.row_scores import Runner, Scale
from geodistill.papers.reproduce.table_data import MadeUpSets, OfficialSets, Source, identities, look_for_weights
from geodistill.papers.sanity import complaints
from geodistill.papers.table import Table

KIND = "folder of tables"

FAILURES = (
    GeodistillError,
    RuntimeError,  # of torch: memory, shapes, devices
    OSError,
    MemoryError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
"""What may end one row of a table, and not the others."""

RowRuns = Mapping[tuple[int, int], TrainingRun]
"""The runs of a row by seed and by the group of columns that each fills."""


def reproduce(
    name: str,
    out: Path | str,
    *,
    scale: Scale = "smoke",
    root: Path | str | None = None,
    seeds: Sequence[int] = (42,),
    rows: Sequence[str] = (),
    overrides: Sequence[str] = (),
    settings: Settings = "printed",
) -> PaperTable:
    """Run a table's rows and set the figures beside the published ones.

    Every run has a directory in ``out/runs``, named by a hash of recipe, overrides, data, seed and what it starts
    from. What is finished there is not run again, by whichever table it was asked for; what was interrupted continues.
    A row that fails is named with the reason and the others go on. Leaves ``PAPER-NUMBER-SCALE.md``, ``.csv`` and
    ``.json`` in ``out``, written anew after each row.

    Args:
        name: ``ktda/2`` or ``ktda/II``.
        out: Directory of runs and results, which several tables may share.
        scale: ``smoke``: tiny networks and a few steps on made-up scenes, in minutes, to see that the table runs.
            ``full``: the paper's settings on the official set.
        root: For ``full``: the folder of the official set, or one that holds it under its catalogue name.
        seeds: Seeds; each row is run with every one.
        rows: Labels of the rows to run; all where not given.
        overrides: ``KEY=VALUE`` for every run whose recipe has the key, ``ROW:KEY=VALUE`` for those of one row;
            ``segmenter=NAME`` for a table of prompts.
        settings: The paper's printed settings, or those of its released code.

    Raises:
        UnknownNameError: No such table or row, or no recipe of the table has an overridden key.
        RecipeError: ``full`` without a root, no seed, or a row that cannot be run was asked for by name.
        DataError: The root does not hold a set that a row needs.
        ArtifactError: Weights of a row are not available.
        OutputError: ``out`` cannot be written, or holds another's table.
        BusyError: Another command is at work in it.
    """
    table, out = find_table(name), Path(out)
    reasons = {label: why_open(row, settings=settings) for label, row in table.rows.items()}
    _check_rows(table, rows, reasons)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds {' '.join(map(str, seeds)) or '(none)'}", "distinct numbers from 0 on")
    check_place(out)
    results = result_names(table.name, scale)
    claim_files(out, KIND, results, write=False)
    labels = [label for label in table.rows if not reasons[label] and (not rows or label in rows)]
    source = _source(table, scale, root, out)
    keys = parse_overrides(overrides, list(table.rows))
    board = Board(table, out, scale, settings, _words(table, source), reasons, labels)
    if any(table.rows[label].prompt for label in labels):
        _check_keys(keys[""], {"segmenter"})
        with hold_folder(out, "reproduce"):
            prompts = {label: table.rows[label] for label in labels}
            scores = prompt_figures(prompts, source, out / "runs", keys[""].get("segmenter"))
            for label, figures in scores.items():
                board.enter(label, seeds[0], 0, figures)
    else:
        planner = Planner(scale, identities(source), keys.pop(""), keys, settings)
        runs = {label: _row_runs(planner, table, label, seeds) for label in labels}
        every = [one for row in runs.values() for run in row.values() for one in run.chain()]
        for chosen in (planner.overrides, *keys.values()):
            _check_keys(chosen, {key for run in every for key in known_keys(run.recipe)} if every else set(chosen))
        look_for_weights({n: [one for r in row.values() for one in r.chain()] for n, row in runs.items()}, source)
        with hold_folder(out, "reproduce"):
            for one in dict.fromkeys([s for run in every for s in run.sets] + [table.scored_set or ""]):
                if one:
                    source.manifest(one)
            _run_all(runs, Runner(out / "runs", source, table, scale), board)
    claim_files(out, KIND, results)
    return board.write()


@dataclass
class Board:
    """The table while its rows are run.

    Attributes:
        table: What is run.
        out: Where it is written.
        scale: ``smoke`` or ``full``.
        settings: As printed or as released.
        data: What is trained and scored on, in words.
        reasons: Why a row cannot be run, by label.
        labels: Rows that are run.
        figures: Ours by row, seed and heading.
        wrong: What cannot be right in them, by row.
        failed: Why a row ended without its figures.
        twins: Rows of the very same run, by row.
        finished: Rows that are over.
    """

    table: Table
    out: Path
    scale: Scale
    settings: Settings
    data: str
    reasons: Mapping[str, str]
    labels: Sequence[str]
    figures: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    twins: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, label: str, seed: int, group: int, figures: Mapping[str, float]) -> None:
        """Enter a run's figures, by metric, into the columns that it fills."""
        columns = [*self.table.runs_of_a_row[group], *(self.table.text_columns if group == 0 else ())]
        row = self.figures.setdefault(label, {}).setdefault(seed, {})
        row |= {column.heading: figures[column.metric] for column in columns if column.metric in figures}
        wrong = complaints(figures, EXACT, () if self.scale == "smoke" else self.table.mean_classes)
        self.wrong.setdefault(label, []).extend(f"seed {seed}: {complaint}" for complaint in wrong)

    def write(self) -> PaperTable:
        """Write the table as it stands; return it."""
        rows = tuple(self._row(label) for label in self.table.rows)
        now = PaperTable(self.table, rows, self.scale, self.data, self.settings)
        now.write(self.out)
        return now

    def _row(self, label: str) -> TableRow:
        row = self.table.rows[label]
        same = f"the same run as {', '.join(self.twins[label])}" if self.twins.get(label) else ""
        state: State = "left out"
        if self.reasons[label]:
            state = "open"
        elif label in self.failed:
            state = "failed"
        elif label in self.figures:
            state = "done"
        elif label in self.labels:
            state = "waiting"
        return TableRow(
            label,
            state,
            self.table.printed(row),
            self.figures.get(label, {}),
            self.reasons[label] or self.failed.get(label, ""),
            "; ".join(filter(None, (row.note, same))),
            printed_complaints(self.table, row.figures),
            self.wrong.get(label, []),
        )


class Clock:
    """Estimates how long the rest of a table takes, from how long its runs took so far.

    Args:
        runs: All runs that are still to be trained; equal ones count once.
    """

    def __init__(self, runs: Iterable[TrainingRun]) -> None:
        self._waiting = {run.key: run.work for run in runs}
        self._work = self._seconds = 0.0

    def finished(self, run: TrainingRun, seconds: float) -> None:
        """Take a run and those before it off what is left."""
        done = sum(self._waiting.pop(one.key, 0.0) for one in run.chain())
        if done:
            self._work, self._seconds = self._work + done, self._seconds + seconds

    def __str__(self) -> str:
        if not self._waiting or not self._work:
            return ""
        minutes = sum(self._waiting.values()) * self._seconds / self._work / 60
        return f", about {minutes / 60:.1f} h left" if minutes >= 90 else f", about {max(minutes, 1):.0f} min left"


def _run_all(runs: Mapping[str, RowRuns], runner: Runner, board: Board) -> None:
    """Run row after row; a failure is one line and the table is written after each."""
    name = board.table.name
    chains = [one for row in runs.values() for run in row.values() for one in run.chain()]
    clock = Clock(one for one in chains if not runner.is_trained(one))
    for number, (label, row) in enumerate(runs.items(), 1):
        board.twins[label] = [n for n, r in runs.items() if n != label and {x.key for x in r.values()} == {
            x.key for x in row.values()
        }]  # fmt: skip
        try:
            for (seed, group), run in row.items():
                print(f"{name} {label}, seed {seed} ({number} of {len(runs)}{clock}): {run.folder}", file=sys.stderr)
                started = time.monotonic()
                board.enter(label, seed, group, runner.figures(run))
                clock.finished(run, time.monotonic() - started)
        except FAILURES as error:
            board.failed[label] = " ".join(str(error).split()) or type(error).__name__
            print(f"{name} {label} failed: {board.failed[label]}", file=sys.stderr)
        if number < len(runs):
            print(board.write().to_text(remarks=False), file=sys.stderr, flush=True)


def _row_runs(planner: Planner, table: Table, label: str, seeds: Sequence[int]) -> RowRuns:
    groups = [group[0].overrides for group in table.runs_of_a_row]
    return {
        (seed, number): planner.run(table, table.rows[label], seed, overrides)
        for seed in seeds
        for number, overrides in enumerate(groups)
    }


def _source(table: Table, scale: Scale, root: Path | str | None, out: Path) -> Source:
    if scale == "smoke":
        if root is not None:
            raise RecipeError(f"--root {root} with --scale smoke", "--scale full", "a smoke run draws its own scenes")
        return MadeUpSets(out / "data")
    benchmark = CATALOG[table.dataset]
    if root is None:
        raise RecipeError(
            f"reproduce {table.name} --scale full without --root",
            f"--root DIR with {benchmark.title}",
            f"download it from {benchmark.source}",
        )
    return OfficialSets(Path(root), out / "data", table)


def _check_rows(table: Table, rows: Sequence[str], reasons: Mapping[str, str]) -> None:
    for label in rows:
        if label not in table.rows:
            raise UnknownNameError(f"row of {table.name}", label, table.rows)
        if reasons[label]:
            raise RecipeError(f"row {label} of {table.name} cannot be run ({reasons[label]})", "another row")


def _check_keys(keys: Iterable[str], known: set[str]) -> None:
    for key in keys:
        if key not in known:
            raise UnknownNameError("recipe key", key, known, "see 'geodistill fit --print_config'")


def _words(table: Table, source: Source) -> str:
    if isinstance(source, MadeUpSets):
        return f"{source.words}, for {CATALOG[table.dataset].title}"
    variant = f", split {table.split}" if table.split else ""
    scored = f"{table.scored} of {CATALOG[table.scored_set].title}" if table.scored_set else table.scored
    return f"{CATALOG[table.dataset].title}{variant}, scored on {scored}"
