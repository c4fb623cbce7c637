"""The stages that make and look at data: `label`, `scan`, `check`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geodistill.data.layout import find_mask_places
from geodistill.errors import DataError, RecipeError, check_name
from geodistill.files import write_text
from geodistill.label.config import LabelSettings, chosen_settings
from geodistill.lazy import load
from geodistill.project.project_file import ProjectFile, typed_values
from geodistill.project.stage_job import StageJob, StageResult
from geodistill.project.stage_table import key_types
from geodistill.project.wiring import SIGN

FINDINGS = "findings.json"


def label_settings(project: ProjectFile, settings: Mapping[str, Any]) -> LabelSettings:
    """Return what a stage's settings mean to `label build`: keys override the preset, which overrides the defaults.

    Raises:
        RecipeError: There is no format, or a value makes no sense.
        UnknownNameError: There is no such choice.
    """
    values = typed_values(settings, key_types("label"), "label")
    if not (values.get("format") or values.get("preset")):
        raise RecipeError(f"{project.path}, label without format", "format: coco, or a preset")
    if values.get("legend") and values.get("classes"):
        raise RecipeError(f"{project.path}, label: both legend and classes", "one of them")
    kept = LabelSettings.__dataclass_fields__.keys() - {"rules"}
    given = {key: value for key, value in values.items() if key in kept and (value or key not in ("classes", "lists"))}
    given |= {key: Path(project.resolve(str(given[key]))) for key in ("images", "boxes", "lists") if given.get(key)}
    kind, colon, weights = given.get("segmenter", "grabcut").partition(":")
    if colon and Path(project.resolve(weights)).exists():
        given["segmenter"] = f"{kind}:{project.resolve(weights)}"
    legend = project.resolve(values["legend"]) if values.get("legend") else None
    chosen = chosen_settings(given, preset=values.get("preset"), legend=legend, rules=settings.get("rules", {}))
    check_name("format of boxes", chosen.format, load("geodistill.label.formats.detection:FORMATS"))
    return chosen


def found_classes(project: ProjectFile, settings: Mapping[str, Any]) -> list[Path] | None:
    """Return the file that names the classes of YOLO's boxes, which may stand above them; ``None`` of other formats.

    Raises:
        DataError: It cannot be used.
        GeodistillError: As `label_settings`.
    """
    chosen = label_settings(project, settings)
    if chosen.format != "yolo":
        return None
    listed = load("geodistill.label.formats.yolo_set:find_class_list")(chosen.boxes)
    return [] if listed is None else [listed.file]


def run_label(job: StageJob) -> StageResult:
    """Make masks for every box.

    Raises:
        GeodistillError: As `geodistill.label.build_labels.build`.
    """
    from geodistill.label.build_labels import WorkerOptions, build

    settings = label_settings(job.project, job.plan.stage.settings)
    work = WorkerOptions(**job.of_options(WorkerOptions), batch=job.values.get("batch_size"))
    keep_going = job.values.get("keep_going", False)
    root = job.project.path.parent
    account = build(settings, job.folder, work=work, resume=True, keep_going=keep_going, progress=True, moves_with=root)
    images, boxes = account["images"], account["boxes"]
    summary = f"{images['labelled']} of {images['in']} images, {boxes['labelled']} of {boxes['in']} boxes labelled"
    return StageResult(summary, {"images": images, "boxes": boxes, "seed": settings.seed})


def found_masks(project: ProjectFile, settings: Mapping[str, Any]) -> list[Path] | None:
    """Return the folders of masks that `data scan` finds by itself; ``None`` where masks are named or not needed.

    Raises:
        RecipeError: A value is of another type.
    """
    values = typed_values(settings, key_types("scan"), "scan")
    if values.get("masks") or values.get("unlabelled"):
        return None
    named = [name for name in _several(values["images"]) if not name.startswith(SIGN)]
    return find_mask_places([Path(project.resolve(name)) for name in named])


def run_scan(job: StageJob) -> StageResult:
    """Write a manifest.

    Raises:
        GeodistillError: As `geodistill.data.scan.scan`, or a file has problems.
    """
    from geodistill.data.scan import scan
    from geodistill.data.splits import SplitPlan

    values = job.values
    plan = values.get("split", SplitPlan())
    named = {key: Path(job.place(str(path))) for key in ("group_file", "lists") if (path := getattr(plan, key))}
    report = scan(
        job.places(values["images"]),
        job.places(values["masks"]) if values.get("masks") else None,
        job.folder / "manifest.parquet",
        legend=job.place(values["legend"]) if values.get("legend") else None,
        unlabelled=values.get("unlabelled", False),
        include=values.get("include", "*"),
        split=replace(plan, **named),
        ignore_unknown=values.get("ignore_unknown", False),
        progress=True,
    )
    report.manifest.refuse_problems()
    # Where it is as versions before wrote it, it stays so: what was trained on it has not changed.
    if not job.is_as_recorded("manifest.parquet"):
        report.manifest.save(job.folder / "manifest.parquet", moves_with=job.project.path.parent)
    scanned = report.to_dict()
    counts = ", ".join(f"{split} {count}" for split, count in scanned["images"].items())
    left = len(report.images_without_mask)
    summary = f"{len(report.manifest.entries)} images ({counts})" + (f", {left} without mask" if left else "")
    return StageResult(summary, {key: scanned[key] for key in ("images", "bands", "notes")} | {"seed": plan.seed})


def manifest_moved(project: ProjectFile, settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether a manifest names images or masks elsewhere than where the project has them now: it was copied or moved.

    Raises:
        DataError: The manifest cannot be read.
    """
    from geodistill.data.manifest import Manifest

    named = [item for key in ("images", "masks") for item in _several(settings.get(key))]
    if any(item.startswith(SIGN) for item in named):
        return False
    places = [Path(os.path.abspath(project.resolve(item))) for item in named]  # noqa: PTH100 - as find_pairs does
    places.append(folder)  # tiles of labels
    rows = Manifest.load(folder / "manifest.parquet").entries
    files = [file for row in rows for file in (row.image, row.mask if settings.get("masks") else None) if file]
    return not all(any(file.is_relative_to(place) for place in places) for file in files)


def _several(value: str | Sequence[str] | None) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or ()


def run_check(job: StageJob) -> StageResult:
    """Look for broken files; the findings are written down where none is an error.

    Raises:
        DataError: One is.
    """
    from geodistill.data.check import check
    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(job.place(job.values["data"]))
    findings = check(manifest, expect_crs=job.values.get("expect_crs") or None, progress=True)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise DataError(
            f"{manifest.path} has {len(errors)} error{'s' if len(errors) > 1 else ''}, first: {errors[0].line}",
            "none",
            f"'geodistill data check {manifest.path}' names them all",
        )
    write_text(job.folder / FINDINGS, json.dumps([finding.to_dict() for finding in findings], indent=1))
    kinds = dict(Counter(finding.kind for finding in findings))
    return StageResult(f"{len(manifest.entries)} images, {len(findings)} warnings", {"warnings": kinds})
