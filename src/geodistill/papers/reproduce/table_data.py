"""The data of a table: made-up scenes for a smoke run, the official sets for a full one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.find import scan_set
from geodistill.data.fraction import check_fraction
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import ArtifactError, DataError
from geodistill.methods.schema import Recipe
from geodistill.nn.encoders import build_encoder
from geodistill.papers.reproduce.planner import TrainingRun
from geodistill.papers.reproduce.row_recipe import known_keys, put, value_of
from geodistill.papers.table import Table
from geodistill.spec import Legend
from geodistill.synthetic import LEGEND, REGIONS, draw_scene, write_scene
from geodistill.text.text_encoders import open_text_encoder

SCENES, SIDE = 6, 160
"""Made-up scenes of a set, and their side in pixels."""

WEIGHT_KEYS = {
    "network.encoder_weights": "network.encoder",
    "teacher.weights": "teacher.encoder",
    "losses.phase.discriminator.weights": "losses.phase.discriminator.encoder",
}
"""Recipe keys that may name a file of weights, or the hub's, with the key of the encoder that they are of."""


@dataclass(frozen=True)
class MadeUpSets:
    """Made-up sets, a town's scenes for each set of the catalogue, with two classes where that has two.

    Attributes:
        folder: Where they are drawn.
    """

    folder: Path
    words: str = "made-up scenes"

    def identity(self, name: str) -> dict[str, Any]:
        """Return what decides what the set holds: sets with one identity are one."""
        return {"made up": name, "scenes": SCENES, "side": SIDE, "classes": len(self._legend(name))}

    def manifest(self, name: str, layout: str | None = None) -> Path:
        """Draw and scan a set, where that was not done yet; return its manifest. It has one layout only."""
        folder = self.folder / f"made-up-{SCENES}x{SIDE}"
        path, images, legend = folder / f"{name}.parquet", folder / name, self._legend(name)
        if path.is_file():
            return path
        number = sorted(CATALOG).index(name)
        region = list(REGIONS.values())[number % len(REGIONS)]
        for at in range(SCENES):
            scenes = (draw_scene(SIDE, region, seed) for seed in count(100 * number + at, SCENES))
            if legend is not LEGEND:
                building = LEGEND.names.index("building")
                scenes = (replace(one, mask=(one.mask == building).astype(np.uint8)) for one in scenes)
            scene = next(one for one in scenes if len(np.unique(one.mask)) > 1)  # one class alone teaches nothing
            write_scene(scene, images, f"{name}_{at}")
        scan(images / "images", images / "masks", path, legend=legend, split=SplitPlan(fractions=(0.5, 1 / 6, 1 / 3)))
        return path

    def place_weights(self, recipe: Recipe) -> Recipe:
        """Return the recipe as it is: a smoke run has no weights from anywhere."""
        return recipe

    def _legend(self, name: str) -> Legend:
        real = CATALOG[name].legend
        two = real is not None and len(real) == 2
        return Legend(("background", "building"), LEGEND.colours[:2]) if two else LEGEND


@dataclass(frozen=True)
class OfficialSets:
    """The official sets below a root: in folders of their names, or the root is the one set that is asked for.

    Attributes:
        root: The folder; ``root/weights`` holds the files of weights that rows name.
        folder: Where manifests are written.
        table: Names its own set and the variants of it.
    """

    root: Path
    folder: Path
    table: Table
    words: str = field(init=False, default="the official set")

    def identity(self, name: str, layout: str | None = None) -> dict[str, Any]:
        """Return what decides what the set holds: sets with one identity are one."""
        table = self.table
        split, trained = (table.split, table.layout) if name == table.dataset else (None, None)
        return {"set": name, "root": str(self.root.resolve()), "split": split, "layout": layout or trained}

    def manifest(self, name: str, layout: str | None = None) -> Path:
        """Scan a set by its official layout and split, where that was not done yet; return its manifest.

        Args:
            name: The set.
            layout: Variant of its files; the table's where not given.

        Raises:
            DataError: There is no such folder, it holds another set, or files are missing.
        """
        identity = self.identity(name, layout)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        path = self.folder / digest / f"{name}.parquet"
        if not path.is_file():
            scan_set(
                CATALOG[name],
                self._place(name),
                path,
                split=identity["split"],
                layout=identity["layout"],
                progress=True,
            )
        return path

    def place_weights(self, recipe: Recipe) -> Recipe:
        """Return the recipe with its files of weights found below ``root/weights``.

        Raises:
            ArtifactError: One is neither there nor where the recipe says.
        """
        for key in WEIGHT_KEYS:
            value = value_of(recipe, key) if key in known_keys(recipe) else None
            if value in (None, "pretrained") or Path(value).exists():
                continue
            file = self.root / "weights" / value
            if not file.exists():
                raise ArtifactError(
                    f"weights {value} ({key}) are neither here nor at {file}",
                    "the checkpoint of their publication",
                    f"put it there, or name another with --set {key}=FILE",
                )
            recipe = put(recipe, key, str(file))
        return recipe

    def _place(self, name: str) -> Path:
        for known in filter(None, (name, CATALOG[name].archive)):
            for place in (self.root / known, self.root / f"{known}.zip"):
                if place.exists():
                    return place
        if name != self.table.dataset:
            raise DataError(
                f"no folder {self.root / name}",
                f"{CATALOG[name].title}, which this table needs as well",
                f"put it there; download it from {CATALOG[name].source}",
            )
        return self.root


