"""Other projects' checkpoints brought to timm's names: a wrapper's prefix, a backbone among other parts, MAE, Swin."""

from __future__ import annotations

import re
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

_WRAPPERS = ("module.", "_orig_mod.")
_BACKBONE = "backbone."
_SWIN_MERGE = re.compile(r"^layers\.(\d+)\.downsample\.")
_SWIN_TABLES = re.compile(r"\.(?:attn_mask|attn\.relative_position_index)$")
_MAE_DECODER = re.compile(r"^(?:mask_token$|decoder_)")


def timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename what DDP, mmsegmentation (also RSP), MAE and Swin's own repository saved.

    A prefix that every key has goes; of a whole segmentor the backbone is taken; of a masked autoencoder the encoder;
    Swin's merging of patches is counted with the stage after it, and its tables, which follow from the sizes, go.

    Args:
        tensors: By the checkpoint's own names.

    Returns:
        The encoder's, by timm's names; names that none of these use are as they were.
    """
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors):
            tensors = {key.removeprefix(wrapper): tensor for key, tensor in tensors.items()}
    if any(key.startswith(_BACKBONE) for key in tensors):
        tensors = {k.removeprefix(_BACKBONE): tensor for k, tensor in tensors.items() if k.startswith(_BACKBONE)}
    if any(key.startswith("decoder_") for key in tensors):
        tensors = {key: tensor for key, tensor in tensors.items() if not _MAE_DECODER.match(key)}
    if "layers.0.downsample.reduction.weight" in tensors:  # timm's has none at the first stage

        def later(found: re.Match[str]) -> str:
            return f"layers.{int(found[1]) + 1}.downsample."

        tensors = {_SWIN_MERGE.sub(later, k): tensor for k, tensor in tensors.items() if not _SWIN_TABLES.search(k)}
    return tensors


def fit_positions(key: str, tensor: Tensor, model: nn.Module) -> Tensor:
    """Resample a plain vision transformer's position table ``(1, N, C)`` to the model's grid, where it is another."""
    parts: Any = model
    if key != "pos_embed" or not hasattr(model, "patch_embed") or tensor.ndim != 3:
        return tensor
    own: Tensor = parts.pos_embed
    if own.shape == tensor.shape or own.shape[2] != tensor.shape[2]:
        return tensor
    prefix = 0 if parts.no_embed_class else parts.num_prefix_tokens
    if round((tensor.shape[1] - prefix) ** 0.5) ** 2 != tensor.shape[1] - prefix:
        return tensor
    resampled: Tensor = resample_abs_pos_embed(tensor, list(parts.patch_embed.grid_size), num_prefix_tokens=prefix)
    return resampled
