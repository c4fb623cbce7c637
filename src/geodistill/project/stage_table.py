"""The stages that a project can have, in their order; a new one is a line here and a function that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, get_type_hints

from geodistill.lazy import load

_SETTINGS = "geodistill.project.stage_settings"


@dataclass(frozen=True)
class StageKind:
    """A kind of stage.

    Attributes:
        about: What it does, for the help of editors.
        run: ``module:function`` that runs it: ``(StageJob)`` in, an `StageResult` out.
        version: Raised when a stage of equal settings would have another result.
        options: ``module:dataclass`` of its keys; of a key in several the first counts.
        check: ``module:function`` that refuses settings that cannot be used, of project and settings; or none.
        required: Keys that it cannot do without.
        files: Keys that name files or folders from outside.
        beside: What such a file or folder stands for that is found without being named, and ``module:function`` that
            returns where, of project and settings; ``None`` where nothing is looked for.
        moved: ``module:function`` of project, settings and folder that says whether a result names files elsewhere than
            where the project has them now; or none.
        placing: Keys that do not change the result.
        result: What of its folder others take by ``$NAME``, relative to it.
        marks: Whether its verb marks the folder as its own.
        is_fit: Whether it trains a recipe, whose keys it takes too.
        unwatched: Files of it that may change: what only an interrupted run needs, or other programs write to.
        decisions: A file of it that a person's work stands in, which stays when the stage is made anew; or none.
        decided: ``module:function`` of its folder and files of it that returns those that are not as the stage's verb
            wrote them when it took the decisions in; or none.
    """

    about: str
    run: str
    options: tuple[str, ...]
    version: int = 1
    check: str = ""
    required: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    beside: tuple[str, str] | None = None
    moved: str = ""
    placing: tuple[str, ...] = ("device", "engine", "workers", "address", "gpus", "readers", "blocks")
    result: str = "."
    marks: bool = False
    is_fit: bool = False
    unwatched: tuple[str, ...] = ()
    decisions: str = ""
    decided: str = ""


def _fit(about: str, result: str = "segmenter") -> StageKind:
    return StageKind(
        about=about,
        run="geodistill.project.model_stages:run_fit",
        options=(f"{_SETTINGS}:FitKeys",),
        required=("recipe",),
        result=result,
        marks=True,
        is_fit=True,
        unwatched=("checkpoints/*", "logs/*", "pictures/*"),
    )


KINDS: dict[str, StageKind] = {
    "label": StageKind(
        about="Boxes of any detection set become masks.",
        run="geodistill.project.data_stages:run_label",
        options=(
            f"{_SETTINGS}:LabelKeys",
            "geodistill.label.config:LabelSettings",
            f"{_SETTINGS}:MachineKeys",
        ),
        check="geodistill.project.data_stages:label_settings",
        required=("images", "boxes"),
        files=("images", "boxes", "legend", "lists", "segmenter"),
        beside=("list of classes", "geodistill.project.data_stages:found_classes"),
        moved="geodistill.project.data_stages:manifest_moved",
        result="manifest.parquet",
        marks=True,
        unwatched=(".journal.jsonl", ".chunk", "review/*"),
        decisions="decisions.json",
        decided="geodistill.label.output_folder:altered_by_hand",
    ),
    "scan": StageKind(
        about="Images and their masks become a manifest.",
        run="geodistill.project.data_stages:run_scan",
        options=(f"{_SETTINGS}:ScanKeys",),
        required=("images",),
        files=("images", "masks", "legend", "group_file", "lists"),
        beside=("masks beside the images", "geodistill.project.data_stages:found_masks"),
        moved="geodistill.project.data_stages:manifest_moved",
        result="manifest.parquet",
    ),
    "check": StageKind(
        about="Look for broken files; errors end the run.",
        run="geodistill.project.data_stages:run_check",
        options=(f"{_SETTINGS}:CheckKeys",),
        files=("data",),
    ),
    "sep": _fit("Pre-train on several labelled sets at once."),
    "teacher": _fit("Train the teacher."),
    "adapt": _fit("Teach the student's encoder a frozen one's features, without labels.", "encoder"),
    "distil": _fit("Train the student, with what the teacher knows."),
    "evaluate": StageKind(
        about="Score a model on a split.",
        run="geodistill.project.model_stages:run_evaluate",
        options=(f"{_SETTINGS}:EvaluateKeys", "geodistill.evaluation.evaluate_options:EvaluateOptions"),
        files=("data", "model"),
        marks=True,
    ),
    "predict": StageKind(
        about="Map scenes.",
        run="geodistill.project.map_stages:run_predict",
        options=(
            f"{_SETTINGS}:PredictKeys",
            "geodistill.inference.options:PredictOptions",
            f"{_SETTINGS}:MachineKeys",
        ),
        check="geodistill.project.map_stages:predict_options",
        required=("scenes",),
        files=("scenes", "model", "aoi"),
        unwatched=("*.aux.xml",),  # QGIS adds statistics to it
    ),
    "export": StageKind(
        about="Write a model in other forms.",
        run="geodistill.project.map_stages:run_export",
        options=(f"{_SETTINGS}:ExportKeys", "geodistill.exports.exporters:ExportOptions"),
        required=("to",),
        files=("model", "int8", "scores", "check"),
    ),
    "report": StageKind(
        about="One page of all results.",
        run="geodistill.project.map_stages:run_report",
        options=("geodistill.report.report_options:ReportOptions",),
    ),
}
"""Kinds by name, in the order in which they run where nothing else says so."""

DATA, FITS = ("label", "scan"), ("sep", "teacher", "adapt", "distil")
"""Kinds that make a manifest, and those that train."""

_LEFT_OUT = {"resume", "colours", "subset", "calibration", "beside", "map", "scene"}
"""Options of the verbs that a project decides itself."""


def kind_of(name: str) -> str:
    """Return the kind of a stage by its name: ``scan`` of ``scan-south``."""
    return name.partition("-")[0]


@cache
def key_types(kind: str) -> Mapping[str, Any]:
    """Return the keys of a kind of stage, each with the type of its value."""
    types: dict[str, Any] = {}
    for target in reversed(KINDS[kind].options):
        options = load(target)
        hints = get_type_hints(options)
        types |= {each.name: hints[each.name] for each in fields(options) if each.name not in _LEFT_OUT}
    return types
