"""LoRA: what is trained, and that the merged encoder is the adapted one, also by peft's own merging."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import deepcopy

import pytest
import timm.models
import torch

from geodistill.errors import RecipeError
from geodistill.extras import MissingExtraError
from geodistill.nn.encoders import build_encoder
from geodistill.nn.lora import insert_lora, merge_lora

pytestmark = pytest.mark.slow  # peft takes seconds to import


def test_merged_equals_unmerged_and_pefts_own_merging() -> None:
    from peft.tuners.lora.layer import LoraLayer

    torch.manual_seed(0)
    plain = build_encoder("test_vit").eval()
    adapted = deepcopy(plain)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = plain(image)
        scaling = insert_lora(adapted, 4)
        for one, other in zip(before, adapted.eval()(image), strict=True):
            torch.testing.assert_close(one, other)  # the updates begin as zero
        for name, parameter in adapted.named_parameters():
            assert parameter.requires_grad == (".lora_" in name)
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        unmerged = adapted(image)
        assert not torch.allclose(unmerged[-1], before[-1], atol=1e-3)
        plain.load_state_dict(merge_lora(adapted.state_dict(), scaling))
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.merge()
        for one, merged, pefts in zip(unmerged, plain(image), adapted(image), strict=True):
            torch.testing.assert_close(merged, one, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(merged, pefts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "attention",
    [
        lambda: timm.models.beit.Attention(8, 2, qkv_bias=True),
        lambda: timm.models.eva.EvaAttention(8, 2, norm_layer=torch.nn.LayerNorm),
        lambda: timm.models.swin_transformer_v2.WindowAttention(8, (2, 2), 2),
    ],
    ids=["beit", "eva", "swin v2"],
)
def test_attention_with_a_bias_of_its_own_is_adapted_in_every_layer(attention: Callable[[], torch.nn.Module]) -> None:
    torch.manual_seed(0)
    encoder, tokens = attention().eval(), torch.randn(2, 4, 8)
    for name, parameter in encoder.named_parameters():
        if name in ("q_bias", "v_bias"):
            torch.nn.init.normal_(parameter)
    before = encoder(tokens).detach()
    insert_lora(encoder, 2)
    after = encoder(tokens)
    torch.testing.assert_close(after, before)
    after.square().sum().backward()
    updates = {name: parameter for name, parameter in encoder.named_parameters() if ".lora_B." in name}
    assert any(name.startswith("qkv.") for name in updates)
    assert [name for name, parameter in updates.items() if parameter.grad is None] == []


def test_an_encoder_without_linear_layers_is_refused_and_a_missing_peft_says_how_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RecipeError, match="without linear layers"):
        insert_lora(torch.nn.Conv2d(3, 3, 1), 2)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"geodistill\[adapt\]"):
        insert_lora(build_encoder("test_vit"), 2)
