"""LoRA: what is trained, and that the merged encoder is the adapted one, also by peft's own merging."""

from __future__ import annotations

import sys
from copy import deepcopy

import pytest
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


def test_an_encoder_without_linear_layers_is_refused_and_a_missing_peft_says_how_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RecipeError, match="without linear layers"):
        insert_lora(torch.nn.Conv2d(3, 3, 1), 2)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"geodistill\[adapt\]"):
        insert_lora(build_encoder("test_vit"), 2)
