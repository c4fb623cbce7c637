"""The worst images of an evaluation, on a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geodistill.errors import printable
from geodistill.evaluation.figures import prediction_grid
from geodistill.evaluation.scoring import PART, ImageScore, Settings, look_at
from geodistill.inference.location import PerPlaceModel
from geodistill.raster import atomic_path
from geodistill.spec import Legend

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Worst images</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1320px; padding: 0 1rem; color: #222; }}
figure {{ margin: 0 0 2.5rem; }}
img {{ width: 100%; height: auto; }}
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
    model: PerPlaceModel,
    images: Sequence[ImageScore],
    masks: Legend,
    legend: Legend,
    subset: Sequence[str],
    settings: Settings,
    count: int,
) -> None:
    """Write ``worst.html`` and the PNG of each image in ``worst/``: image, truth, prediction and errors.

    The page holds the pictures itself, so that it can be sent alone.

    Args:
        out: Directory of the results.
        model: The model, for wherever an image was taken.
        images: What was found for each image.
        masks: How the masks encode their classes.
        legend: The classes that are scored.
        subset: Classes the mIoU is taken over.
        settings: How images are segmented.
        count: Images shown at most.

    Raises:
        OutputError: The directory cannot be written.
    """
    chosen = lowest(images, legend, subset, count)
    figures: list[str] = []
    with atomic_path(out / "worst", "worst images") as folder:
        folder.mkdir()
        for place, (image, miou, oa) in enumerate(chosen, 1):
            picture = folder / f"{place:03d}.png"
            segmenter = model.at(image.row)
            seen = look_at(segmenter, image, masks, settings)
            prediction_grid(
                [seen.image], [seen.truth], [seen.prediction], legend, picture, segmenter.spec.bands, side=512
            )
            part, area = image.part, image.row.window
            where = (
                "" if (part.height, part.width) == (area.height, area.width) else f", part at {part.row}, {part.col}"
            )
            figures.append(
                f'<figure><img src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"'
                ' alt="image, truth, prediction and errors">'
                f"<figcaption>{place}. mIoU <b>{100 * miou:.1f}</b>, OA <b>{100 * oa:.1f}</b>: "
                f"{html.escape(printable(image.row.key))}{where}</figcaption></figure>"
            )
    note = (
        f"The {len(chosen)} of {len(images)} images with the lowest mIoU, over the classes that an image's labels"
        f" hold. Of an image larger than {PART} pixels the part with most wrong pixels is shown, given by"
        " its first row and column."
    )
    with atomic_path(out / "worst.html") as part_file:
        part_file.write_text(_PAGE.format(note=note, figures="\n".join(figures)), encoding="utf-8")


def lowest(
    images: Sequence[ImageScore], legend: Legend, subset: Sequence[str], count: int
) -> list[tuple[ImageScore, float, float]]:
    """Give the images of lowest mIoU with mIoU and OA, worst first; those without a score are left out."""
    ranked = [(image, image.miou(legend, subset), image.oa) for image in images]
    return sorted((entry for entry in ranked if not np.isnan(entry[1])), key=lambda entry: entry[1:])[:count]
