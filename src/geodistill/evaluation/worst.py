"""The worst images of an evaluation, on a page that needs nothing but itself and its pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Manifest, Row
from geodistill.data.masks import read_mask
from geodistill.evaluation.figures import prediction_grid
from geodistill.raster import Raster, Window, atomic_path
from geodistill.scene.predict import as_classes
from geodistill.scene.stream import stream
from geodistill.scene.windows import Area
from geodistill.segmenter import Segmenter

MOST = 1024
"""Largest side in pixels that is shown of one image; of a larger one the middle is."""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Worst images</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1080px; color: #222; }}
figure {{ margin: 0 0 2rem; }}
img {{ width: 100%; height: auto; border: 1px solid #ddd; }}
figcaption {{ overflow-wrap: anywhere; }}
b {{ font-variant-numeric: tabular-nums; }}
</style>
<h1>Worst images</h1>
<p>{note}</p>
{figures}
</html>
"""


def write_worst(
    out: Path,
    segmenter: Segmenter,
    manifest: Manifest,
    images: Sequence[tuple[Row, float, float]],
    overlap: float,
    flips: bool,
) -> None:
    """Write ``worst.html`` and one PNG an image in ``worst/``: image, truth, prediction and errors.

    Args:
        out: Directory of the results.
        segmenter: The model.
        manifest: The data set.
        images: Row, mIoU and overall accuracy of each image, worst first.
        overlap: Overlap of the sliding window.
        flips: Average over mirrors.

    Raises:
        OutputError: The directory cannot be written.
    """
    figures: list[str] = []
    with atomic_path(out / "worst") as folder:
        folder.mkdir()
        for index, (row, miou, oa) in enumerate(images):
            name = f"{index + 1:02d}.png"
            image, truth, prediction = _look(segmenter, manifest, row, overlap, flips)
            prediction_grid(
                [image], [truth], [prediction], segmenter.spec.legend, folder / name, segmenter.spec.bands, side=400
            )
            figures.append(
                f'<figure><img src="worst/{name}" alt="image, truth, prediction and errors">'
                f"<figcaption>mIoU <b>{100 * miou:.1f}</b>, OA <b>{100 * oa:.1f}</b>, "
                f"{html.escape(row.key)}</figcaption></figure>"
            )
    note = f"The {len(images)} images of lowest mIoU; of large ones the middle {MOST} pixels are shown."
    with atomic_path(out / "worst.html") as part:
        part.write_text(_PAGE.format(note=note, figures="\n".join(figures)), encoding="utf-8")


def _look(
    segmenter: Segmenter, manifest: Manifest, row: Row, overlap: float, flips: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Give image, truth and prediction of the middle of a row's area."""
    assert row.mask is not None
    assert manifest.legend is not None
    area = row.window
    height, width = min(area.height, MOST), min(area.width, MOST)
    top, left = area.row + (area.height - height) // 2, area.col + (area.width - width) // 2
    window = Window(top, left, height, width)
    with Raster(row.image) as raster:
        pixels, valid = raster.read(window)
        parts = [as_classes(p)[0] for p in stream(segmenter, Area(raster, window), overlap=overlap, flips=flips)]
    truth = read_mask(row.mask, manifest.legend, window, ignore_unknown=manifest.ignore_unknown)
    return np.where(valid, pixels, 0).astype(np.float32), truth, np.concatenate(parts)
