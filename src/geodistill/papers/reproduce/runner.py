"""A table reproduced: each run is done once, its scores are kept, and the table is set beside the paper's."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import GeodistillError, RecipeError, UnknownNameError, check_name
from geodistill.evaluation.results import check_place
from geodistill.folders import claim_files, hold_folder
from geodistill.papers.padding import Padding
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.board import Board, Clock
from geodistill.papers.reproduce.paper_figures import PICTURES, draw_pictures, picture_name
from geodistill.papers.reproduce.planner import Planner, TrainingRun
from geodistill.papers.reproduce.prompt_table import prompt_figures, prompted
from geodistill.papers.reproduce.ran_rows import RanRows
from geodistill.papers.reproduce.result_table import PaperTable, result_names
from geodistill.papers.reproduce.row_recipe import Settings, known_keys, parse_overrides, why_open
from geodistill.papers.reproduce.row_scores import Runner, Scale
from geodistill.papers.reproduce.table_data import (
    MadeUpSets,
    OfficialSets,
    Source,
    check_fractions,
    identities,
    look_for_weights,
)
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


@dataclass(frozen=True)
class ReproduceOptions:
    """How a table is run. Runs with equal options are the same runs.

    Attributes:
        scale: ``smoke``: tiny networks and a few steps on made-up scenes, in minutes, to see that the table runs.
            ``full``: the paper's settings on the official set.
        root: For ``full``: the folder of the official set, or one that holds it under its catalogue name.
        seeds: Seeds; each row is run with every one.
        rows: Labels of the rows to run; all where not given.
        overrides: ``KEY=VALUE`` for every run whose recipe has the key, ``ROW:KEY=VALUE`` for those of one row;
            ``segmenter=NAME`` for a table of prompts.
        settings: The paper's printed settings, or those of its released code.
        gsd: Metres per pixel that images are brought to before they are segmented, as `evaluate` has it.
        padding: Padding that is scored as a class, as some published figures have it.
        scored_layout: Variant of the scored set's files, such as ``eroded``; that which is trained on where not given.
    """

    scale: Scale = "smoke"
    root: Path | str | None = None
    seeds: Sequence[int] = (42,)
    rows: Sequence[str] = ()
    overrides: Sequence[str] = ()
    settings: Settings = "printed"
    gsd: float | None = None
    padding: Padding | None = None
    scored_layout: str | None = None


def reproduce(name: str, out: Path | str, options: ReproduceOptions = ReproduceOptions()) -> PaperTable:
    """Run a table's rows and set the figures beside the published ones.

    Every run has a directory in ``out/runs``, named by a hash of recipe, overrides, data, seed and what it starts
    from. What is finished there is not run again, by whichever table it was asked for; what was interrupted continues.
    A row that fails is named with the reason and the others go on. Leaves ``PAPER-NUMBER-SCALE.md``, ``.csv`` and
    ``.json`` in ``out``, written anew after each row.

    Args:
        name: ``ktda/2`` or ``ktda/II``.
        out: Directory of runs and results, which several tables may share.
        options: Which rows, and how.

    Raises:
        UnknownNameError: No such table or row, or no recipe of the table has an overridden key.
        RecipeError: ``full`` without a root, no seed, a row that cannot be run was asked for by name, or an overridden
            key does nothing in any run.
        DataError: The root does not hold a set that a row needs.
        ArtifactError: Weights of a row are not available.
        OutputError: ``out`` cannot be written, or holds another's table.
        BusyError: Another command is at work in it.
    """
    opened, scale = _open(name, out, options), options.scale
    table, out, source = opened.table, opened.out, opened.source
    board = Board(
        table, out, scale, options.settings, _words(table, source, options.scored_layout), opened.reasons, opened.labels
    )
    results = result_names(table.name, scale)
    claim_files(out, KIND, results, write=False)
    prompts = {label: table.rows[label] for label in opened.labels if table.rows[label].prompt}
    every = [one for row in opened.runs.values() for run in row.values() for one in run.chain()]
    with hold_folder(out, "reproduce"):
        claim_files(out, KIND, results)
        if prompts:
            compared = prompt_figures(prompts, source, out / "runs", opened.segmenter)
            counts = {f"{one['images']:.0f} images, {one['objects']:.0f} objects" for one in compared.values()}
            board.data += f"; {prompted(source, opened.segmenter)} on {' or '.join(sorted(counts))}"
            for label, figures in compared.items():
                board.enter(label, options.seeds[0], 0, figures)
        for one in dict.fromkeys(one for run in every for one in (*run.sets, table.scored_set) if one):
            source.manifest(one)
        if options.scored_layout is not None and every:
            source.manifest(table.scored_set or table.dataset, options.scored_layout)
        check_fractions(every, source)
        look_for_weights({n: [x for run in r.values() for x in run.chain()] for n, r in opened.runs.items()}, source)
        runner = opened.runner(options)
        _run_all(opened.runs, runner, board)
    return board.write()


def draw(
    name: str, out: Path | str, kinds: Sequence[str] = (), options: ReproduceOptions = ReproduceOptions()
) -> list[Path]:
    """Draw pictures from the rows of a table that ran, under the first seed; return the files.

    Args:
        name: ``ktda/2`` or ``ktda/II``.
        out: Directory of runs and results.
        kinds: Of `geodistill.papers.reproduce.paper_figures.PICTURES`; all where not given.
        options: As `reproduce` was called with; where rows are named, these are shown.

    Raises:
        UnknownNameError: No such table, row or kind.
        RecipeError: No row ran.
        OutputError: ``out`` cannot be written, or a picture is another's.
    """
    opened, scale = _open(name, out, options), options.scale
    runner = opened.runner(options)
    first = {label: next(iter(row.values())) for label, row in opened.runs.items()}
    ran = {run.key: (label, run) for label, run in reversed(first.items()) if runner.is_trained(run)}  # each run once
    shown = {label: run for label, run in reversed(ran.values()) if run.recipe.trainer.max_steps}
    names = [picture_name(opened.table.name, scale, kind) for kind in kinds or PICTURES]
    with hold_folder(opened.out, "reproduce"):
        claim_files(opened.out, KIND, names)
        return draw_pictures(RanRows(runner, shown, opened.out), kinds)


@dataclass(frozen=True)
class _Opened:
    """A table with the runs of its rows.

    Attributes:
        table: The table.
        out: Directory of runs and results.
        source: The data.
        reasons: Why a row cannot be run, by label.
        labels: Rows that are run.
        runs: Their runs, of those that train.
        segmenter: What cuts objects out in a table of prompts, where the user names it.
    """

    table: Table
    out: Path
    source: Source
    reasons: Mapping[str, str]
    labels: Sequence[str]
    runs: Mapping[str, RowRuns]
    segmenter: str | None

    def runner(self, options: ReproduceOptions) -> Runner:
        """Return what does the runs and scores them."""
        scored = (options.gsd, options.padding, options.scored_layout)
        return Runner(self.out / "runs", self.source, self.table, options.scale, *scored)


def _open(name: str, out: Path | str, options: ReproduceOptions) -> _Opened:
    """Find a table and plan its runs; whatever does not fit is refused here, before any work."""
    table, out, rows, seeds = find_table(name), Path(out), options.rows, options.seeds
    reasons = {
        label: why_open(row, read=not rows or label in rows, settings=options.settings)
        for label, row in table.rows.items()
    }
    _check_rows(table, rows, reasons)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds {' '.join(map(str, seeds)) or '(none)'}", "distinct numbers from 0 on")
    check_place(out)
    labels = [label for label in table.rows if not reasons[label] and (not rows or label in rows)]
    source = _source(table, options, out)
    by_row = parse_overrides(options.overrides, list(table.rows))
    keys = by_row.pop("")
    if any(table.rows[label].prompt for label in labels):
        _check_keys(keys, {"segmenter"})
        return _Opened(table, out, source, reasons, labels, {}, keys.get("segmenter"))
    planner = Planner(options.scale, identities(source), keys, by_row, options.settings)
    runs = {label: _row_runs(planner, table, label, seeds) for label in labels}
    chains = {label: [one for run in row.values() for one in run.chain()] for label, row in runs.items()}
    every = [one for chain in chains.values() for one in chain]
    for label, chosen in {"": keys, **by_row}.items() if runs else ():
        _check_reach(chosen, chains.get(label, every))
    return _Opened(table, out, source, reasons, labels, runs, None)


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
            print(board.write().progress(), file=sys.stderr, flush=True)


def _row_runs(planner: Planner, table: Table, label: str, seeds: Sequence[int]) -> RowRuns:
    groups = [group[0].overrides for group in table.runs_of_a_row]
    return {
        (seed, number): planner.run(table, table.rows[label], seed, overrides)
        for seed in seeds
        for number, overrides in enumerate(groups)
    }


def _source(table: Table, options: ReproduceOptions, out: Path) -> Source:
    root = options.root
    if options.scale == "smoke":
        if root is not None:
            raise RecipeError(f"--root {root} with --scale smoke", "--scale full", "a smoke run draws its own scenes")
        if options.scored_layout is not None:
            raise RecipeError("--scored-layout with --scale smoke", "--scale full", "made-up scenes have one layout")
        return MadeUpSets(out / "data")
    benchmark = CATALOG[table.dataset]
    layouts = CATALOG[table.scored_set or table.dataset].layouts
    if options.scored_layout not in (None, *layouts):
        raise UnknownNameError(f"layout of {table.scored_set or table.dataset}", str(options.scored_layout), layouts)
    if root is None:
        raise RecipeError(
            f"reproduce {table.name} --scale full without --root",
            f"--root DIR with {benchmark.title}",
            f"download it from {benchmark.source}",
        )
    return OfficialSets(Path(root), out / "data", table)


def _check_rows(table: Table, rows: Sequence[str], reasons: Mapping[str, str]) -> None:
    for label in rows:
        check_name(f"row of {table.name}", label, table.rows)
        if reasons[label]:
            raise RecipeError(f"row {label} of {table.name} cannot be run ({reasons[label]})", "another row")


def _check_keys(keys: Iterable[str], known: set[str]) -> None:
    for key in keys:
        check_name("recipe key", key, known, "see 'geodistill fit --print_config'")


def _check_reach(keys: Iterable[str], runs: Sequence[TrainingRun]) -> None:
    """Refuse keys that no run has, and those that do nothing in any that has them."""
    known = [known_keys(one.recipe) for one in runs]
    _check_keys(keys, set().union(*known))
    for key in keys:
        reasons = [one.idle.get(key) for one, has in zip(runs, known, strict=True) if key in has]
        if all(reasons):
            raise RecipeError(f"--set {key}, which does nothing: {reasons[0]}", "keys that change a run")


def _words(table: Table, source: Source, layout: str | None = None) -> str:
    if isinstance(source, MadeUpSets):
        return f"{source.words}, for {CATALOG[table.dataset].title}"
    variant = f", split {table.split}" if table.split else ""
    scored = f"{table.scored} of {CATALOG[table.scored_set].title}" if table.scored_set else table.scored
    labels = f", layout {layout}" if layout else ""
    return f"{CATALOG[table.dataset].title}{variant}, scored on {scored}{labels}"
