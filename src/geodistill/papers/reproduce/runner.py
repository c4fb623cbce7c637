"""A table reproduced: each run is done once, its scores are kept, and the table is set beside the paper's."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.evaluation.comparison import flops
from geodistill.evaluation.evaluate import EvaluateOptions, evaluate
from geodistill.evaluation.results import check_place
from geodistill.folders import claim_files, hold_folder
from geodistill.inference.location import LocationHint
from geodistill.methods.metasegnet.training import MetaSegNetRecipe
from geodistill.methods.schema import Recipe
from geodistill.metrics import Scores
from geodistill.papers.registry import Table, find_table
from geodistill.papers.reproduce.planner import Planner, TrainingRun, known_keys, parse_overrides, put, why_open
from geodistill.papers.reproduce.prompt_table import kept_figures, prompt_figures
from geodistill.papers.reproduce.result_table import PaperTable, TableRow, result_names
from geodistill.papers.reproduce.table_data import MadeUpSets, OfficialSets, Source, identities, with_data
from geodistill.papers.row import About
from geodistill.raster import atomic_path
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit

Scale = Literal["smoke", "full"]

KIND = "folder of tables"


def reproduce(
    name: str,
    out: Path | str,
    *,
    scale: Scale = "smoke",
    root: Path | str | None = None,
    seeds: Sequence[int] = (42,),
    rows: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> PaperTable:
    """Run a table's rows and set the figures beside the published ones.

    Every run has a directory in ``out/runs``, named by a hash of recipe, overrides, data, seed and what it starts
    from. What is finished there is not run again, by whichever table it was asked for; what was interrupted continues.
    Leaves ``PAPER-NUMBER-SCALE.md``, ``.csv`` and ``.json`` in ``out``.

    Args:
        name: ``ktda/2`` or ``ktda/II``.
        out: Directory of runs and results, which several tables may share.
        scale: ``smoke``: tiny networks and a few steps on made-up scenes, in minutes, to see that the table runs.
            ``full``: the paper's settings on the official set.
        root: For ``full``: the folder of the official set, or one that holds it under its catalogue name.
        seeds: Seeds; each row is run with every one.
        rows: Labels of the rows to run; all where not given.
        overrides: ``KEY=VALUE`` for every run whose recipe has the key; ``segmenter=NAME`` for a table of prompts.

    Raises:
        UnknownNameError: No such table or row, or no recipe of the table has an overridden key.
        RecipeError: ``full`` without a root, no seed, or a row that cannot be run was asked for by name.
        DataError: The root does not hold the set.
        ArtifactError: Weights are not available.
        OutputError: ``out`` cannot be written, or holds another's table.
        BusyError: Another command is at work in it.
    """
    table, out = find_table(name), Path(out)
    reasons = {label: why_open(row) for label, row in table.rows.items()}
    _check_rows(table, rows, reasons)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds {' '.join(map(str, seeds)) or '(none)'}", "distinct numbers from 0 on")
    check_place(out)
    results = result_names(table.name, scale)
    claim_files(out, KIND, results, write=False)
    labels = [label for label in table.rows if not reasons[label] and (not rows or label in rows)]
    source = _source(table, scale, root, out)
    keys = parse_overrides(overrides)
    prompts = any(table.rows[label].prompt for label in labels)
    planner, runs = Planner(scale, identities(source), keys), dict[tuple[str, int], TrainingRun]()
    if prompts:
        _check_keys(keys, {"segmenter"})
    else:
        runs = {(label, seed): planner.run(table, table.rows[label], seed) for label in labels for seed in seeds}
        _check_runs(runs, source, keys)
    with hold_folder(out, "reproduce"):
        if prompts:
            compared = prompt_figures({n: table.rows[n] for n in labels}, source, out / "runs", keys.get("segmenter"))
            figures = {label: dict.fromkeys(seeds[:1], scores) for label, scores in compared.items()}
            twins: dict[str, list[str]] = {}
        else:
            figures = _run_all(table, runs, Runner(out / "runs", source, table.about, scale))
            twins = {label: _twins(runs, label, seeds[0]) for label in labels}
        done = PaperTable(
            table.name,
            table.about.title,
            table.columns,
            tuple(_row(table, label, reasons[label], figures, twins.get(label, [])) for label in table.rows),
            scale,
            f"{source.words}, for {CATALOG[table.about.dataset].title}" if scale == "smoke" else _words(table),
            table.about.note,
        )
        claim_files(out, KIND, results)
        done.write(out)
    return done


@dataclass(frozen=True)
class Runner:
    """Does runs and scores them, each once.

    Attributes:
        folder: Directory of the runs.
        source: The data.
        about: How the table scores.
        scale: ``smoke`` or ``full``.
    """

    folder: Path
    source: Source
    about: About
    scale: Scale

    def trained(self, run: TrainingRun) -> Path:
        """Train a run after those that it needs, unless that is done; return its directory."""
        folder = self.folder / run.folder
        if (folder / ("segmenter" if run.recipe.trainer.max_steps else "encoder")).is_dir():
            return folder
        recipe = self.source.place_weights(with_data(run, self.source))
        for before in run.before:
            recipe = put(recipe, before.step.into, str(self.trained(before.run) / before.step.part))
        fit(recipe, folder)
        return folder

    def figures(self, run: TrainingRun) -> dict[str, float]:
        """Train and score a run, unless that is done; return its figures by column, in per cent or as counts."""
        smoke = self.scale == "smoke"
        scored = "test" if smoke else self.about.scored
        # The classes of made-up scenes are others than the set's.
        classes = () if smoke else self.about.classes
        mapping = dict(self.about.class_map) or None
        weighed = self.about.size if "gflops" in self.about.columns else None
        data = self.about.scored_set or run.sets[0]
        how = {"split": scored, "classes": classes, "flips": self.about.flips, "size": weighed, "class_map": mapping}
        how["data"] = self.source.identity(data)
        digest = hashlib.sha256(json.dumps(how).encode()).hexdigest()[:8]
        path = self.folder / run.folder / f"figures-{digest}.json"
        if path.is_file():
            return kept_figures(path, "figures")
        segmenter = Segmenter.load(self.trained(run) / "segmenter")
        scores = evaluate(
            segmenter,
            self.source.manifest(data),
            scored,
            options=EvaluateOptions(
                flips=self.about.flips,
                subset=classes or None,
                class_map=mapping,
                device="cpu" if run.recipe.trainer.accelerator == "cpu" else "auto",
                location=self._location(run.recipe),
            ),
        )
        figures = figures_of(scores, segmenter, weighed)
        with atomic_path(path) as part:
            part.write_text(json.dumps({"how": how, "figures": figures}, indent=2) + "\n", encoding="utf-8")
        return figures

    def _location(self, recipe: Recipe) -> LocationHint:
        """Return where the scored images lie, by the table or the recipe, since their files may not say it."""
        if not isinstance(recipe, MetaSegNetRecipe):
            return LocationHint()
        if self.about.scored_set and self.scale == "full":
            return LocationHint(region=self.about.scored_region)
        return LocationHint(zone=recipe.text.zone, region=recipe.text.region)


def figures_of(scores: Scores, segmenter: Segmenter, size: int | None = None) -> dict[str, float]:
    """Return all that a table may print, by column: shares in per cent, parameters in millions.

    Args:
        scores: Of the segmenter.
        segmenter: The model.
        size: Side in pixels of the image that operations are counted for; not counted where not given.
    """
    means = {"miou": scores.miou, "mf1": scores.mf1, "mprecision": scores.mprecision, "mrecall": scores.mrecall}
    classes = {"iou": scores.iou, "f1": scores.f1, "precision": scores.precision, "recall": scores.recall}
    shares: dict[str, Any] = means | {"oa": scores.oa}
    for kind, values in classes.items():
        shares |= {f"{kind}:{name}": value for name, value in zip(scores.names, values, strict=True)}
        if len(scores.names) == 2 and scores.subset == scores.names:
            shares[kind] = values[1]
    figures = {column: 100 * float(share) for column, share in shares.items() if not math.isnan(share)}
    network = segmenter.network.network
    figures["parameters"] = sum(p.numel() for p in network.parameters()) / 1e6
    encoder = sum(p.numel() for name, p in network.named_parameters() if name.startswith("encoder."))
    figures["decoder_parameters"] = figures["parameters"] - encoder / 1e6
    if size is not None:
        figures["gflops"] = flops(segmenter, size) / 1e9
    return figures


def _source(table: Table, scale: Scale, root: Path | str | None, out: Path) -> Source:
    if scale == "smoke":
        if root is not None:
            raise RecipeError(f"--root {root} with --scale smoke", "--scale full", "a smoke run draws its own scenes")
        return MadeUpSets(out / "data")
    benchmark = CATALOG[table.about.dataset]
    if root is None:
        raise RecipeError(
            f"reproduce {table.name} --scale full without --root",
            f"--root DIR with {benchmark.title}",
            f"download it from {benchmark.source}",
        )
    return OfficialSets(Path(root), out / "data", table.about)


def _check_rows(table: Table, rows: Sequence[str], reasons: dict[str, str]) -> None:
    for label in rows:
        if label not in table.rows:
            raise UnknownNameError(f"row of {table.name}", label, table.rows)
        if reasons[label]:
            raise RecipeError(f"row {label} of {table.name} cannot be run ({reasons[label]})", "another row")


def _check_runs(runs: dict[tuple[str, int], TrainingRun], source: Source, keys: dict[str, str]) -> None:
    """Refuse keys that no run has and weights that are missing, before the first run."""
    every = [one for run in runs.values() for one in (*(before.run for before in run.before), run)]
    if every:
        _check_keys(keys, {key for run in every for key in known_keys(run.recipe)})
    for one in every:
        source.place_weights(one.recipe)


def _run_all(
    table: Table, runs: dict[tuple[str, int], TrainingRun], runner: Runner
) -> dict[str, dict[int, dict[str, float]]]:
    """Return the figures of every run, by row and seed."""
    figures: dict[str, dict[int, dict[str, float]]] = {}
    for (label, seed), run in runs.items():
        print(f"{table.name} {label}, seed {seed}: {run.folder}", file=sys.stderr, flush=True)
        figures.setdefault(label, {})[seed] = runner.figures(run)
    return figures


def _check_keys(keys: dict[str, str], known: set[str]) -> None:
    for key in keys:
        if key not in known:
            raise UnknownNameError("recipe key", key, known, "see 'geodistill fit --print_config'")


def _row(
    table: Table, label: str, reason: str, figures: dict[str, dict[int, dict[str, float]]], twins: list[str]
) -> TableRow:
    row = table.rows[label]
    same = f"the same run as {', '.join(twins)}" if twins else ""
    note = "; ".join(filter(None, (row.note, same)))
    state: Literal["done", "open", "left out"] = "open" if reason else "done" if label in figures else "left out"
    return TableRow(label, state, row.published, figures.get(label, {}), reason, note)


def _twins(runs: dict[tuple[str, int], TrainingRun], label: str, seed: int) -> list[str]:
    """Return the other rows that are the very same run: in the paper, or once their networks are tiny."""
    this = runs.get((label, seed))
    return [n for (n, s), run in runs.items() if this is not None and n != label and s == seed and run.key == this.key]


def _words(table: Table) -> str:
    about = table.about
    variant = f", split {about.split}" if about.split else ""
    scored = f"{about.scored} of {CATALOG[about.scored_set].title}" if about.scored_set else about.scored
    return f"{CATALOG[about.dataset].title}{variant}, scored on {scored}"
