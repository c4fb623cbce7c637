"""Masks between a tile and a network: equal to full-size interpolation, pixel for pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from geodistill.label.segmenters.resample import (
    Band,
    TileFrame,
    bands_back,
    crop_masks,
    interpolation,
    mask_prompt,
)

SIDE, MASKS = 64, 16


def make_frame(height: int, width: int, padded: bool) -> TileFrame:
    scale = SIDE / max(height, width)
    inner = (int(height * scale + 0.5), int(width * scale + 0.5)) if padded else (SIDE, SIDE)
    return TileFrame(height, width, SIDE, inner, MASKS, padded)


def bilinear(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def full_size(logits: Tensor, frame: TileFrame) -> Tensor:
    if frame.through_input:
        logits = bilinear(logits, (SIDE, SIDE))[: frame.inner[0], : frame.inner[1]]
    return bilinear(logits, (frame.height, frame.width))


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(3, 150),
    width=st.integers(3, 150),
    padded=st.booleans(),
    blob=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_cropped_masks_are_those_of_full_size_interpolation(
    height: int, width: int, padded: bool, blob: int, seed: int
) -> None:
    frame = make_frame(height, width, padded)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.full((MASKS, MASKS), -1.0)
    row, column = torch.randint(0, MASKS - blob, (2,), generator=generator).tolist()
    logits[row : row + blob, column : column + blob] = torch.randn((blob, blob), generator=generator)
    [mask] = crop_masks(logits[None], *bands_back(frame), [0.5])
    expected = full_size(logits, frame)
    drawn = np.zeros((height, width), bool)
    rows, columns = mask.pixels.shape
    drawn[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.pixels
    clear = expected.abs().numpy() > 1e-5
    assert np.array_equal(drawn[clear], (expected > 0).numpy()[clear])
    assert rows == 0 or (
        mask.pixels[0].any() and mask.pixels[-1].any() and mask.pixels[:, 0].any() and mask.pixels[:, -1].any()
    )


def test_a_small_object_is_interpolated_only_around_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    rows = Band.rows

    def counting(self: Band, source: Tensor, wanted: slice) -> Tensor:
        result = rows(self, source, wanted)
        read.append(result.numel())
        return result

    monkeypatch.setattr(Band, "rows", counting)
    logits = torch.full((1, MASKS, MASKS), -1.0)
    logits[0, 5, 7] = 3.0
    [mask] = crop_masks(logits, *bands_back(make_frame(640, 640, True)), [1.0])
    assert mask.pixels.any()
    assert sum(read) < 640 * 640 / 20


def test_no_positive_logit_gives_an_empty_mask() -> None:
    [mask] = crop_masks(torch.full((1, MASKS, MASKS), -1.0), *bands_back(make_frame(50, 60, True)), [0.2])
    assert (mask.pixels.shape, mask.score) == ((0, 0), 0.2)


@pytest.mark.parametrize(("source", "target"), [(16, 64), (64, 16), (16, 16), (64, 50), (1, 7)])
def test_a_band_is_its_matrix(source: int, target: int) -> None:
    matrix = interpolation(source, target)
    values = torch.randn(source, 5)
    band = Band.of(matrix)
    torch.testing.assert_close(band.rows(values, slice(0, target)), matrix @ values, atol=1e-5, rtol=1e-5)
    assert (np.diff(band.first) >= 0).all()


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (40, 90), (200, 130)])
def test_mask_prompts_are_resized_padded_and_resized_again(size: tuple[int, int], padded: bool) -> None:
    frame = make_frame(*size, padded)
    polygon = np.array([(5.7, 8.2), (30.4, 3.0), (33.9, 35.1), (10.0, 39.0)])
    drawn = np.full(size, -1000.0, np.float32)
    cv2.fillPoly(drawn, [polygon.astype(np.int32)], 1000.0)
    inside = bilinear(torch.from_numpy(drawn), frame.inner)
    padding = (0, SIDE - frame.inner[1], 0, SIDE - frame.inner[0])
    expected = bilinear(F.pad(inside, padding, value=-1000.0), (MASKS, MASKS))
    torch.testing.assert_close(mask_prompt(polygon, frame), expected, atol=0.01, rtol=1e-5)


def test_mask_prompts_beyond_the_tile_are_cut() -> None:
    frame = make_frame(64, 64, True)
    drawn = mask_prompt(np.array([(-9.0, -9.0), (80.0, -9.0), (80.0, 80.0), (-9.0, 80.0)]), frame)
    assert torch.equal(drawn, torch.full((MASKS, MASKS), 1000.0))
