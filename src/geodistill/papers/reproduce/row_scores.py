"""The runs of a row: each is trained once and scored once, and its figures are kept."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from geodistill.evaluation.comparison import flops, images_per_second
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.files import write_text
from geodistill.inference.network import load_on
from geodistill.inference.options import LocationHint
from geodistill.methods.metasegnet.training import MetaSegNetRecipe
from geodistill.methods.schema import Recipe
from geodistill.metrics import Scores
from geodistill.papers.padding import Padding
from geodistill.papers.reproduce.planner import TrainingRun
from geodistill.papers.reproduce.prompt_table import kept_figures
from geodistill.papers.reproduce.row_costs import image_size, millions
from geodistill.papers.reproduce.row_recipe import put
from geodistill.papers.reproduce.table_data import Source, with_data
from geodistill.papers.table import Table
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit

Scale = Literal["smoke", "full"]


@dataclass(frozen=True)
class Runner:
    """Does runs and scores them, each once.

    Attributes:
        folder: Directory of the runs.
        source: The data.
        table: How its rows are scored.
        scale: ``smoke`` or ``full``.
        gsd: Metres per pixel that images are brought to before they are segmented.
        padding: Padding that is scored as a class.
        layout: Variant of the scored set's files, such as ``eroded`` labels; that which was trained on where not given.
    """

    folder: Path
    source: Source
    table: Table
    scale: Scale
    gsd: float | None = None
    padding: Padding | None = None
    layout: str | None = None

    def is_trained(self, run: TrainingRun) -> bool:
        """Whether a run has left what it is for."""
        return (self.folder / run.folder / ("segmenter" if run.recipe.trainer.max_steps else "encoder")).is_dir()

    def trained(self, run: TrainingRun) -> Path:
        """Train a run after those that it needs, unless that is done; return its directory."""
        folder = self.folder / run.folder
        if self.is_trained(run):
            return folder
        recipe = self.source.place_weights(with_data(run, self.source))
        for before in run.before:
            recipe = put(recipe, before.step.into, str(self.trained(before.run) / before.step.part))
        fit(recipe, folder)
        return folder

    def figures(self, run: TrainingRun) -> dict[str, float]:
        """Train and score a run, unless that is done; return its figures by metric, in per cent or as counts."""
        metrics = {column.metric for column in (*self.table.columns, *self.table.text_columns)}
        scored, options = self.scoring(run)
        costs = {"size": self.table.size if "gflops" in metrics else None, "timed": "images_per_second" in metrics}
        data = self.table.scored_set or run.sets[0]
        how: dict[str, Any] = {
            "split": scored,
            "classes": list(options.subset or ()),
            "flips": options.flips,
            "class_map": options.class_map,
            **{key: getattr(options, key) for key in ("gsd", "resize") if getattr(options, key) is not None},
            **costs,
            "data": self.source.identity(data),
        }
        if self.table.scored_zone is not None:
            how["zone"] = self.table.scored_zone
        if self.table.scored_region is not None:
            how["region"] = self.table.scored_region
        if self.padding is not None:  # figures of earlier runs without it stay good
            how["padding"] = asdict(self.padding)
        if self.layout is not None:
            how["layout"] = self.layout
        digest = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:8]
        path = self.folder / run.folder / f"figures-{digest}.json"
        if path.is_file():
            return kept_figures(path, "figures")
        segmenter = Segmenter.load(self.trained(run) / "segmenter")
        scores = evaluate(
            segmenter, self.source.manifest(data, self.layout), scored, options=options, extra=self.padding
        )
        figures = figures_of(scores, segmenter, costs["size"])
        if costs["timed"]:
            timed = load_on(segmenter.for_prompt(0) if segmenter.prompts else segmenter, options.device)
            side = image_size(self.table.size, segmenter.arguments)
            figures["images_per_second"] = images_per_second([timed], side, batch_size=1)[0]
        write_text(path, json.dumps({"how": how, "figures": figures}, indent=2) + "\n")
        return figures

    def scoring(self, run: TrainingRun) -> tuple[str, EvaluateOptions]:
        """Return the split that is scored and how; the classes of made-up scenes are others than the set's."""
        smoke = self.scale == "smoke"
        gsd = self.gsd or self.table.scored_gsd
        options = EvaluateOptions(
            flips=self.table.flips,
            subset=None if smoke else self.table.classes or None,
            class_map=dict(self.table.class_map) or None,
            gsd=gsd,
            resize=None if gsd else run.recipe.data.resize,
            device="cpu" if run.recipe.trainer.accelerator == "cpu" else "auto",
            location=self.location(run.recipe),
        )
        return "test" if smoke else self.table.scored, options

    def location(self, recipe: Recipe) -> LocationHint:
        """Return where the scored images lie, by the table or the recipe, since their files may not say it."""
        if not isinstance(recipe, MetaSegNetRecipe):
            return LocationHint()
        if self.table.scored_set and self.scale == "full":
            return LocationHint(zone=self.table.scored_zone, region=self.table.scored_region)
        return LocationHint(zone=recipe.text.zone, region=recipe.text.region)


def figures_of(scores: Scores, segmenter: Segmenter, size: int | None = None) -> dict[str, float]:
    """Return all that a table may print, by metric: shares in per cent, parameters in millions.

    Args:
        scores: Of the segmenter.
        segmenter: The model.
        size: Side in pixels at which the network sees the image that operations are counted for; not counted where not
            given.
    """
    shares: dict[str, Any] = scores.means | {"oa": scores.oa}
    for kind, values in scores.per_class.items():
        shares |= {f"{kind}:{name}": value for name, value in zip(scores.names, values, strict=True)}
        if len(scores.names) == 2 and scores.subset == scores.names:
            shares[kind] = values[1]
    figures = {metric: 100 * float(share) for metric, share in shares.items() if not math.isnan(share)}
    figures["parameters"], figures["decoder_parameters"] = millions(segmenter.network.network)
    if size is not None:
        figures["gflops"] = flops(segmenter, image_size(size, segmenter.arguments)) / 1e9
    return figures
