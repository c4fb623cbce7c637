"""Parts of the mask decoder that its masks alone would not pin down."""

from __future__ import annotations

import pytest
import torch

from geodistill.label.segmenters import sam_decoder as module
from geodistill.label.segmenters.sam_decoder import MaskDecoder, in_image_order, in_token_order
from promptable import promptable


def test_token_order_is_coarse_position_first() -> None:
    image = torch.arange(8 * 8).view(1, 1, 8, 8)
    tokens = in_token_order(image, 4)
    assert tokens.shape == (4, 16, 1)
    # Token 1 is the top right quarter; its pixels come two by two.
    assert tokens[1, :, 0].tolist() == [4, 5, 12, 13, 6, 7, 14, 15, 20, 21, 28, 29, 22, 23, 30, 31]
    assert in_token_order(image, 2)[5, :, 0].tolist() == [18, 19, 26, 27]
    assert torch.equal(in_image_order(tokens[None]), image)


@pytest.mark.parametrize("family", ["sam", "sam2"])
def test_blocks_of_tokens_and_chunks_of_prompts_change_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = promptable(family)
    decoder = MaskDecoder(model.requires_grad_(False))
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 4, 16, 16), (1, 8, 8, 8), (1, 32, 4, 4)] if family == "sam2" else [(1, 32, 4, 4)]
    context = decoder.prepare(tuple(torch.randn(size, generator=generator) for size in sizes))
    sparse, dense = (torch.randn(size, generator=generator) for size in ((5, 2, 32), (5, 32, 4, 4)))
    for asked in (None, dense):
        whole = decoder(context, sparse, asked)
        monkeypatch.setattr(module, "CPU_BLOCK", 3)
        parts = [decoder(context, sparse[i : i + 2], None if asked is None else asked[i : i + 2]) for i in (0, 2, 4)]
        monkeypatch.undo()
        for one, several in zip(whole, zip(*parts, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(several), one, atol=1e-4, rtol=1e-4)


def test_only_the_mask_that_is_asked_for_is_drawn() -> None:
    for family, drawn in (("sam", 1), ("sam2", 4)):
        model, _ = promptable(family)
        assert MaskDecoder(model).masks == drawn
    model.mask_decoder.dynamic_multimask_via_stability = False
    assert MaskDecoder(model).masks == 1
