"""The commands that are tortured: each writes below ``out`` and reads below ``in``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

TORCH = ("--backend", "torch", "--device", "cpu")


def _nothing(box: Path) -> None:
    """Begin with an empty ``out``."""


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        name: Its verb and what is special.
        argv: Its words.
        resume: Words added to go on after a kill.
        begun: Where this is not there after a kill, nothing had begun, and the plain command is given again.
        state: Files of an unfinished run, which may be there in any condition after a kill.
        loose: Files that differ from run to run, such as logs.
        folders: Folders that are there whole or not at all.
        slow: Seconds a run takes are several: fewer trials.
        prepare: Called with the box before the command.
    """

    name: str
    argv: tuple[str, ...]
    resume: tuple[str, ...] = ()
    begun: str = ""
    state: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    slow: bool = False
    prepare: Callable[[Path], None] = field(default=_nothing)

    @property
    def verb(self) -> str:
        """The verb, without what is special."""
        return self.name.partition(":")[0]

    def is_loose(self, name: str) -> bool:
        """Whether a file's name is one of `loose`."""
        return any(fnmatchcase(name, pattern) for pattern in self.loose)

    def is_state(self, name: str) -> bool:
        """Whether a file's name is one of `state`, or hidden, or below a hidden folder."""
        hidden = any(part.startswith(".") for part in name.split("/"))
        return hidden or any(fnmatchcase(name, pattern) for pattern in self.state)


def _fit(recipe: str, *more: str) -> tuple[str, ...]:
    return ("fit", "--config", f"in/{recipe}.yaml", "--data.manifest", "in/m.parquet", "--out", "out/run", *more)


def _label(*more: str) -> tuple[str, ...]:
    start = ("label", "build", "--images", "in/det/images", "--boxes", "in/det/boxes.json", "--format", "coco")
    return (*start, "--out", "out/set", *more)


def _predict(*more: str) -> tuple[str, ...]:
    return ("predict", "--model", "in/model", *TORCH, "--overlap", "0", "--input", *more)


def _export(to: str, out: str) -> tuple[str, ...]:
    return ("export", "--model", "in/model", "--to", to, "--out", out)


def _evaluate(*more: str) -> tuple[str, ...]:
    start = ("evaluate", "--model", "in/model", "--manifest", "in/m.parquet", "--split", "val", "--device", "cpu")
    return (*start, "--out", "out/ev", *more)


def _own_manifest(box: Path) -> None:
    shutil.copy2(box / "in" / "m.parquet", box / "out" / "m.parquet")
    shutil.copytree(box / "in" / "set", box / "out" / "set")  # it names them by their places beside it


RUN = {
    "state": ("out/run/checkpoints/*", "out/run/logs/*", "out/run/pictures/*", "out/cache/*"),
    "loose": ("out/run/logs/*", "out/run/checkpoints/*", "out/cache/*"),
    "folders": ("out/run/segmenter", "out/run/encoder"),
}
SET = {"resume": ("--resume",), "begun": "out/set/settings.json", "loose": ("out/set/.journal*",)}
BOX_TILES = ("--segmenter", "box", "--tile", "40", "--overlap", "8")

CASES = {
    case.name: case
    for case in (
        Case("predict:layers", _predict("in/scenes/s0.tif", "--out", "out/map.tif", "--confidence", "--probabilities",
             "float16", "--vector", "gpkg", "--stac"), ("--resume",)),
        Case("predict:scenes", _predict("in/scenes/s0.tif", "in/scenes/s1.tif", "in/scenes/s2.tif", "--out", "out/maps",
             "--confidence", "--vector", "geojson"), ("--resume",)),
        Case("predict:blocks", _predict("in/scenes/v.vrt", "--out", "out/map.tif", "--blocks", "3", "--probabilities",
             "float32", "--vector", "parquet"), ("--resume",)),
        Case("label:grabcut", _label("--segmenter", "grabcut", "--tile", "40", "--overlap", "8"), **SET),
        Case("label:box", _label("--segmenter", "box", "--background", "ground", "--empty", "keep"), **SET),
        Case("fit:validation", _fit("early"), **RUN),
        Case("fit:uneven", _fit("early", "--trainer.save_every_steps", "3", "--trainer.patience", "null"), **RUN),
        Case("fit:cache", _fit("cached"), **RUN),
        Case("fit:ktda", _fit("ktda"), **RUN),
        Case("fit:kda", _fit("kda"), **RUN),
        Case("scan", ("data", "scan", "--images", "in/set/images", "--masks", "in/set/masks",
             "--legend", "in/legend.yaml", "--out", "out/m.parquet")),
        Case("stats", ("data", "stats", "--manifest", "out/m.parquet"), prepare=_own_manifest),
        Case("patches", ("data", "patches", "--manifest", "in/m.parquet", "--size", "24", "--out", "out/patches"),
             folders=("out/patches",)),
        Case("evaluate", _evaluate(), folders=("out/ev/shown",)),
        Case("ablate", ("label", "ablate", "--images", "in/det/images", "--boxes", "in/det/boxes.json", "--format",
             "coco", "--segmenter", "box", "--out", "out/ablation")),
        Case("label stats", ("label", "stats", "--set", "in/det/boxes.json", "--out", "out/figures")),
        Case("export:hub", _export("hub", "out/hub"), folders=("out/hub",)),
        Case("export:onnx", _export("onnx", "out/m.onnx"), slow=True),
        Case("export:qgis", _export("qgis", "out/m.onnx"), slow=True),
        Case("export:stac", _export("stac", "out/stac"), slow=True, loose=("out/stac/item.json",)),  # it says when
    )
}  # fmt: skip
"""By name."""

RESUMED = tuple(name for name, case in CASES.items() if case.verb in ("predict", "label", "fit"))
"""Those that go on where they were stopped."""

WHOLE = tuple(name for name in CASES if name not in RESUMED)
"""Those that write whole or not at all."""

SAMPLE = ("predict:layers", "label:box", "fit:validation")
"""Those of which a share of the trials is made."""
