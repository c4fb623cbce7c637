"""The rows of a table that ran: their models and teachers, logs, and the tiles they are shown on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from geodistill.data.manifest import Manifest
from geodistill.evaluation.classmap import ClassMap, make_class_map
from geodistill.evaluation.scoring import ImageScore, Preview, ScoringSettings, read_preview, scoring_network
from geodistill.inference.location import PerPlaceModel
from geodistill.methods.metasegnet.network import mean_of_tokens
from geodistill.metrics import ConfusionMatrix
from geodistill.nn.encoders import Encoder, build_encoder
from geodistill.papers.reproduce.planner import TrainingRun
from geodistill.papers.reproduce.row_scores import Runner
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend

TILES, SIDE = 4, 512
"""Tiles of a picture, and the largest side of each in pixels."""


@dataclass(frozen=True)
class RanRows:
    """The rows of a table that ran, and the tiles that they are shown on.

    Attributes:
        runner: Knows their directories and the data.
        runs: The run of each by its label.
        out: Where pictures are written.
    """

    runner: Runner
    runs: dict[str, TrainingRun]
    out: Path

    @cached_property
    def models(self) -> dict[str, Segmenter]:
        """The trained model of each row."""
        return {label: Segmenter.load(self.runner.trained(run) / "segmenter") for label, run in self.runs.items()}

    @cached_property
    def places(self) -> dict[str, PerPlaceModel]:
        """Each row's model, for wherever a tile lies."""
        models = self.models.items()
        return {name: PerPlaceModel(model, self.runner.location(self.runs[name].recipe)) for name, model in models}

    @cached_property
    def manifest(self) -> Manifest:
        """The set that is scored."""
        table = self.runner.table
        return Manifest.load(self.runner.source.manifest(table.scored_set or table.dataset))

    @property
    def set_legend(self) -> Legend:
        """Its classes."""
        assert self.manifest.legend is not None
        return self.manifest.legend

    @cached_property
    def mappings(self) -> dict[str, ClassMap]:
        """What each row's classes are called in the set that is scored, where it is another than they learned."""
        pairs = dict(self.runner.table.class_map)
        models = self.models.items() if pairs else ()
        return {label: make_class_map(pairs, model.spec.legend, self.set_legend) for label, model in models}

    @property
    def legend(self) -> Legend:
        """The classes that are scored."""
        return next((mapping.legend for mapping in self.mappings.values()), self.set_legend)

    def class_of(self, label: str, index: int) -> int:
        """Return the position among a row's own classes of one that is scored."""
        return int((self.mappings[label].prediction == index).argmax()) if self.mappings else index

    @cached_property
    def tiles(self) -> list[ImageScore]:
        """The middle of some images of the scored split, evenly drawn from its list."""
        rows = self.manifest.some_rows("test" if self.runner.scale == "smoke" else self.runner.table.scored)
        chosen = [rows[at] for at in np.linspace(0, len(rows) - 1, min(TILES, len(rows))).round().astype(int)]
        return [ImageScore(row, ConfusionMatrix(len(self.legend)), row.window.middle(SIDE)) for row in chosen]

    def previews(self, label: str, prompts: Sequence[int] = ()) -> list[Preview]:
        """Return image, truth and a row's prediction for each tile, each under one of the model's prompts if named."""
        _, options = self.runner.scoring(self.runs[label])
        settings = ScoringSettings(options, self.manifest.ignore_unknown, self.mappings.get(label))
        place = self.places[label]
        models = [place.for_prompt(one) for one in prompts] or [place.at(tile.row) for tile in self.tiles]
        networks = [(scoring_network(model, settings), tile) for model, tile in zip(models, self.tiles, strict=True)]
        return [read_preview(network, tile, self.set_legend, settings) for network, tile in networks]

    def prompts(self, label: str) -> tuple[list[int], list[int]]:
        """Return each tile's prompt under a row's model, and another zone's whose text is least like it, by position.

        Two texts are as alike as the mean features of their tokens, by the cosine of the two.
        """
        prompts = [self.places[label].prompt_of(tile.row) for tile in self.tiles]
        network: Any = self.models[label].network.network
        means = F.normalize(mean_of_tokens(network.text.float(), network.present), dim=1)
        zones = np.array([zone_of(key) for key in self.models[label].prompts])
        same = torch.from_numpy(zones[prompts][:, None] == zones)  # of several seasons
        return prompts, (means[prompts] @ means.T).masked_fill(same, torch.inf).argmin(1).tolist()

    def placed(self, label: str, tile: ImageScore) -> Segmenter:
        """Return a row's model for the place of a tile."""
        return self.places[label].at(tile.row)


def zone_of(key: str) -> str:
    """Return the climate zone of a prompt's key, which may name a season too."""
    return key.partition("/")[0]


def teachers(runner: Runner, run: TrainingRun) -> Iterator[tuple[str, Segmenter | Encoder]]:
    """Yield the teachers of a run and of those before it, by name."""
    for one in run.chain():
        teacher = one.recipe.teacher
        taught = [before.run for before in one.before if before.step.into == "teacher.segmenter"]
        for before in taught:
            yield "teacher", Segmenter.load(runner.trained(before) / "segmenter")
        if teacher is not None and teacher.segmenter is None and not taught:
            yield f"teacher {teacher.encoder}", build_encoder(teacher.encoder, weights=teacher.weights).eval()


def logged(folder: Path) -> list[dict[str, str]]:
    """Return the lines of a run's CSV logs, those of each call after those before it."""
    lines: list[dict[str, str]] = []
    for file in sorted((folder / "csv").glob("*/metrics.csv")):
        with file.open(encoding="utf-8", newline="") as opened:
            lines += csv.DictReader(opened)
    return lines
