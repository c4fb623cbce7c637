"""Checkpoints as other projects save them, through `build_encoder`."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from geodistill.errors import ArtifactError
from geodistill.nn.checkpoints import timm_names
from geodistill.nn.encoders import build_encoder


def whole_model(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = timm.create_model(name, pretrained=False, num_classes=7).state_dict()
    return state


def maps_of(name: str, path: Path | None) -> list[Tensor]:
    torch.manual_seed(1)
    encoder = build_encoder(name, 3, path).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        return encoder(torch.randn(1, 3, 64, 64))


def saved(path: Path, data: object) -> Path:
    torch.save(data, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_names_with_a_prefix_and_parts_of_a_segmentor_are_read(tmp_path: Path, prefix: str) -> None:
    state = whole_model("test_resnet")
    plain = saved(tmp_path / "plain.pth", state)
    wrapped = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    if "backbone" in prefix:
        wrapped[prefix.replace("backbone.", "decode_head.conv.weight")] = torch.zeros(3)
    # RSP's form: weights under "model", beside what the training kept.
    other = saved(tmp_path / "rsp.pth", {"model": wrapped, "epoch": 299, "max_accuracy": 0.9})
    for one, two in zip(maps_of("test_resnet", plain), maps_of("test_resnet", other), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(maps_of("test_resnet", None)[-1], one)


def test_of_a_masked_autoencoder_the_encoder_is_taken(tmp_path: Path) -> None:
    state = whole_model("test_vit")
    plain = saved(tmp_path / "plain.pth", state)
    mae = {key: tensor for key, tensor in state.items() if not key.startswith("head")}
    width = mae["pos_embed"].shape[2]
    mae |= {
        "mask_token": torch.zeros(1, 1, width),
        "decoder_pos_embed": torch.zeros(1, 5, 8),
        "decoder_blocks.0.norm1.weight": torch.ones(8),
        "decoder_pred.weight": torch.ones(8, 8),
    }
    other = saved(tmp_path / "mae.pth", {"model": mae, "optimizer": {}, "epoch": 1})
    for one, two in zip(maps_of("test_vit", plain), maps_of("test_vit", other), strict=True):
        assert torch.equal(one, two)


def test_a_position_table_of_another_image_size_is_resampled(tmp_path: Path) -> None:
    state = whole_model("test_vit")
    model = timm.create_model("test_vit", pretrained=False)
    prefix, width = model.num_prefix_tokens, state["pos_embed"].shape[2]
    # One value everywhere is what every resampling keeps.
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :prefix], torch.full((1, 36, width), 0.25)], 1)
    path = saved(tmp_path / "large.pth", state)
    body = build_encoder("test_vit", 3, path).body
    table = body.model.pos_embed  # type: ignore[union-attr]
    assert table.shape == model.pos_embed.shape
    torch.testing.assert_close(table[:, prefix:], torch.full_like(table[:, prefix:], 0.25))
    torch.testing.assert_close(table[:, :prefix], state["pos_embed"][:, :prefix])


def test_swins_own_names_become_timms() -> None:
    with torch.device("meta"):
        model = timm.create_model("swin_tiny_patch4_window7_224", features_only=True)
    ours = {key.replace("layers_", "layers."): tensor for key, tensor in model.state_dict().items()}
    theirs = {
        key.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample"): tensor
        for key, tensor in ours.items()
        for stage in [int(key.split(".")[1]) if key.startswith("layers.") else 0]
    }
    theirs["layers.0.blocks.1.attn_mask"] = torch.zeros(1)
    theirs["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)
    assert "layers.0.downsample.reduction.weight" in theirs
    assert set(timm_names(theirs)) == set(ours)
    assert set(timm_names(ours)) == set(ours)


@pytest.mark.parametrize("source", ["test_vit", "test_convnext"])
def test_a_checkpoint_of_another_architecture_is_refused_with_the_first_names(tmp_path: Path, source: str) -> None:
    path = saved(tmp_path / "other.pth", {"model": whole_model(source)})
    with pytest.raises(ArtifactError, match=r"do not fit the encoder: conv1\S* is missing.* and \d+ more"):
        build_encoder("test_resnet", 3, path)
