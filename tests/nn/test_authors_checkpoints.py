"""Checkpoints as their authors and mmpretrain name them give the very encoder that timm's names give."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.models.convnext import checkpoint_filter_fn

from geodistill.nn.checkpoints import timm_names
from geodistill.nn.encoders import build_encoder

IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def as_convnext_authors(key: str) -> str:
    """timm's name of a ConvNeXt's tensor -> that of its authors."""
    key = key.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.").replace("head.fc.", "head.")
    key = re.sub(r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
    key = re.sub(r"stages\.(\d)\.blocks\.(\d)\.", r"stages.\1.\2.", key)
    return key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")


def as_convnext_mmpretrain(key: str) -> str:
    """The same -> mmpretrain's, of a whole classifier."""
    key = as_convnext_authors(key).replace("dwconv", "depthwise_conv").replace("pwconv", "pointwise_conv")
    return (
        key if key.startswith("head.") else f"backbone.{key.replace('norm.', 'norm3.') if key[:5] == 'norm.' else key}"
    )


def as_vit_mmpretrain(key: str) -> str:
    """timm's name of a vision transformer's tensor -> mmpretrain's."""
    key = re.sub(r"^norm\.", "ln1.", key).replace("patch_embed.proj.", "patch_embed.projection.")
    key = re.sub(r"\.norm(\d)\.", r".ln\1.", key).replace("blocks.", "layers.")
    key = key.replace(".ls1.gamma", ".attn.gamma1.weight").replace(".ls2.gamma", ".ffn.gamma2.weight")
    return "backbone." + key.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")


def seeded(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **options)


@pytest.mark.parametrize("renamed", [as_convnext_authors, as_convnext_mmpretrain])
def test_a_convnext_is_the_same_under_every_name(renamed: Callable[[str], str], tmp_path: Path) -> None:
    state = seeded("test_convnext").state_dict()
    torch.save(state, tmp_path / "timm.pth")
    torch.save({"model": {renamed(key): tensor for key, tensor in state.items()}}, tmp_path / "other.pth")
    ours, other = (
        build_encoder("test_convnext", weights=tmp_path / f"{name}.pth").eval() for name in ("timm", "other")
    )
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(ours(IMAGE), other(IMAGE), strict=True))


def test_convnexts_own_names_are_read_as_timm_reads_them() -> None:
    model = seeded("convnext_atto")  # timm's reader wants its own, larger form
    authors = {as_convnext_authors(key): tensor for key, tensor in model.state_dict().items()}
    theirs = checkpoint_filter_fn(dict(authors), model)
    ours = timm_names(dict(authors))
    shared = {key for key in theirs if key.startswith(("stem", "stages"))}
    assert shared <= set(ours)
    assert all(ours[key].reshape(-1).equal(theirs[key].reshape(-1)) for key in shared)


def test_a_vision_transformer_of_mmpretrain(tmp_path: Path) -> None:
    model = seeded("vit_small_patch14_dinov2", depth=2, embed_dim=32, num_heads=2, img_size=28)
    state = model.state_dict()
    assert any(key.endswith("ls1.gamma") for key in state)
    other = timm_names({as_vit_mmpretrain(key): tensor for key, tensor in state.items()})
    assert set(other) == set(state)
    assert all(other[key].equal(tensor) for key, tensor in state.items())


def test_dinov2s_gated_mlp_and_registers() -> None:
    cls, registers, positions = torch.ones(1, 1, 2), torch.rand(1, 4, 2), torch.rand(1, 5, 2)
    tensors = {
        "cls_token": cls,
        "register_tokens": registers,
        "pos_embed": positions,
        "blocks.0.mlp.w12.weight": torch.ones(8, 2),
        "blocks.0.mlp.w3.bias": torch.ones(2),
    }
    found = timm_names(tensors)
    assert set(found) == {"cls_token", "reg_token", "pos_embed", "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.bias"}
    assert found["reg_token"].equal(registers)
    assert found["cls_token"].equal(cls + positions[:, :1])
    assert found["pos_embed"].equal(positions[:, 1:])
