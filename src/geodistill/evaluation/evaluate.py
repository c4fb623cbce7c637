"""`evaluate`: scores of a Segmenter over a whole split, with the files a person looks at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.reader import refuse_moved
from geodistill.engine import progress_bar
from geodistill.errors import DataError, GeodistillWarning
from geodistill.evaluation.classmap import make_class_map
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.intervals import by_place, miou_interval, reliability, score_intervals
from geodistill.evaluation.pictures import confusion_picture
from geodistill.evaluation.results import check_place, claim_results, hold_results, model_files, read_files
from geodistill.evaluation.score_tables import write_csv, write_per_image
from geodistill.evaluation.scoring import (
    ExtraPixels,
    ImageScore,
    ImageWatcher,
    ScoringSettings,
    score_image,
    scoring_network,
)
from geodistill.evaluation.set_coverage import set_figures
from geodistill.evaluation.shown_images import choose_images, write_images
from geodistill.files import write_json
from geodistill.inference.inputs import how_far, sample_moments
from geodistill.inference.location import PerPlaceModel
from geodistill.inference.network import load_on
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.raster.raster import open_image
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec

_LOOKED_AT = 16
"""Images of a split at most that are compared with what the model was trained on."""


@dataclass(frozen=True)
class _Task:
    """One evaluation, once all that it needs was read and fits together.

    Attributes:
        model: The model, by the place of an image.
        rows: The images.
        masks: How the masks encode their classes.
        legend: The classes that are scored.
        subset: Classes that the means are taken over; all where not given.
        settings: How images are segmented.
        window: Side of the model's windows in pixels.
        fingerprint: Of the model, as `Segmenter.fingerprint` tells.
        class_sets: That the model states, see `Segmenter.class_sets`.
    """

    model: PerPlaceModel
    rows: Sequence[Row]
    masks: Legend
    legend: Legend
    subset: Sequence[str] | None
    settings: ScoringSettings
    window: int
    fingerprint: str
    class_sets: Mapping[str, float]


def evaluate(
    model: Segmenter | Path | str,
    manifest: Manifest | Path | str,
    split: str = "test",
    out: Path | str | None = None,
    options: EvaluateOptions | None = None,
    *,
    extra: ExtraPixels | None = None,
    watch: ImageWatcher | None = None,
) -> Scores:
    """Score a Segmenter: one confusion matrix over all labelled pixels of a split.

    Predictions come from the same sliding window as `predict` makes maps with. With ``out``, leaves there
    ``metrics.json``, ``metrics.csv`` (one line per class), ``per_image.csv`` (one line per image), ``confusion.png``,
    and in ``shown/`` the worst, median and best images; `geodistill.report.write_report` makes a page of it all.

    Args:
        model: A Segmenter, its directory or hub id.
        manifest: The data set.
        split: Its split.
        out: Directory of the results.
        options: How it is scored.
        extra: Pixels beside the images' own that count too. Scores of single images are without them.
        watch: Sees the classes and labels of every image, such as `ObjectScoring`.

    Raises:
        DataError: The split is empty or holds an image without labels, a file cannot be read, or the legend is not
            the model's.
        ArtifactError: There is no such model, or it is altered.
        OutputError: The results cannot be written, or would be written over files that are not ours.
        RecipeError: The device cannot be used.
        UnknownNameError: A class of the subset is not in the legend.
    """
    options = options or EvaluateOptions()
    folder = None if out is None else Path(out)
    if folder is not None:
        check_place(folder)
    manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
    task = _prepare(model, manifest, split, options)
    if extra is not None:
        extra.check(task.legend)
    if watch is not None:
        watch.check(task.legend)
    inputs = [] if folder is None else [*read_files(task.rows, manifest.path), *model_files(model)]
    with hold_results(folder, options.worst, inputs):
        images, total, added = _count(task, extra, watch, f"evaluate {split}")
        scores = total.scores(task.legend, task.subset)
        _refuse_unscored(scores, f"split '{split}' of manifest {manifest.path or ''}")
        # Of the images' own pixels alone.
        intervals = None if extra is not None else score_intervals(images, task.legend, scores.subset)
        if intervals is not None:
            scores = replace(scores, interval=miou_interval(intervals), groups=intervals["groups"])
        padding = None if extra is None else extra.report(added, total, task.window)
        if folder is not None:
            about: dict[str, Any] = {
                "model": str(model) if isinstance(model, Path | str) else model.name,
                "fingerprint": task.fingerprint,
                "manifest": str(manifest.path or ""),
                "split": split,
                "images": len(images),
                "overlap": options.overlap,
                "tta_flips": options.flips,
                "scales": None if options.scales is None else list(options.scales),
                "gsd": options.gsd,
                "resize": options.resize,
                "class_map": None if options.class_map is None else dict(options.class_map),
                "padding": padding,
            }
            claim_results(folder, options.worst)
            sets = set_figures(task.class_sets, [image.sets for image in images if image.sets is not None])
            write_all(folder, scores, images, task.legend, about, intervals, sets)
            shown = choose_images(images, task.legend, scores.subset, options.worst)
            write_images(folder, task.model, shown, task.masks, task.legend, task.settings)
    return scores


def place_counts(
    model: Segmenter | Path | str, manifest: Manifest, split: str = "test", options: EvaluateOptions | None = None
) -> dict[str, NDArray[np.int64]]:
    """Count the pixels ``(K, K)`` by true and predicted class of each place of a split; raises as `evaluate` does."""
    task = _prepare(model, manifest, split, options or EvaluateOptions())
    return by_place(_count(task, None, None, f"evaluate {split}")[0])


def _prepare(model: Segmenter | Path | str, manifest: Manifest, split: str, options: EvaluateOptions) -> _Task:
    """Read model and manifest; whatever does not fit together is refused now, not after an hour."""
    manifest.refuse_problems()
    refuse_moved(manifest)
    segmenter = load_on(model, options.device, options.scales)
    rows = manifest.some_rows(split)
    _warn_unlike(rows, segmenter.spec, f"split '{split}' of manifest {manifest.path or ''}")
    masks, mapping, subset = _legend(manifest), None, options.subset
    if options.class_map is None:
        check_legend(manifest, segmenter)
    else:
        mapping = make_class_map(options.class_map, segmenter.spec.legend, masks)
        subset = mapping.subset if subset is None else subset
    legend = masks if mapping is None else mapping.legend
    ConfusionMatrix(len(legend)).scores(legend, subset)  # Refuses names that are not in the legend.
    return _Task(
        PerPlaceModel(segmenter, options.location),
        rows,
        masks,
        legend,
        subset,
        ScoringSettings(options, manifest.ignore_unknown, mapping),
        segmenter.tile,
        segmenter.fingerprint(),
        segmenter.class_sets,
    )


def _warn_unlike(rows: Sequence[Row], spec: Spec, what: str) -> None:
    """Warn in one line where the samples of some images, taken together, lie far from the model's."""
    each = []
    for row in rows[:: -(-len(rows) // _LOOKED_AT)]:
        # Scoring it will come upon what is wrong.
        with suppress(DataError), open_image(row.image, spec.bands) as raster:
            each.append(sample_moments(raster))
    moments = np.array([one for one in each if one is not None and len(one[0]) == len(spec.mean)], np.float64)
    if not len(moments):
        return
    mean = moments[:, 0].mean(0)
    std = np.sqrt(np.maximum((moments**2).sum(1).mean(0) - mean**2, 0))  # E[x^2] - E[x]^2 over all of them
    difference = how_far(spec, mean.tolist(), std.tolist())
    if difference is not None:
        warnings.warn(f"{what} has {difference}", GeodistillWarning, stacklevel=3)


def _count(
    task: _Task, extra: ExtraPixels | None, watch: ImageWatcher | None, title: str
) -> tuple[list[ImageScore], ConfusionMatrix, ConfusionMatrix]:
    """Return the score of each image, the counts of all, and those of extra pixels among them."""
    images: list[ImageScore] = []
    total, added = ConfusionMatrix(len(task.legend)), ConfusionMatrix(len(task.legend))
    for row in progress_bar(task.rows, title, unit="image", delay=2, leave=False):
        network = scoring_network(task.model.at(row), task.settings)
        if watch is not None:
            watch.begin(row)
        images.append(score_image(network, row, task.masks, task.settings, watch))
        if watch is not None:
            watch.end(row)
        total += images[-1].matrix
        if extra is not None:
            added += extra.count(network, row, task.legend, task.settings)
    total += added
    return images, total, added


def _refuse_unscored(scores: Scores, what: str) -> None:
    if not scores.support.sum():
        raise DataError(f"{what} has no labelled pixel", "labels to score")
    if math.isnan(scores.miou):
        raise DataError(
            f"{what} has no pixel of {', '.join(scores.subset)}, labelled or predicted",
            "a class to score",
            "choose other --classes",
        )


def write_all(
    out: Path,
    scores: Scores,
    images: Sequence[ImageScore],
    legend: Legend,
    about: dict[str, Any],
    intervals: dict[str, Any] | None,
    sets: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write tables and confusion matrix, with what `score_intervals` and `set_figures` returned.

    Raises:
        OutputError: The directory cannot be written.
    """
    write_csv(out / "metrics.csv", scores)
    write_per_image(out / "per_image.csv", images, legend, scores.subset)
    confusion_picture(scores, out / "confusion.png")
    counts = [image.confidence for image in images if image.confidence is not None]
    calibration = reliability(sum(counts, np.zeros_like(counts[0]))) if counts else None
    trust = {
        "intervals": intervals,
        "calibration": None if calibration is None else calibration.to_dict(),
        "colours": [list(colour) for colour in legend.colours],
        **({"class_sets": list(sets)} if sets else {}),
    }
    write_json(out / "metrics.json", scores.to_dict() | trust | {"about": about})


def check_legend(manifest: Manifest, segmenter: Segmenter) -> Legend:
    """Return a manifest's legend, which must name the Segmenter's classes in its order.

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
