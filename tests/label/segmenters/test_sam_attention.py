"""SAM's global attention in blocks of rows: the numbers of transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from geodistill.label.segmenters import sam_model as encoder
from geodistill.label.segmenters.sam_model import GlobalAttention, lighten
from promptable import promptable


def random_attention(side: int) -> Any:
    config = transformers.SamVisionConfig(hidden_size=24, num_attention_heads=3, image_size=16 * side)
    config._attn_implementation = "sdpa"
    attention = transformers.SamModel(transformers.SamConfig(vision_config=config)).vision_encoder.layers[2].attn
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.4)
    return attention.eval()


@pytest.mark.parametrize(("side", "rows"), [(6, 4), (5, 2), (3, 4), (4, 4)])
def test_blocks_of_rows_give_the_attention_of_the_whole(side: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "ROWS", rows)
    attention = random_attention(side)
    tokens = torch.randn(2, side, side, 24)
    with torch.inference_mode():
        expected = attention(tokens)[0]
        torch.testing.assert_close(GlobalAttention(attention)(tokens)[0], expected, atol=1e-5, rtol=1e-5)
        attention.rel_pos_w.zero_()
        assert not torch.allclose(attention(tokens)[0], expected)


def test_only_global_layers_with_relative_positions_are_replaced() -> None:
    model, _ = promptable("sam")
    lighten(model)
    assert [isinstance(layer.attn, GlobalAttention) for layer in model.vision_encoder.layers] == [False, True]
    other, _ = promptable("sam2")
    before = [name for name, _ in other.named_modules()]
    lighten(other)
    assert [name for name, _ in other.named_modules()] == before
