"""SAM2's trunk out of the weights that Meta, transformers and timm publish: the same maps from all three."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Sam2HieraDetConfig, Sam2HieraDetModel

from geodistill.errors import ArtifactError
from geodistill.nn.checkpoints import load_timm_weights, trunk_tensors
from geodistill.nn.encoder_weights import LocalWeights
from geodistill.nn.encoders import build_encoder

SMALL = {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}


@pytest.fixture(scope="module")
def transformers_model() -> Sam2HieraDetModel:
    torch.manual_seed(0)
    config = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_positional_embedding_background_size=[7, 7],
        window_size_per_stage=[8, 4, 14, 7],
        global_attention_blocks=[3],
    )
    model = Sam2HieraDetModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    return model


def meta_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name transformers' tensors as Meta's checkpoint does, with parts of SAM2 that are no trunk beside them."""
    renames = {"layer_norm": "norm", "mlp.proj_in": "mlp.layers.0", "mlp.proj_out": "mlp.layers.1"}
    named = {}
    for key, tensor in state.items():
        for old, new in {**renames, "patch_embed.projection": "patch_embed.proj"}.items():
            key = key.replace(old, new)
        named[f"image_encoder.trunk.{key}"] = tensor
    return {**named, "image_encoder.neck.convs.0.conv.weight": torch.zeros(1), "maskmem_tpos_enc": torch.zeros(1)}


@pytest.mark.parametrize("published", ["meta", "transformers", "trunk alone"])
@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_maps_equal_those_of_transformers(
    transformers_model: Sam2HieraDetModel, published: str, size: tuple[int, int]
) -> None:
    state = transformers_model.state_dict()
    tensors = {
        "meta": meta_names(state),
        "transformers": {f"vision_encoder.backbone.{k}": v for k, v in state.items()}
        | {"mask_decoder.x": torch.zeros(1)},
        "trunk alone": state,
    }[published]
    model = timm.create_model("sam2_hiera_tiny", features_only=True, **SMALL).eval()
    load_timm_weights(model, LocalWeights(Path("sam2"), trunk_tensors(dict(tensors))), 3)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        theirs = transformers_model(image).intermediate_hidden_states
        ours = model(image)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)


def test_timms_names_pass_unchanged() -> None:
    state = timm.create_model("sam2_hiera_tiny", num_classes=0, **SMALL).state_dict()
    assert trunk_tensors(dict(state)).keys() == state.keys()


@pytest.mark.slow
def test_an_encoder_with_adapters_takes_a_whole_sam2_from_disk(tmp_path: Path) -> None:
    plain = build_encoder("sam2_hiera_tiny")
    tensors = {f"image_encoder.trunk.{k.removeprefix('body.model.model.')}": v for k, v in plain.state_dict().items()}
    tensors = {
        k.replace(".mlp.fc1.", ".mlp.layers.0.").replace(".mlp.fc2.", ".mlp.layers.1."): v for k, v in tensors.items()
    }
    tensors["sam_mask_decoder.iou_token.weight"] = torch.zeros(1, 4)
    file = tmp_path / "sam2.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)
    encoder = build_encoder("sam2_hiera_tiny(adapters=block)", weights=file)
    own = {k.replace(".block.", "."): v for k, v in encoder.state_dict().items() if ".adapter." not in k}
    assert own.keys() == plain.state_dict().keys()
    assert all(torch.equal(own[key], value) for key, value in plain.state_dict().items())


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    small = timm.create_model("sam2_hiera_tiny", num_classes=0, **SMALL).state_dict()
    save_file({f"image_encoder.trunk.{k}": v.contiguous() for k, v in small.items()}, tmp_path / "small.safetensors")
    with torch.device("meta"), pytest.raises(ArtifactError, match="do not fit the encoder"):
        build_encoder("sam2_hiera_tiny", weights=tmp_path / "small.safetensors")
