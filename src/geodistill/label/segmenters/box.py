"""The floor: an object is its annotated shape, filled. No image is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geodistill.label.masks import Mask
from geodistill.label.polygons import rasterise
from geodistill.label.prompts import Prompts
from geodistill.label.records import rectangle
from geodistill.label.segmenters.promptable import Embedding


class BoxSegmenter:
    """Fills the annotated polygon or oriented box; without one the mask prompt, the box or the pixel of the point."""

    name = "box"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Keep the sizes of images ``(H, W, 3)``."""
        return [Embedding(image.shape[0], image.shape[1]) for image in images]

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
        """Return the filled shapes, each with score 1."""
        for shape in shapes_of(prompts):
            yield rasterise(shape, embedding.height, embedding.width)


def shapes_of(prompts: Prompts) -> Sequence[NDArray[np.float64]]:
    """Return one polygon ``(V, 2)`` an object: the best that is known of its shape."""
    for polygons in (prompts.outlines, prompts.polygons):
        if polygons is not None:
            return polygons
    if prompts.boxes is not None:
        return [rectangle(*box) for box in prompts.boxes.tolist()]
    assert prompts.points is not None
    return [np.repeat(point[None].astype(np.float64), 3, axis=0) for point in prompts.points]
