"""`evaluate`: scores of a Segmenter over a whole split, with the files a person looks at."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from geodistill.data.manifest import Manifest, Row
from geodistill.data.masks import read_mask
from geodistill.errors import DataError
from geodistill.evaluation.figures import confusion_picture
from geodistill.evaluation.worst import write_worst
from geodistill.metrics import ConfusionMatrix, Scores
from geodistill.raster import Raster, Window, atomic_path
from geodistill.scene.predict import as_classes, load_on
from geodistill.scene.stream import stream
from geodistill.scene.windows import Area
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        row: The manifest's row.
        miou: Mean IoU over the classes that the image's labels or its prediction hold, 0..1.
        oa: Overall accuracy, 0..1.
        pixels: Labelled pixels.
    """

    row: Row
    miou: float
    oa: float
    pixels: int


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
) -> Scores:
    """Score a Segmenter: one confusion matrix over all labelled pixels of a split.

    Predictions come from the same sliding window as `predict` makes maps with. With ``out``, leaves there
    ``metrics.json``, ``metrics.csv`` (a line a class), ``per_image.csv``, ``confusion.png`` and ``worst.html``.

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

    Raises:
        DataError: The split is empty, a file cannot be read, or the legend is not the model's.
        ArtifactError: There is no such model, or it is altered.
        OutputError: The results cannot be written.
    """
    held = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest)
    held.refuse_problems()
    segmenter = load_on(model, device)
    legend = check_legend(held, segmenter)
    rows = [row for row in held.some_rows(split) if row.mask is not None]
    total, images = ConfusionMatrix(len(legend)), []
    total.scores(legend, subset)
    for row in tqdm(rows, f"evaluate {split}", unit="image", disable=not sys.stderr.isatty(), delay=2, leave=False):
        matrix = score_image(segmenter, row, held, overlap, tta_flips, batch_size)
        total += matrix
        scores = matrix.scores(legend)
        images.append(ImageScore(row, scores.miou, scores.oa, int(scores.support.sum())))
    scores = total.scores(legend, subset)
    if out is not None:
        lowest = sorted((i for i in images if i.pixels), key=lambda image: image.miou)[:worst]
        write_results(Path(out), scores, images)
        write_worst(Path(out), segmenter, held, [(i.row, i.miou, i.oa) for i in lowest], overlap, tta_flips)
    return scores


def check_legend(manifest: Manifest, segmenter: Segmenter) -> Legend:
    """Give the common legend of a manifest and a Segmenter.

    Raises:
        DataError: Their classes differ.
    """
    legend, known = manifest.legend, segmenter.spec.legend
    if legend is None or legend.names != known.names:
        held = "no classes" if legend is None else f"the classes {', '.join(legend.names)}"
        raise DataError(f"manifest {manifest.path or ''} has {held}", f"the model's: {', '.join(known.names)}")
    return legend


def score_image(
    segmenter: Segmenter, row: Row, manifest: Manifest, overlap: float, flips: bool, batch_size: int
) -> ConfusionMatrix:
    """Count one image, in flat memory: truth is read row by row as predictions come.

    Raises:
        DataError: A file cannot be read, or the mask holds labels that are in no legend entry.
    """
    matrix = ConfusionMatrix(segmenter.spec.classes)
    with Raster(row.image) as raster:
        for part in stream(segmenter, Area(raster, row.window), overlap=overlap, batch_size=batch_size, flips=flips):
            rows, width = part.valid.shape
            window = Window(row.window.row + part.first, row.window.col, rows, width)
            truth = read_truth(row, manifest, window)
            predicted = as_classes(part)[0]
            truth = np.where(part.valid, truth, np.uint8(IGNORE_INDEX))
            matrix.update(np.where(part.valid, predicted, np.uint8(0)), truth)
    return matrix


def read_truth(row: Row, manifest: Manifest, window: Window) -> NDArray[np.uint8]:
    """Read a part of a row's mask as ``(H, W)`` uint8 class indices.

    Raises:
        DataError: It cannot be read, or holds labels that are in no legend entry.
    """
    assert row.mask is not None
    assert manifest.legend is not None
    return read_mask(row.mask, manifest.legend, window, ignore_unknown=manifest.ignore_unknown)


def write_results(out: Path, scores: Scores, images: Sequence[ImageScore]) -> None:
    """Write the tables and the confusion matrix.

    Raises:
        OutputError: The directory cannot be written.
    """
    with atomic_path(out / "metrics.json") as part:
        part.write_text(json.dumps(scores.to_dict(), indent=2) + "\n", encoding="utf-8")
    with atomic_path(out / "metrics.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["class", "iou", "f1", "precision", "recall", "pixels"])
        columns = (scores.iou, scores.f1, scores.precision, scores.recall, scores.support)
        table.writerows(zip(scores.names, *columns, strict=True))
        table.writerow(["mean", scores.miou, scores.mf1, scores.mprecision, scores.mrecall, int(scores.support.sum())])
    with atomic_path(out / "per_image.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "miou", "oa", "pixels"])
        table.writerows([image.row.key, image.miou, image.oa, image.pixels] for image in images)
    confusion_picture(scores, out / "confusion.png")


def format_table(scores: Scores) -> str:
    """Write scores as an aligned table in percent."""
    width = max(len("class"), len("mean *"), *(len(name) for name in scores.names))
    lines = [f"{'class':<{width}}     IoU      F1    prec  recall        pixels"]
    columns = (scores.iou, scores.f1, scores.precision, scores.recall)
    for index, name in enumerate(scores.names):
        cells = "".join(f"{_percent(column[index])}" for column in columns)
        lines.append(f"{name:<{width}}{cells}{scores.support[index]:>14,}")
    partial = len(scores.subset) < len(scores.names)
    means = "".join(_percent(v) for v in (scores.miou, scores.mf1, scores.mprecision, scores.mrecall))
    lines.append(f"{'mean *' if partial else 'mean':<{width}}{means}{scores.support.sum():>14,}")
    lines.append(f"overall accuracy {_percent(scores.oa).strip()}")
    if partial:
        lines.append(f"* over {', '.join(scores.subset)}")
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{'-':>8}" if np.isnan(value) else f"{100 * value:>8.2f}"
