"""Every object of a review gets its doubts and its place: a random sample first, then the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geodistill.engine import progress_bar
from geodistill.errors import RecipeError
from geodistill.label.decisions import has_mask
from geodistill.lazy import load
from geodistill.review.decision_store import DecisionStore, own_json
from geodistill.review.doubt_parts import ObjectDoubt, class_places, doubt_of, jitter_doubts, model_doubts
from geodistill.review.open_labels import OpenLabels
from geodistill.review.prompting import Prompter, tile_pixels

if TYPE_CHECKING:
    from geodistill.segmenter import Segmenter  # most reviews need none, and torch takes seconds to import


TOGETHER = 500
"""Objects whose doubts are written down at once: what was measured before a crash is not measured again."""


def rank_objects(
    labels: OpenLabels,
    store: DecisionStore,
    *,
    sample: int,
    jitter: int = 0,
    model: Segmenter | None = None,
    device: str = "auto",
    progress: bool = False,
) -> None:
    """Measure the doubts of all objects, and order these.

    What the segmenter says about boxes moved a little is measured once and kept; a model is asked each time, where it
    is. The segmenter runs on ``device``.

    Raises:
        RecipeError: A number makes no sense, or the model knows none of the classes.
        DataError: An image cannot be read, does not say where it lies under a model of climate zones, or the segmenter
            is not at hand.
    """
    if sample < 0 or jitter < 0:
        raise RecipeError(f"sample {sample}, jitter {jitter}", "0 or more")
    places = None if model is None else class_places(model, labels.legend.names)
    models = None if model is None else load("geodistill.inference.location:PerPlaceModel")(model)
    prompter = Prompter(labels, device)
    doubts: dict[int, ObjectDoubt] = {}
    for name in progress_bar(store.tiles(), "doubts", progress):
        rows = store.of_tile(name)
        instances = {row["box"]: own_json(row["original"]) for row in rows}
        shaken = {row["box"]: row["jitter"] for row in rows}
        others = {row["box"]: row["model"] for row in rows}
        masked = {box: one for box, one in instances.items() if has_mask(one)}
        left = {box: one for box, one in masked.items() if shaken[box] is None}
        if jitter and left:
            embedding = prompter.embed(name)
            boxes, settings = labels.boxes(name), labels.settings
            shaken |= jitter_doubts(prompter.segmenter, embedding, boxes, left, settings, jitter)
        if models is not None and places is not None and masked:
            placed = models.at_image(labels.tiles[name][0].image)
            others |= model_doubts(placed, places, tile_pixels(labels, name), masked)
        doubts |= {row["id"]: doubt_of(instances[row["box"]], shaken[row["box"]], others[row["box"]]) for row in rows}
        if len(doubts) >= TOGETHER:
            store.set_doubts(doubts)
            doubts = {}
    store.set_doubts(doubts)
    store.order(sample)
