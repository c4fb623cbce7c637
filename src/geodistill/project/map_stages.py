"""The stages that hand results on: `predict`, `export`, `report`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geodistill.engine import Machines
from geodistill.errors import DataError, RecipeError
from geodistill.inference.options import PredictOptions
from geodistill.project.project_file import ProjectFile, typed_values
from geodistill.project.stage_job import StageJob, StageResult
from geodistill.project.stage_records import read_record
from geodistill.project.stage_table import key_types, kind_of
from geodistill.report.report_options import ReportOptions


def predict_options(project: ProjectFile, settings: Mapping[str, Any]) -> PredictOptions:
    """Return what a stage's settings mean to `predict`; finished maps are left as they are.

    Raises:
        RecipeError: A number is out of range.
        UnknownNameError: A name is not among the choices.
    """
    values = typed_values(settings, key_types("predict"), f"{project.path}, predict")
    known = {key: value for key, value in values.items() if key in PredictOptions.__dataclass_fields__}
    if known.get("aoi"):
        known["aoi"] = project.resolve(known["aoi"])
    return PredictOptions(**known, resume=True)


def run_predict(job: StageJob) -> StageResult:
    """Map scenes.

    Raises:
        GeodistillError: As `geodistill.inference.predict.predict`.
    """
    from geodistill.inference.predict import predict

    values = job.values
    maps = predict(
        job.model(),
        job.places(values["scenes"]),
        job.folder,
        predict_options(job.project, job.plan.stage.settings),
        stack=values.get("stack", False),
        mosaic=values.get("mosaic", False),
        machines=Machines(**job.of_options(Machines)),
    )
    failed = [scene_map for scene_map in maps if scene_map.error is not None]
    if failed:
        raise DataError(f"{len(failed)} of {len(maps)} scenes have no map, first {failed[0].source}: {failed[0].error}")
    holes = sum(len(scene_map.holes) for scene_map in maps)
    summary = f"{len(maps)} map{'s' if len(maps) != 1 else ''}" + (f", {holes} holes" if holes else "")
    facts = {"maps": [scene_map.path.name for scene_map in maps], "holes": holes}
    return StageResult(summary, facts | {"scenes": [scene_map.source for scene_map in maps]})


def run_export(job: StageJob) -> StageResult:
    """Write the model in other forms.

    Raises:
        GeodistillError: As `geodistill.exports.exporters.export`; or an option concerns none of the forms.
    """
    from geodistill.backends.text_inputs import under_zone
    from geodistill.data.manifest import Manifest
    from geodistill.exports.card import read_scores
    from geodistill.exports.exporters import ExportOptions, export, find_exporter
    from geodistill.segmenter import Segmenter

    values = job.values
    forms = [values["to"]] if isinstance(values["to"], str) else list(values["to"])
    options: dict[str, Any] = job.of_options(ExportOptions)
    zone, named = values.get("zone"), job.model()
    model = named if zone is None else under_zone(Segmenter.load(named), zone)
    if values.get("check"):
        options["check"] = job.places(values["check"])
    if values.get("int8"):
        options["calibration"] = Manifest.load(job.place(values["int8"]))
    if values.get("scores"):
        file = Path(job.place(values["scores"]))
        options["scores"] = read_scores(file / "metrics.json" if file.is_dir() else file)
    used = {option for form in forms for option in find_exporter(form).options}
    if idle := sorted(set(options) - used):
        raise RecipeError(f"{job.project.path}, {job.name}: {idle[0]}, which none of {', '.join(forms)} has")
    name, written = job.project.path.stem, list[str]()
    for form in forms:
        exporter = find_exporter(form)
        out = job.folder / exporter.named(name, form)
        known = {key: value for key, value in options.items() if key in exporter.options}
        export(model, form, out, ExportOptions(**known))
        written.append(out.name)
    return StageResult(", ".join(written), {"files": written})


def run_report(job: StageJob) -> StageResult:
    """Write a page of all results, and one of the labels where boxes became masks.

    Raises:
        DataError: No stage left anything that a page could show.
        GeodistillError: As `geodistill.report.write.write_report`.
    """
    from geodistill.report.write import write_report

    title = job.values.get("title") or job.project.path.stem
    options = ReportOptions(title=title, **job.of_options(ReportOptions, but=("title",)))
    labels, shown, options = find_results(job.project, job.wired, options)
    pages = list[Path]()
    if labels is not None:
        pages.append(write_report(labels, job.folder / "labels.html"))
    if shown is not None:
        pages.append(write_report(shown, job.folder / "report.html", options))
    return StageResult(", ".join(page.name for page in pages), {"pages": [page.name for page in pages]})


def write_page(project: ProjectFile, stages: Iterable[str], path: Path | str) -> None:
    """Write one page about all results to a file of the user's: the model or the map, else the labels.

    Raises:
        DataError: No stage left anything that a page could show.
        GeodistillError: As `geodistill.report.write.write_report`.
    """
    from geodistill.report.write import write_report

    labels, shown, options = find_results(project, stages, ReportOptions(title=project.path.stem, speed=False))
    subject = shown or labels
    assert subject is not None
    write_report(subject, path, options)


def find_results(
    project: ProjectFile, stages: Iterable[str], options: ReportOptions
) -> tuple[Path | None, Path | None, ReportOptions]:
    """Return what finished stages left for a page: labels; the model, or else the map; and the options with that map.

    Raises:
        DataError: No stage left anything that a page could show.
    """
    # A stage that is given now may have a record of before.
    records = {name: read_record(project.out, name) for name in stages if not project.stages[name].given}
    done = [name for name, record in records.items() if record is not None]
    labels = _first(done, "label")
    shown = _first(done, "evaluate") or _first(done, "distil") or _first(done, "teacher")
    maps = records.get(_first(done, "predict") or "")
    if maps is not None and maps.facts["maps"]:
        at = project.out / _first(done, "predict") / maps.facts["maps"][0]
        scene = Path(maps.facts["scenes"][0])
        options = replace(options, map=at, scene=scene if scene.is_file() else None)
        shown = shown or str(at)
    if not (labels or shown):
        raise DataError(f"{project.path}, report: no stage to write one about", "a model, a map or labels")
    return project.out / labels if labels else None, project.out / shown if shown else None, options


def _first(names: Sequence[str], kind: str) -> str:
    """Return the stage of a kind: the one that is called so, else the first; empty where there is none."""
    of_kind = [name for name in names if kind_of(name) == kind]
    return kind if kind in of_kind else next(iter(of_kind), "")
