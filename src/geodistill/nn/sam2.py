"""The trunk (Hiera) of the image encoder in published SAM2 and SAM2.1 weights, under timm's parameter names."""

from __future__ import annotations

from torch import Tensor

PREFIXES = ("image_encoder.trunk.", "vision_encoder.backbone.", "detector_model.vision_encoder.backbone.")
"""Prefixes of the trunk's parameters in Meta's files, and in those of transformers."""

RENAMED = {
    # Meta's
    ".mlp.layers.0.": ".mlp.fc1.",
    ".mlp.layers.1.": ".mlp.fc2.",
    # transformers'
    ".mlp.proj_in.": ".mlp.fc1.",
    ".mlp.proj_out.": ".mlp.fc2.",
    ".layer_norm1.": ".norm1.",
    ".layer_norm2.": ".norm2.",
    "patch_embed.projection.": "patch_embed.proj.",
}


def trunk_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the trunk's tensors of a whole SAM2 under timm's names.

    Neck, prompt encoder, mask decoder and memory are left out. Tensors with timm's names are returned unchanged.

    Args:
        tensors: Weights by key as Meta, transformers or timm publish them.
    """
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in tensors)), "")
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    return {_renamed(key): tensor for key, tensor in tensors.items()}


def _renamed(key: str) -> str:
    for old, new in RENAMED.items():
        key = key.replace(old, new)
    return key
