"""GrabCut on drawn objects: found in their boxes, deterministic, bounded, and sane where there is nothing to find."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from geodistill.label.masks import Mask
from geodistill.label.segmenters import grabcut
from geodistill.label.segmenters.grabcut import GrabCut, cut_out, first_guess
from geodistill.label.segmenters.promptable import BoxSegmenter, Prompts

DIAMOND = np.array([(60, 30), (90, 60), (60, 90), (30, 60)])
BOX = (30.0, 30.0, 91.0, 91.0)


def scene(
    shape: NDArray[np.int64] = DIAMOND, height: int = 120, width: int = 130
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A reddish object on greenish ground, both noisy, and its true mask."""
    truth = np.zeros((height, width), np.uint8)
    cv2.fillPoly(truth, [shape.astype(np.int32)], 1)
    rng = np.random.default_rng(0)
    image = np.where(truth[..., None] > 0, (170, 90, 80), (70, 120, 60)) + rng.normal(0, 12, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), truth > 0


def whole(mask: Mask, height: int, width: int) -> NDArray[np.bool_]:
    full = np.zeros((height, width), bool)
    rows, columns = mask.pixels.shape
    full[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.pixels
    return full


def iou(mask: Mask, truth: NDArray[np.bool_]) -> float:
    full = whole(mask, *truth.shape)
    return float((full & truth).sum() / (full | truth).sum())


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts(boxes=np.array([BOX], np.float32)),
        Prompts(points=np.array([(60, 60)], np.float32), boxes=np.array([BOX], np.float32)),
        Prompts(polygons=(DIAMOND.astype(np.float64),)),
        Prompts(boxes=np.array([BOX], np.float32), polygons=(DIAMOND.astype(np.float64),)),
        Prompts(points=np.array([(60, 60)], np.float32)),
    ],
    ids=["box", "point and box", "mask", "box and mask", "point"],
)
def test_an_object_is_cut_out_of_its_box(prompts: Prompts) -> None:
    image, truth = scene()
    segmenter = GrabCut()
    [mask] = segmenter.masks(segmenter.embed([image])[0], prompts)
    assert iou(mask, truth) > 0.9
    assert 0.8 < mask.score <= 1


def test_an_object_larger_than_the_working_size_keeps_its_outline() -> None:
    image, truth = scene(DIAMOND * 7, 800, 800)
    mask = cut_out(image, tuple(7 * side for side in BOX))  # type: ignore[arg-type]
    assert max(mask.pixels.shape) > grabcut.WORKING_SIDE
    assert iou(mask, truth) > 0.95


@pytest.mark.slow
def test_the_work_grows_with_the_object_and_not_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    cut = cv2.grabCut
    monkeypatch.setattr(grabcut.cv2, "grabCut", lambda image, *rest: (sizes.append(image.shape), cut(image, *rest))[1])
    image, _ = scene(DIAMOND, 2000, 2000)
    cut_out(image, BOX)
    cut_out(image, (10.0, 10.0, 1990.0, 1500.0))
    assert sizes[0] == (121, 121, 3)
    assert max(max(size) for size in sizes) == grabcut.WORKING_SIDE


def test_the_same_prompt_gives_the_same_mask_whatever_came_before() -> None:
    image, _ = scene()
    first = cut_out(image, BOX)
    cv2.setRNGSeed(77)
    cut_out(image, (5.0, 5.0, 40.0, 50.0))
    again = cut_out(image, BOX)
    assert (first.left, first.top, first.score) == (again.left, again.top, again.score)
    assert np.array_equal(first.pixels, again.pixels)


def test_nothing_outside_the_box_belongs_to_the_object() -> None:
    image, truth = scene()
    mask = whole(cut_out(image, (30.0, 30.0, 60.0, 91.0)), *truth.shape)
    assert mask[:, :60].any()
    assert not mask[:, 60:].any()


def test_where_the_first_core_fails_the_larger_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = []
    monkeypatch.setattr(grabcut, "first_guess", lambda *rest: (cores.append(rest[-1]), first_guess(*rest))[1])
    image, _ = scene()
    cut_out(image, BOX)
    assert cores == [0.5]
    # A dark spot in a box of ground: the spot alone does not fill the box.
    flat = np.full((120, 130, 3), 90, np.uint8)
    flat[58:62, 58:62] = 0
    mask = cut_out(flat, BOX)
    assert cores == [0.5, 0.5, 0.75]
    assert mask.pixels.any()


@pytest.mark.parametrize(
    "bounds",
    [
        (0, 0, 130, 120),
        (-20, -30, 200, 300),
        (10, 10, 12, 50),
        (5.2, 5.2, 5.3, 5.4),
        (0, 0, 130, 4),
        (129, 119, 130, 120),
    ],
    ids=["whole image", "beyond the image", "two pixels wide", "below a pixel", "very flat", "last pixel"],
)
@pytest.mark.parametrize("flat", [False, True], ids=["noise", "one colour"])
def test_odd_boxes_and_images_give_a_mask_inside_the_image(
    bounds: tuple[float, float, float, float], flat: bool
) -> None:
    image = np.full((120, 130, 3), 90, np.uint8) if flat else scene()[0]
    mask = cut_out(image, bounds)
    rows, columns = mask.pixels.shape
    assert 0 <= mask.left <= mask.left + columns <= 130
    assert 0 <= mask.top <= mask.top + rows <= 120
    assert 0 <= mask.score <= 1
    assert mask.pixels.any()


def test_a_mask_prompt_says_what_is_probably_the_object() -> None:
    triangle = np.array([(2.0, 2.0), (18.0, 2.0), (2.0, 18.0)])
    labels = first_guess((24, 24), np.array((2, 2, 18, 18)), triangle, np.array((15, 15), np.float32), 0.5)
    assert labels[0, 0] == labels[20, 5] == cv2.GC_BGD
    assert labels[17, 17] == cv2.GC_PR_BGD
    assert labels[3, 3] == cv2.GC_PR_FGD
    assert labels[7, 7] == labels[15, 15] == cv2.GC_FGD


def test_an_embedding_of_another_segmenter_is_a_programming_error() -> None:
    embedding = BoxSegmenter().embed([scene()[0]])[0]
    with pytest.raises(AssertionError, match="another segmenter"):
        list(GrabCut().masks(embedding, Prompts(boxes=np.array([BOX], np.float32))))
