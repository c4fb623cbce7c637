"""How doubtful an object is, in parts that a person sees, each from 0 (none) to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import RecipeError
from geodistill.label.boxes import Box
from geodistill.label.config import LabelSettings
from geodistill.label.decisions import has_mask
from geodistill.label.masks import Runs
from geodistill.label.pixels import Tile
from geodistill.label.postprocess import CHANGES, finish
from geodistill.label.segmenters.promptable import Embedding, PromptableSegmenter, build_prompts, parse_prompt

if TYPE_CHECKING:
    from geodistill.segmenter import Segmenter  # most reviews need none, and torch takes seconds to import

SHIFT = 0.08
"""Share of a box's side that each of its edges is moved by at most, to see whether the mask stays."""

Instances = Mapping[int, Mapping[str, Any]]
"""COCO annotations by the index of their box."""


@dataclass(frozen=True)
class ObjectDoubt:
    """Why an object may be wrong; parts that were not looked at are ``None``.

    Attributes:
        score: 1 minus the segmenter's own estimate; 1 where the filled box stands for the mask, or there is none.
        fit: 1 minus the IoU of the mask's bounds and the box; 1 where there is no mask.
        jitter: 1 minus the mean IoU of the mask with those of boxes whose edges were moved a little.
        model: Share of the mask that a trained model takes for another class.
    """

    score: float
    fit: float
    jitter: float | None = None
    model: float | None = None

    @property
    def total(self) -> float:
        """The mean of the parts that are known."""
        parts = [part for part in (self.score, self.fit, self.jitter, self.model) if part is not None]
        return sum(parts) / len(parts)


def doubt_of(instance: Mapping[str, Any], jitter: float | None = None, model: float | None = None) -> ObjectDoubt:
    """Return how doubtful an object is, from its COCO annotation and what else was measured."""
    if not has_mask(instance):
        return ObjectDoubt(1.0, 1.0)
    height, width = instance["segmentation"]["size"]
    left, top, wide, high = instance["annotated_bbox"]
    box = (max(left, 0), max(top, 0), min(left + wide, width), min(top + high, height))
    left, top, wide, high = instance["bbox"]
    score = 1.0 if CHANGES[0] in instance["changed"] else 1 - float(instance["score"])
    return ObjectDoubt(score, 1 - _bounds_iou(box, (left, top, left + wide, top + high)), jitter, model)


def _bounds_iou(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    common = max(wide, 0) * max(high, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common) if areas > common else 0.0


def jitter_doubts(
    segmenter: PromptableSegmenter,
    embedding: Embedding,
    boxes: Mapping[int, Box],
    instances: Instances,
    settings: LabelSettings,
    times: int,
) -> dict[int, float]:
    """Return of each object 1 minus the mean IoU of its mask with those of ``times`` boxes near its own.

    Every edge moves by up to `SHIFT` of the box's side, drawn anew for each object from its number alone. Prompts and
    the mending of masks are those of the labels.
    """
    height, width = embedding.height, embedding.width
    moves = {name: np.random.default_rng([name, 0]).uniform(-SHIFT, SHIFT, (times, 4)) for name in instances}
    whole = {name: Runs.from_coco(one["segmentation"]) for name, one in instances.items()}
    sums = dict.fromkeys(instances, 0.0)
    for turn in range(times):
        moved = {name: _moved(boxes[name], moves[name][turn], width, height) for name in instances}
        prompts = build_prompts(list(moved.values()), parse_prompt(settings.prompt))
        for (name, box), mask in zip(moved.items(), segmenter.masks(embedding, prompts), strict=True):
            done = finish(mask, box, settings.rules, height, width).mask
            sums[name] += 0.0 if done is None else _iou(whole[name], done.runs(height, width))
    return {name: 1 - total / times for name, total in sums.items()}


def _moved(box: Box, moves: NDArray[np.float64], width: int, height: int) -> Box:
    """Return a box whose bounds are moved by shares of its sides (left, top, right, bottom), and it with them."""
    origin, size = np.array(box.box[:2]), np.subtract(box.box[2:], box.box[:2])

    def placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
        stretched = origin + moves[:2] * size + (points - origin) * (1 + moves[2:] - moves[:2])
        clipped: NDArray[np.float64] = stretched.clip(0, (width, height))
        return clipped

    horizontal = box.horizontal
    if horizontal is not None:
        left, top, right, bottom = placed(np.array(horizontal).reshape(2, 2)).ravel().tolist()
        horizontal = left, top, right, bottom
    return replace(box, polygon=placed(box.polygon), horizontal=horizontal)


def _iou(first: Runs, second: Runs) -> float:
    common = first.overlap(second)
    return common / max(first.area + second.area - common, 1)


def class_places(model: Segmenter, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the position of each class in a model's legend, by name; -1 where it has none.

    Raises:
        RecipeError: The model knows none of the classes.
    """
    names = model.spec.legend.names
    places = np.array([names.index(name) if name in names else -1 for name in classes])
    if (places < 0).all():
        raise RecipeError(
            f"a model of {', '.join(names[:5])} for labels of {', '.join(classes[:5])}", "one class in common at least"
        )
    return places


def model_doubts(
    model: Segmenter, places: NDArray[np.int64], tile: Tile, instances: Instances
) -> dict[int, float | None]:
    """Return of each object the share of its mask that a model takes for another class; of unknown ones ``None``.

    Raises:
        DataError: The image has other bands than the model.
    """
    pixels = tile.pixels
    if len(pixels) == 1 and pixels.dtype == np.uint8 and model.spec.channels == 3:
        pixels = np.moveaxis(tile.rgb, -1, 0)  # grey pictures are kept, and learned from, as RGB
    classes = model.predict(pixels, valid=tile.valid).classes
    doubts: dict[int, float | None] = {}
    for name, instance in instances.items():
        place = int(places[instance["mask_value"]])
        crop = Runs.from_coco(instance["segmentation"]).crop()
        other = classes[crop.place][crop.pixels] != place
        doubts[name] = float(other.mean()) if place >= 0 and other.size else None
    return doubts
