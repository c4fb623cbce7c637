"""`evaluate`: scores of a Segmenter over a whole split, with the files a person looks at."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, GeodistillWarning, OutputError, UnknownNameError
from geodistill.evaluation.classmap import make_class_map
from geodistill.evaluation.figures import confusion_picture
from geodistill.evaluation.report import format_table, write_csv, write_json, write_per_image
from geodistill.evaluation.results import claim_results, held_results, model_files, read_files
from geodistill.evaluation.scoring import ImageScore, Settings, score_image
from geodistill.evaluation.worst import write_worst
from geodistill.inference.location import LocationHint, PerPlaceModel
from geodistill.inference.network import load_on
from geodistill.inference.options import PredictOptions
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.papers.padding import Padding, score_padding
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend

__all__ = ["check_legend", "evaluate", "format_table"]


def evaluate(
    model: Segmenter | Path | str,
    manifest: Manifest | Path | str,
    split: str = "test",
    out: Path | str | None = None,
    *,
    overlap: float = 0.25,
    tta_flips: bool = False,
    subset: Sequence[str] | None = None,
    batch_size: int = 4,
    device: str = "auto",
    worst: int = 12,
    class_map: Mapping[str, str] | None = None,
    whereabouts: LocationHint | None = None,
    padding_as: str | None = None,
    padding_window: int | None = None,
) -> Scores:
    """Score a Segmenter: one confusion matrix over all labelled pixels of a split.

    Predictions come from the same sliding window as `predict` makes maps with. With ``out``, leaves there
    ``metrics.json``, ``metrics.csv`` (a line a class), ``per_image.csv`` (a line an image), ``confusion.png``, and
    ``worst.html`` with its pictures in ``worst/``.

    Args:
        model: A Segmenter, its directory or hub id.
        manifest: The data set.
        split: Its split.
        out: Directory of the results.
        overlap: Overlap of the sliding window, 0 to 0.75.
        tta_flips: Average over horizontal and vertical mirrors.
        subset: Classes the means are taken over, by default all.
        batch_size: Windows a forward pass.
        device: ``auto``, ``cpu``, ``cuda`` ...
        worst: Images, those of lowest mIoU first, shown in ``worst.html``.
        class_map: Class of the set by class of the model, for a set with other classes: scores are those of the
            classes that both have (MetaSegNet's table VI).
        whereabouts: Where images were taken, for a model that asks and a manifest that does not say.
        padding_as: For the reproduction of published figures only: pad each image to a multiple of the window and
            count the padding as this class (`geodistill.papers.padding`). Scores of single images are without it.
        padding_window: That window in pixels; the model's where not given.

    Raises:
        DataError: The split is empty or holds an image without labels, a file cannot be read, or the legend is not
            the model's.
        ArtifactError: There is no such model, or it is altered.
        OutputError: The results cannot be written, or would be written over files that are not ours.
        RecipeError: Overlap, batch size or device cannot be used.
        UnknownNameError: A class of the subset is not in the legend.
    """
    PredictOptions(overlap=overlap, batch=batch_size)  # Numbers out of range are told now.
    folder = None if out is None else Path(out)
    if folder is not None:
        check_place(folder)
    held = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
    held.refuse_problems()
    segmenter = load_on(model, device)
    own, mapping = _legend(held), None
    if class_map is None:
        check_legend(held, segmenter)
    else:
        mapping = make_class_map(class_map, segmenter.spec.legend, own)
        subset = mapping.subset if subset is None else subset
    settings = Settings(overlap, tta_flips, batch_size, held.ignore_unknown, mapping)
    legend = own if mapping is None else mapping.legend
    total = ConfusionMatrix(len(legend))
    total.scores(legend, subset)  # Names that are not in the legend are told now, not after an hour.
    padding = None if padding_as is None else _padding(padding_as, legend, padding_window or segmenter.tile)
    padded = ConfusionMatrix(len(legend))
    images: list[ImageScore] = []
    placed = PerPlaceModel(segmenter, whereabouts or LocationHint())
    rows = held.some_rows(split)
    inputs = [] if folder is None else [*read_files(rows, held.path), *model_files(model)]
    with held_results(folder, worst, inputs):
        for row in tqdm(rows, f"evaluate {split}", unit="image", disable=not sys.stderr.isatty(), delay=2, leave=False):
            images.append(score_image(placed.at(row), row, own, settings))
            total += images[-1].matrix
            if padding is not None:
                score_padding(placed.at(row), row, padding, padded, settings)
        total += padded
        scores = total.scores(legend, subset)
        _refuse_unscored(scores, f"split '{split}' of manifest {held.path or ''}")
        if padding is not None:
            _warn_of_padding(padded, total, str(padding_as))
        if folder is not None:
            about: dict[str, Any] = {
                "model": str(model) if isinstance(model, Path | str) else model.name,
                "manifest": str(held.path or ""),
                "split": split,
                "images": len(images),
                "overlap": overlap,
                "tta_flips": tta_flips,
                "class_map": None if class_map is None else dict(class_map),
                "padding": None,
            }
            if padding is not None:
                about["padding"] = {"as": padding_as, "window": padding.window, "pixels": int(padded.counts.sum())}
            claim_results(folder, worst)
            write_all(folder, scores, images, legend, about)
            write_worst(folder, placed, images, own, legend, scores.subset, settings, worst)
    return scores


def _refuse_unscored(scores: Scores, what: str) -> None:
    if not scores.support.sum():
        raise DataError(f"{what} has no labelled pixel", "labels to score")
    if math.isnan(scores.miou):
        raise DataError(
            f"{what} has no pixel of {', '.join(scores.subset)}, labelled or predicted",
            "a class to score",
            "choose other --classes",
        )


def _warn_of_padding(padded: ConfusionMatrix, total: ConfusionMatrix, name: str) -> None:
    warnings.warn(
        f"{padded.counts.sum():,} of the {total.counts.sum():,} scored pixels are padding counted as {name}: "
        "these scores reproduce a fault of published ones and say nothing else",
        GeodistillWarning,
        stacklevel=3,
    )


def write_all(out: Path, scores: Scores, images: Sequence[ImageScore], legend: Legend, about: dict[str, Any]) -> None:
    """Write tables and confusion matrix.

    Raises:
        OutputError: The directory cannot be written.
    """
    write_csv(out / "metrics.csv", scores)
    write_per_image(out / "per_image.csv", images, legend, scores.subset)
    confusion_picture(scores, out / "confusion.png")
    write_json(out / "metrics.json", scores, about)


def _padding(name: str, legend: Legend, window: int) -> Padding:
    if name not in legend.names:
        raise UnknownNameError("class", name, legend.names)
    return Padding(legend.names.index(name), window)


def check_legend(manifest: Manifest, segmenter: Segmenter) -> Legend:
    """Give a manifest's legend, which must name the Segmenter's classes in its order.

    Raises:
        DataError: Their classes differ.
    """
    legend, known = _legend(manifest), segmenter.spec.legend
    if legend.names != known.names:
        raise DataError(
            f"manifest {manifest.path or ''} has the classes {', '.join(legend.names)}",
            f"the model's: {', '.join(known.names)}",
            "name the classes they have in common with --class-map",
        )
    return legend


def _legend(manifest: Manifest) -> Legend:
    if manifest.legend is None:
        raise DataError(f"manifest {manifest.path or ''} has no classes", "labelled images")
    return manifest.legend


def check_place(out: Path) -> None:
    """Refuse a directory that cannot be made or written, before any work is done.

    Raises:
        OutputError: It cannot.
    """
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "not writable" if nearest.is_dir() else "not a directory"
        raise OutputError(
            f"{out} cannot be written ({nearest} is {reason})", "a writable place", "choose another --out"
        )
