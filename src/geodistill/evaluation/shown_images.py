"""Images of an evaluation to look at: the worst, the median and the best, each as layers of one size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geodistill.evaluation.pictures import to_rgb
from geodistill.evaluation.scoring import ImageScore, ScoringSettings, read_preview, scoring_network
from geodistill.files import atomic_path, json_text
from geodistill.inference.location import PerPlaceModel
from geodistill.legend_entries import Colour
from geodistill.spec import IGNORE_INDEX, Legend

FOLDER, LISTING, KIND = "shown", "shown.json", "images of an evaluation"
CHOICES = ("worst", "median", "best")
LAYERS = ("image.webp", "truth.png", "prediction.png", "errors.png")
OTHERS = 4
"""Images of median and of highest score that are shown, at most."""

_QUALITY = 82
WRONG: Colour = (213, 94, 0)
"""Colour of pixels where truth and prediction differ."""


@dataclass(frozen=True)
class RankedImage:
    """An image's score with its mIoU and overall accuracy, both 0..1, and why it is shown, one of `CHOICES`."""

    choice: str
    image: ImageScore
    miou: float
    oa: float


def choose_images(images: Sequence[ImageScore], legend: Legend, subset: Sequence[str], worst: int) -> list[RankedImage]:
    """Return the images to show, each once, from the lowest mIoU (then OA) to the highest.

    Up to ``worst`` of the lowest, and of the middle and the best up to `OTHERS` each, or a third where images are few.
    Those without a score are left out.
    """
    scored = [(image.miou(legend, subset), image.oa, image) for image in images]
    order = sorted((each for each in scored if not np.isnan(each[0])), key=lambda each: each[:2])
    others = min(OTHERS, len(order) // 3)
    lowest, best = min(worst, len(order) - 2 * others), len(order) - others
    middle = min(max((len(order) - others) // 2, lowest), best - others)
    parts = (order[:lowest], order[middle : middle + others], order[best:])
    return [
        RankedImage(choice, image, miou, oa)
        for choice, part in zip(CHOICES, parts, strict=True)
        for miou, oa, image in part
    ]


def shown_names(worst: int) -> list[str]:
    """Return every file that `write_images` may write, below the folder of the results."""
    counts = zip(CHOICES, (worst, OTHERS, OTHERS), strict=True)
    stems = [f"{choice}-{place:03d}" for choice, count in counts for place in range(1, count + 1)]
    names = [LISTING, ".geodistill.json", *(f"{stem}-{layer}" for stem in stems for layer in LAYERS)]
    return [f"{FOLDER}/{name}" for name in names]


def write_images(
    out: Path,
    model: PerPlaceModel,
    shown: Sequence[RankedImage],
    masks: Legend,
    legend: Legend,
    settings: ScoringSettings,
) -> None:
    """Write the shown images' layers into ``shown/``, with a listing: WebP, and PNG of class indices with a palette.

    Of an image larger than `PART` pixels the part with most wrong pixels is shown.

    Args:
        out: Directory of the results.
        model: The model, for wherever an image was taken.
        shown: What `choose_images` returned.
        masks: How the masks encode their classes.
        legend: The classes that are scored.
        settings: How images are segmented.

    Raises:
        OutputError: The directory cannot be written.
    """
    listing = []
    with atomic_path(out / FOLDER, KIND) as folder:
        folder.mkdir()
        counts = dict.fromkeys(CHOICES, 0)
        for ranked in shown:
            counts[ranked.choice] += 1
            stem = f"{ranked.choice}-{counts[ranked.choice]:03d}"
            image, segmenter = ranked.image, model.at(ranked.image.row)
            preview = read_preview(scoring_network(segmenter, settings), image, masks, settings)
            pictures = (
                photo_bytes(to_rgb(preview.image, segmenter.spec.bands)),
                class_bytes(preview.truth, legend),
                class_bytes(preview.prediction, legend),
                mark_bytes((preview.truth != preview.prediction) & (preview.truth != IGNORE_INDEX), WRONG),
            )
            for layer, data in zip(LAYERS, pictures, strict=True):
                (folder / f"{stem}-{layer}").write_bytes(data)
            part = image.part
            listing.append(
                {"choice": ranked.choice, "stem": stem, "key": image.row.key, "miou": ranked.miou, "oa": ranked.oa}
                | {"part": [part.row, part.col, part.height, part.width], "whole": part == image.row.window}
            )
        (folder / LISTING).write_text(json_text({"images": listing}, indent=1) + "\n", encoding="utf-8")


def photo_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Return ``(H, W, 3)`` uint8 RGB as WebP."""
    quality = [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
    return bytes(cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes())


def class_bytes(classes: NDArray[np.uint8], legend: Legend) -> bytes:
    """Return ``(H, W)`` class indices as PNG with the legend's colours as palette; what is ignored is transparent."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(legend)] = legend.colours
    return _png(classes, palette.tobytes(), IGNORE_INDEX)


def mark_bytes(marked: NDArray[np.bool_], colour: Colour) -> bytes:
    """Return ``(H, W)`` bool as PNG in one colour, transparent where not marked."""
    return _png(marked.astype(np.uint8), bytes((0, 0, 0, *colour)), 0)


def _png(indices: NDArray[np.uint8], palette: bytes, transparent: int) -> bytes:
    picture, file = Image.fromarray(indices), io.BytesIO()
    picture.putpalette(palette)
    picture.save(file, "PNG", transparency=transparent)
    return file.getvalue()
