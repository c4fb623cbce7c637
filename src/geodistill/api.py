"""What `import geodistill` offers as functions: they take what a person has at hand and return objects with figures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geodistill.data.manifest import Manifest
from geodistill.data.written_manifest import written_file
from geodistill.errors import GeodistillWarning, RecipeError, shown
from geodistill.spec import Classes, as_legend

if TYPE_CHECKING:
    from geodistill.data.datamodule import DataModule
    from geodistill.evaluation.comparison import Comparison
    from geodistill.inference.layers import SceneMap
    from geodistill.inference.options import PredictChoices
    from geodistill.label.accounts import Account
    from geodistill.label.config import LabelChoices
    from geodistill.methods.schema import Recipe
    from geodistill.metrics import Scores
    from geodistill.segmenter import Segmenter
    from geodistill.training.fit import FitResult

Data = Manifest | Path | str
"""A data set: its manifest, or the file of it."""


def scan(
    images: Path | str | Sequence[Path | str],
    masks: Path | str | Sequence[Path | str] | None = None,
    out: Path | str = "manifest.parquet",
    *,
    legend: Classes | None = None,
    split: Mapping[str, Any] | None = None,
    unlabelled: bool = False,
    progress: bool = True,
) -> Manifest:
    r"""Pair images with masks by name, divide them, measure them, and write a manifest.

    Args:
        images: Folder, folders or files of images.
        masks: Folder, folders or files of masks; found beside the images where not given.
        out: The manifest to write.
        legend: The classes; without one, the values found in single-band masks.
        split: Fields of `SplitPlan`, as ``{"kind": "group", "group_regex": "Tile_\\d"}``; else files, 70 to 15 to 15.
        unlabelled: Take images without mask too.
        progress: Show progress bars.

    Returns:
        The manifest, written to ``out``.

    Raises:
        DataError: Nothing to scan, no pair found, or a file has problems; training would refuse the manifest.
        OutputError: The manifest cannot be written.

    Example:
        >>> len(gd.scan("town/images", "town/masks", legend=["ground", "building"]).entries)
        8
    """
    from geodistill.data.scan import scan as scan_folders
    from geodistill.data.splits import SplitPlan
    from geodistill.data.statistics import misread_in

    manifest = scan_folders(
        images,
        masks,
        out,
        legend=None if legend is None else as_legend(legend),
        split=None if split is None else SplitPlan(**split),
        unlabelled=unlabelled,
        progress=progress,
    ).manifest
    manifest.refuse_problems()
    classes, statistics = manifest.legend, manifest.statistics
    if classes is not None and statistics is not None and (misread := misread_in(classes, statistics)):
        warnings.warn(misread, GeodistillWarning, stacklevel=2)
    return manifest


@dataclass(frozen=True)
class Labels:
    """What `label_boxes` made.

    Attributes:
        folder: Where it lies.
        account: Where every image and box went, as ``label.json`` holds it.
        manifest: The data set, for `fit`.
    """

    folder: Path
    account: Account
    manifest: Manifest

    def __str__(self) -> str:
        from geodistill.label.accounts import format_account

        return format_account(self.account, self.folder)


def label_boxes(
    images: Path | str,
    boxes: Path | str,
    out: Path | str,
    format: str,
    *,
    resume: bool = False,
    progress: bool = True,
    **choices: Unpack[LabelChoices],
) -> Labels:
    """Make masks for every box of a detection data set.

    Args:
        images: Folder of the images.
        boxes: File or folder of the annotations.
        out: A new folder, or with ``resume`` that of an earlier run.
        format: Annotation format: ``coco``, ``yolo``, ``voc``, ``dota``, ``geojson`` ...
        resume: Continue a run that was stopped.
        progress: Show progress bars.
        choices: See `LabelChoices`; by default GrabCut and whole images.

    Returns:
        The folder, its account and its manifest.

    Raises:
        DataError: Annotations or images cannot be used.
        OutputError: The folder holds something else, or cannot be written.
        RecipeError: A choice makes no sense.

    Example:
        >>> labels = gd.label_boxes("town/images", "town/boxes.json", "labelled", "coco", background="ground")
        >>> labels.manifest.legend.names
        ('ground', 'building')
    """
    from geodistill.label.build_labels import build
    from geodistill.label.config import chosen_settings

    places = {"images": Path(images), "boxes": Path(boxes), "format": format}
    account = build(chosen_settings(choices | places), out, resume=resume, progress=progress)
    return Labels(Path(out), account, Manifest.load(Path(out) / "manifest.parquet"))


def fit(
    recipe: Recipe | Path | str | Mapping[str, Any],
    out: Path | str,
    *,
    data: Data | DataModule | None = None,
    settings: Mapping[str, Any] | None = None,
    restart: bool = False,
    verbose: bool = False,
) -> FitResult:
    """Train a recipe; an interrupted run continues where it stopped when the call is made again.

    Args:
        recipe: The name of a shipped one, a YAML file, a mapping of recipe keys, or a Recipe.
        out: Directory of the run.
        data: A manifest or its file, or a DataModule of datasets of tensors; by default what the recipe names.
        settings: Values by dotted recipe key.
        restart: Begin anew where ``out`` holds an earlier run.
        verbose: Show library logs.

    Returns:
        Where the Segmenter lies, its validation mIoU, its step, the minutes it took.

    Raises:
        RecipeError: A setting cannot be used, or ``out`` holds a finished run or one of another recipe.
        DataError: The data cannot be trained on.
        OutputError: ``out`` cannot be written.

    Example:
        >>> result = gd.fit("supervised-folder", "runs/first", data="manifest.parquet", settings={"data.crop": 64})
        >>> result.segmenter.name
        'segmenter'
    """
    from geodistill.data.datamodule import DataModule
    from geodistill.training.fit import fit as train
    from geodistill.training.student_plan import plan_recipe

    if isinstance(data, DataModule):
        planned, lines = plan_recipe(recipe, settings or {}, data.manifest)
        return train(planned, out, data=data, restart=restart, verbose=verbose, plan=lines)
    asked = {**(settings or {}), **({} if data is None else {"data.manifest": str(_manifest_file(data))})}
    planned, lines = plan_recipe(recipe, asked)
    return train(planned, out, restart=restart, verbose=verbose, plan=lines)


def evaluate(
    model: Segmenter | Path | str,
    data: Data,
    split: str = "test",
    out: Path | str | None = None,
    *,
    overlap: float = 0.25,
    flips: bool = False,
    scales: Sequence[float] | None = None,
    subset: Sequence[str] | None = None,
    device: str = "auto",
) -> Scores:
    """Score a model: one confusion matrix over all labelled pixels of a split.

    Args:
        model: A Segmenter, its directory, a run or a hub id.
        data: The data set.
        split: ``train``, ``val`` or ``test``.
        out: Directory that gets tables, pictures, images and ``report.html``; nothing is written without one.
        overlap: Overlap of the sliding window, 0 to 0.75.
        flips: Average over four mirrors.
        scales: Average over the image at these factors of its size; the model's own where not given.
        subset: Classes the means are taken over, by default all.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Returns:
        The scores; printed, a table.

    Raises:
        DataError: The split is empty or does not fit the model.
        ArtifactError: There is no such model.
        OutputError: The results cannot be written.

    Example:
        >>> gd.evaluate("runs/student", "manifest.parquet").names
        ('ground', 'building')
    """
    from geodistill.evaluation.evaluate import evaluate as score
    from geodistill.evaluation.evaluate_options import EvaluateOptions
    from geodistill.evaluation.results import REPORT
    from geodistill.report.report_options import ReportOptions
    from geodistill.report.write import write_report

    sizes = None if scales is None else tuple(scales)
    options = EvaluateOptions(overlap=overlap, flips=flips, scales=sizes, subset=subset, device=device)
    scores = score(model, data, split, out, options)
    if out is not None:
        write_report(out, Path(out) / REPORT, ReportOptions(speed=False))
    return scores


def predict(
    model: Segmenter | Path | str,
    scenes: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    workers: int = 1,
    **choices: Unpack[PredictChoices],
) -> list[SceneMap]:
    """Map scenes of any size into georeferenced files, in memory that does not grow with their height.

    Args:
        model: A Segmenter, its directory, a run or a hub id.
        scenes: A scene or several: rasters, folders of band files, STAC items, tile indexes, addresses.
        out: The map, ``.tif``; or a directory, which gets one for each scene.
        workers: Scenes, or blocks of one, that are worked on at once.
        choices: See `PredictChoices`.

    Returns:
        The map of each scene, with what was written beside it.

    Raises:
        DataError: A scene cannot be read or has other bands than the model.
        OutputError: A map cannot be written, or would replace an input.
        RecipeError: A choice cannot be used.

    Example:
        >>> made = gd.predict("runs/student", "city.tif", "city_map.tif", vector="gpkg")
        >>> made[0].path.name, made[0].vectors.name
        ('city_map.tif', 'city_map.gpkg')
    """
    from geodistill.engine import Machines
    from geodistill.inference.options import PredictOptions
    from geodistill.inference.predict import predict as map_scenes

    several = [scenes] if isinstance(scenes, Path | str) else list(scenes)
    return map_scenes(model, several, out, PredictOptions(**choices), machines=Machines(workers=workers))


def compare(
    *models: Path | str,
    teacher: Path | str | None = None,
    data: Data | None = None,
    split: str = "test",
    device: str = "auto",
) -> Comparison:
    """Compare students with their teacher: parameters, operations, speed here, and what share of its mIoU they keep.

    Args:
        models: Segmenter directories, runs or hub ids.
        teacher: The teacher of all of them, instead of what their recipes say.
        data: Score every model on this data set, instead of taking the validation score it was trained with.
        split: Its split.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Returns:
        The comparison; printed, a table.

    Raises:
        ArtifactError: There is no such model.
        DataError: The data set cannot be scored on.
        RecipeError: What is to be compared is neither a path nor a hub id.

    Example:
        >>> len(gd.compare("runs/student", "runs/other", data="manifest.parquet").models)
        2
    """
    if wrong := [model for model in models if not isinstance(model, Path | str)]:
        raise RecipeError(f"compare with {shown(wrong[0])}", "paths or hub ids", "make each an argument")
    from geodistill.evaluation.comparison import compare as compare_models

    manifest = None if data is None else _manifest_file(data)
    return compare_models(models, teacher=teacher, manifest=manifest, split=split, device=device)


def export(model: Segmenter | Path | str, to: str, out: Path | str, **options: Any) -> object:
    """Write a model in another form.

    Args:
        model: A Segmenter, its directory, a run or a hub id.
        to: ``onnx``, ``qgis`` (Deepness), ``pt2`` (torch.export), ``openvino``, ``tflite``, ``stac`` or ``hub``.
        out: The file or directory to make.
        options: Fields of `geodistill.exports.exporters.ExportOptions`.

    Returns:
        What was written; printed, a text.

    Raises:
        UnknownNameError: There is no such form.
        ArtifactError: The model cannot be exported so.
        OutputError: The place cannot be written.

    Example:
        >>> written = gd.export("runs/student", "onnx", "student.onnx", size=64)
    """
    from geodistill.exports import exporters

    if isinstance(options.get("calibration"), Path | str):
        options["calibration"] = Manifest.load(options["calibration"])
    try:
        asked = exporters.ExportOptions(**options)
    except TypeError as error:
        raise RecipeError(f"export with {', '.join(options)}", "fields of ExportOptions") from error
    return exporters.export(model, to, out, asked)


def _manifest_file(data: Data) -> Path:
    return written_file(data) if isinstance(data, Manifest) else Path(data)