Source = MadeUpSets | OfficialSets


def check_fractions(runs: Iterable[TrainingRun], source: Source) -> None:
    """Refuse runs on less than one window of their set's labels, before any of them or of those before it is trained.

    Raises:
        RecipeError: There is one.
    """
    asked = {(run.sets[0], run.recipe.data.fraction, run.recipe.data.crop) for run in runs}
    for name, fraction, crop in asked:
        if fraction is not None:
            check_fraction(Manifest.load(source.manifest(name)), fraction, crop)


def look_for_weights(runs: Mapping[str, Sequence[TrainingRun]], source: Source) -> None:
    """Fetch the hub's weights and look for the files of all rows, before any of them is trained.

    Args:
        runs: The runs by row.
        source: Knows where files of weights lie.

    Raises:
        ArtifactError: Some are not available; the message names them and the rows that need them.
    """
    missing: dict[str, list[str]] = {}
    opened: dict[str, str] = {}
    for label, row_runs in runs.items():
        for run in row_runs:
            for problem in filter(None, _problems(run, source, opened)):
                missing.setdefault(problem, []).append(label)
    if missing:
        lines = [f"{problem} (rows {', '.join(dict.fromkeys(labels))})" for problem, labels in missing.items()]
        raise ArtifactError("; ".join(lines), "", "or run the other rows with --rows")


def _problems(run: TrainingRun, source: Source, opened: dict[str, str]) -> Iterator[str]:
    """Yield what hinders a run's weights; what was opened once is not opened again."""
    recipe = run.recipe
    for before in run.before:
        if before.step.into == "teacher.segmenter":
            recipe = put(recipe, "teacher.weights", None)
    try:
        recipe = source.place_weights(recipe)
    except ArtifactError as error:
        yield str(error)
    keys = known_keys(recipe)
    named = [(value_of(recipe, key), value_of(recipe, encoder)) for key, encoder in WEIGHT_KEYS.items() if key in keys]
    encoders = [encoder for weights, encoder in named if weights == "pretrained"]
    if recipe.method == "kda" and not recipe.phase_steps:
        encoders = encoders[:1]
    for encoder in encoders:
        if encoder not in opened:
            opened[encoder] = _reason(lambda name: build_encoder(name, weights="pretrained"), encoder)
        yield opened[encoder]
    text = value_of(recipe, "text.encoder")
    if text is not None and text not in opened:
        opened[text] = _reason(open_text_encoder, text)
    yield opened.get(text or "", "")


def _reason(opening: Callable[[str], object], name: str) -> str:
    try:
        opening(name)
    except ArtifactError as error:
        return str(error)
    return ""


def with_data(run: TrainingRun, source: Source) -> Recipe:
    """Return a run's recipe with its manifests.

    Raises:
        DataError: A set is not there or not whole.
    """
    manifests = [str(source.manifest(name)) for name in run.sets]
    if len(manifests) > 1:
        return put(run.recipe, "data.manifests", tuple(manifests))
    return put(run.recipe, "data.manifest", manifests[0])


def identities(source: Source) -> Mapping[str, Any]:
    """Return the identity of every set in the catalogue."""
    return {name: source.identity(name) for name in CATALOG}
