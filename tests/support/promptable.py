"""Small networks of the SAM family with random weights, as transformers makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SIDE = 64
"""Pixels of the networks' input."""

_DECODER = {"hidden_size": 32, "mlp_dim": 48, "num_attention_heads": 2, "iou_head_hidden_dim": 24}
_PROMPTS = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16}
_STEPS = [[16, 16], [8, 8], [4, 4]]


def _sam() -> Any:
    vision = {"hidden_size": 24, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 16}
    prompts = {"hidden_size": 32, "image_size": SIDE, "image_embedding_size": SIDE // 16}
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER)
    return transformers.SamModel(config)


def _sam2() -> Any:
    backbone = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
    }
    backbone |= {"embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 2, 4]}
    backbone |= {"window_size_per_stage": [8, 4, 2, 2], "global_attention_blocks": [3]}
    vision = {"backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}, "fpn_hidden_size": 32}
    vision |= {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": _STEPS}
    config = transformers.Sam2Config(
        vision_config={"model_type": "sam2_vision_model", **vision},
        prompt_encoder_config=_PROMPTS,
        mask_decoder_config=_DECODER,
    )
    return transformers.Sam2Model(config)


def _sam3() -> Any:
    backbone = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    backbone |= {"image_size": SIDE, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1]}
    backbone |= {"pretrain_image_size": SIDE}
    vision = {"model_type": "sam3_vision_model", "backbone_config": {"model_type": "sam3_vit_model", **backbone}}
    vision |= {"fpn_hidden_size": 32, "backbone_feature_sizes": _STEPS}
    config = transformers.Sam3TrackerConfig(
        vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER
    )
    return transformers.Sam3TrackerModel(config)


def _edgetam() -> Any:
    arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = {
        "model_type": "timm_wrapper",
        "architecture": "test_convnext",
        "model_args": arguments,
        "num_classes": 2,
    }
    vision = {"model_type": "edgetam_vision_model", "backbone_config": backbone, "fpn_hidden_size": 32}
    vision |= {"backbone_channel_list": [64, 48, 32, 24], "backbone_feature_sizes": _STEPS}
    config = transformers.EdgeTamConfig(
        vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER
    )
    return transformers.EdgeTamModel(config)


_MODELS = {"sam": _sam, "sam2": _sam2, "sam3": _sam3, "edgetam": _edgetam}
_PROCESSORS = {
    "sam": ("SamProcessor", "SamImageProcessor"),
    "sam2": ("Sam2Processor", "Sam2ImageProcessor"),
    "sam3": ("Sam3TrackerProcessor", "Sam3ImageProcessor"),
    "edgetam": ("Sam2Processor", "Sam2ImageProcessor"),
}


def promptable(family: str) -> tuple[Any, Any]:
    """Return a small model and its processor; the random masks have both signs and many edges."""
    torch.manual_seed(0)
    model = _MODELS[family]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "norm" not in name:
                parameter.normal_(std=0.3)  # biases begin at 0, which would hide one that is forgotten
            elif parameter.ndim > 1 and "positional" not in name:
                parameter.normal_(std=(1.5 if "upscale" in name else 1.0) / parameter[0].numel() ** 0.5)
    whole, part = (getattr(transformers, name) for name in _PROCESSORS[family])
    if family == "sam":
        images = part(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    else:
        images = part(size={"height": SIDE, "width": SIDE})
    return model, whole(images)


def save_promptable(family: str, folder: Path) -> Path:
    """Write a small network as the hub keeps them."""
    model, processor = promptable(family)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
