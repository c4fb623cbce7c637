"""The SAM family against transformers' own processor and model on the same weights: the same masks."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from geodistill.label.masks import Mask
from geodistill.label.segmenters.promptable import Prompts
from geodistill.label.segmenters.sam import SamSegmenter
from geodistill.label.segmenters.sam_model import FAMILIES, load_network
from promptable import SIDE, promptable, save_promptable

SIZES = [(64, 64), (48, 100), (150, 90)]
MOST_DIFFERENT = 1e-4
"""Share of pixels that may differ: one in ten thousand."""


@lru_cache(maxsize=4)
def loaded(family: str) -> tuple[Any, Any, SamSegmenter]:
    model, processor = promptable(family)
    with TemporaryDirectory() as folder:
        network = load_network(family, str(save_promptable(family, Path(folder))), "cpu")
    return model, processor, SamSegmenter(family, network, chunk=3)


def make_prompts(height: int, width: int, kinds: str, number: int = 7) -> Prompts:
    """Random prompts inside a tile: p points, b boxes, m masks."""
    rng = np.random.default_rng(height)
    corners = rng.uniform(0, (width * 0.6, height * 0.6), (number, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, (width * 0.4, height * 0.4), (number, 2))], axis=1)
    quads = tuple(np.array([(b[0], b[1] + 2), (b[2] - 1, b[1]), (b[2], b[3] - 1), (b[0] + 2, b[3])]) for b in boxes)
    return Prompts(
        ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float32) if "p" in kinds else None,
        boxes.astype(np.float32) if "b" in kinds else None,
        quads if "m" in kinds else None,
    )


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def mask_input(family: str, polygon: NDArray[np.float64], height: int, width: int) -> torch.Tensor:
    """The paper's mask prompt at full size and step by step: ``(1, 1, 16, 16)``."""
    drawn = np.full((height, width), -1000.0, np.float32)
    cv2.fillPoly(drawn, [polygon.astype(np.int32)], 1000.0)
    size = [SIDE, SIDE]
    if family == "sam":
        size = [int(side * SIDE / max(height, width) + 0.5) for side in (height, width)]
    inner = F.interpolate(torch.from_numpy(drawn)[None, None], size=size, mode="bilinear")
    padded = F.pad(inner, (0, SIDE - size[1], 0, SIDE - size[0]), value=-1000.0)
    return F.interpolate(padded, size=(SIDE // 4, SIDE // 4), mode="bilinear")


@torch.inference_mode()
def by_transformers(family: str, image: NDArray[np.uint8], prompts: Prompts) -> tuple[NDArray[np.bool_], list[float]]:
    """Masks ``(N, H, W)`` and scores the documented way, one object at a time."""
    model, processor, _ = loaded(family)
    masks, scores = [], []
    for index in range(len(prompts)):
        asked: dict[str, Any] = {}
        if prompts.points is not None:
            asked |= {"input_points": [[[prompts.points[index].tolist()]]], "input_labels": [[[1]]]}
        if prompts.boxes is not None:
            asked["input_boxes"] = [[prompts.boxes[index].tolist()]]
        inputs = processor(images=image, return_tensors="pt", **asked)
        sizes = [inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
        if prompts.polygons is not None:
            inputs["input_masks"] = mask_input(family, prompts.polygons[index], *image.shape[:2])
        output = model(**inputs, multimask_output=False)
        masks.append(processor.image_processor.post_process_masks(output.pred_masks, *sizes)[0][0, 0].numpy())
        scores.append(float(output.iou_scores.flatten()[0]))
    return np.stack(masks), scores


def full_size(masks: Iterable[Mask], height: int, width: int) -> NDArray[np.bool_]:
    full = []
    for mask in masks:
        full.append(np.zeros((height, width), bool))
        rows, columns = mask.pixels.shape
        full[-1][mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.pixels
    return np.stack(full)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["b", "p", "pb", "m", "bm", "pm", "pbm"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_masks_are_those_of_transformers(family: str, kinds: str) -> None:
    segmenter = loaded(family)[2]
    positive = []
    for height, width in SIZES if kinds in ("b", "m") else SIZES[1:2]:
        image, prompts = noise(height, width), make_prompts(height, width, kinds)
        found = list(segmenter.masks(segmenter.embed([image])[0], prompts))
        masks, scores = by_transformers(family, image, prompts)
        assert (full_size(found, height, width) != masks).mean() <= MOST_DIFFERENT
        np.testing.assert_allclose([mask.score for mask in found], np.clip(scores, 0, 1), atol=1e-5)
        positive.append(masks.mean())
    assert 0.02 < np.mean(positive) < 0.98, "the random weights draw nothing that could differ"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sam2", "sam3", "edgetam"])
def test_unstable_masks_give_way_to_the_best_of_the_others(family: str) -> None:
    model, _, segmenter = loaded(family)
    image, prompts = noise(60, 80), make_prompts(60, 80, "b")
    drawn = []
    for limit in (0.0, 0.9, 1.01, 0.98):
        for decoder in (model.mask_decoder, segmenter.network.model.mask_decoder):
            decoder.dynamic_multimask_stability_thresh = limit
        found = full_size(segmenter.masks(segmenter.embed([image])[0], prompts), 60, 80)
        assert (found != by_transformers(family, image, prompts)[0]).mean() <= MOST_DIFFERENT
        drawn.append(found)
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_several_images_at_once_are_embedded_as_one_by_one(family: str) -> None:
    segmenter = loaded(family)[2]
    images = [noise(64, 64), noise(48, 100, 1), noise(30, 20, 2)]
    together = segmenter._encode(images)
    for image, features in zip(images, together, strict=True):
        alone = segmenter.embed([image])[0]
        assert (alone.height, alone.width, alone.image) == (*image.shape[:2], None)
        for one, other in zip(alone.features, features, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_image_is_encoded_once_and_boxes_are_decoded_as_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = loaded("sam")[2]
    model = segmenter.network.model
    encoded, decoded = [], []
    encode, draw = model.get_image_embeddings, segmenter.decoder._upscale
    monkeypatch.setattr(model, "get_image_embeddings", lambda pixels: (encoded.append(len(pixels)), encode(pixels))[1])
    monkeypatch.setattr(segmenter.decoder, "_upscale", lambda *a: (decoded.append(len(a[1])), draw(*a))[1])
    embedding = segmenter.embed([noise(64, 64)])[0]
    masks = iter(segmenter.masks(embedding, make_prompts(64, 64, "b", 8)))
    assert (encoded, decoded) == ([1], [])
    next(masks)
    assert decoded == [3]
    list(masks)
    assert (encoded, decoded) == ([1], [3, 3, 2])


def test_the_number_decoded_at_once_is_measured_once_and_changes_no_mask() -> None:
    fixed = loaded("sam")[2]
    measured = SamSegmenter("sam", fixed.network)
    image, prompts = noise(64, 90), make_prompts(64, 90, "pbm", 5)
    masks = full_size(measured.masks(measured.embed([image])[0], prompts), 64, 90)
    assert measured.chunk is not None
    assert measured.chunk >= 1
    expected = full_size(fixed.masks(fixed.embed([image])[0], prompts), 64, 90)
    assert (masks != expected).mean() <= MOST_DIFFERENT


def test_a_gpu_that_runs_out_of_memory_gets_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = loaded("sam")[2]
    encode, sizes = segmenter._encode, []

    def small_memory(images: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return encode(images)

    monkeypatch.setattr(segmenter, "_encode", small_memory)
    monkeypatch.setattr("geodistill.label.segmenters.sam.batch_size", lambda device: 8)
    embeddings = segmenter.embed([noise(40 + i, 40) for i in range(5)])
    assert sizes == [5, 2, 2, 1]
    assert [embedding.height for embedding in embeddings] == [40, 41, 42, 43, 44]


def test_masks_that_were_taken_are_not_kept() -> None:
    segmenter = loaded("sam")[2]
    prompts = make_prompts(300, 300, "b", 40)
    taken: list[weakref.ref[NDArray[np.bool_]]] = []
    most = 0
    for mask in segmenter.masks(segmenter.embed([noise(300, 300)])[0], prompts):
        taken.append(weakref.ref(mask.pixels if mask.pixels.base is None else mask.pixels.base))
        most = max(most, sum(reference() is not None for reference in taken))
    assert len(taken) == 40
    assert most <= 2
