"""The worst images of an evaluation, on a page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodistill.errors import printable
from geodistill.evaluation.figures import prediction_grid
from geodistill.evaluation.scoring import PART, ImageScore, ScoringSettings, read_preview, scoring_network
from geodistill.files import atomic_path
from geodistill.inference.location import PerPlaceModel
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


@dataclass(frozen=True)
class RankedImage:
    """An image's score with its mIoU and overall accuracy, both 0..1."""

    image: ImageScore
    miou: float
    oa: float


def write_worst(
    out: Path,
    model: PerPlaceModel,
    worst: Sequence[RankedImage],
    scored: int,
    masks: Legend,
    legend: Legend,
    settings: ScoringSettings,
) -> None:
    """Write ``worst.html`` and the PNG of each image in ``worst/``: image, truth, prediction and errors.

    The page holds the pictures itself, so that it can be sent alone.

    Args:
        out: Directory of the results.
        model: The model, for wherever an image was taken.
        worst: The images to show (`lowest`).
        scored: Number of images that they were chosen from.
        masks: How the masks encode their classes.
        legend: The classes that are scored.
        settings: How images are segmented.

    Raises:
        OutputError: The directory cannot be written.
    """
    figures: list[str] = []
    with atomic_path(out / "worst", "worst images") as folder:
        folder.mkdir()
        for place, ranked in enumerate(worst, 1):
            image = ranked.image
            picture = folder / f"{place:03d}.png"
            segmenter = model.at(image.row)
            preview = read_preview(scoring_network(segmenter, settings), image, masks, settings)
            panels = ([preview.image], [preview.truth], [preview.prediction])
            prediction_grid(*panels, legend, picture, segmenter.spec.bands, side=512)
            part, area = image.part, image.row.window
            where = (
                "" if (part.height, part.width) == (area.height, area.width) else f", part at {part.row}, {part.col}"
            )
            figures.append(
                f'<figure><img src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"'
                ' alt="image, truth, prediction and errors">'
                f"<figcaption>{place}. mIoU <b>{100 * ranked.miou:.1f}</b>, OA <b>{100 * ranked.oa:.1f}</b>: "
                f"{html.escape(printable(image.row.key))}{where}</figcaption></figure>"
            )
    note = (
        f"The {len(worst)} of {scored} images with the lowest mIoU, over the classes that an image's labels"
        f" hold. Of an image larger than {PART} pixels the part with most wrong pixels is shown, given by"
        " its first row and column."
    )
    with atomic_path(out / "worst.html") as part_file:
        part_file.write_text(_PAGE.format(note=note, figures="\n".join(figures)), encoding="utf-8")


def lowest(images: Sequence[ImageScore], legend: Legend, subset: Sequence[str], count: int) -> list[RankedImage]:
    """Return the ``count`` images of lowest mIoU, then OA, worst first; those without a score are left out."""
    ranked = [RankedImage(image, image.miou(legend, subset), image.oa) for image in images]
    return sorted((one for one in ranked if not np.isnan(one.miou)), key=lambda one: (one.miou, one.oa))[:count]
