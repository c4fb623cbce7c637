"""Weights put into encoders: by timm's names, to which other projects' checkpoints are brought, or by our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from geodistill.errors import ArtifactError
from geodistill.nn.encoder_weights import LocalWeights

_HEADS = {"head", "head_dist", "classifier", "fc", "fc_norm"}
_WRAPPERS = ("module.", "_orig_mod.")
_BACKBONE = "backbone."
_SWIN_MERGE = re.compile(r"^layers\.(\d+)\.downsample\.")
_SWIN_TABLES = re.compile(r"\.(?:attn_mask|attn\.relative_position_index)$")
_MAE_DECODER = re.compile(r"^(?:mask_token$|decoder_)")

_CONVNEXT = "downsample_layers.0.0.weight"
_CONVNEXT_NAMES = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.(?:dwconv|depthwise_conv)\.", ".conv_dw."),
    (r"\.(?:pwconv|pointwise_conv)(\d)\.", r".mlp.fc\1."),
)
"""The names that ConvNeXt's authors and mmpretrain have; either has the key `_CONVNEXT`."""
_VIT = re.compile(r"^layers\.\d+\.ln1\.")
_VIT_NAMES = (
    (r"^layers\.", "blocks."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^ln1\.", "norm."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.attn\.gamma1(?:\.weight)?$", ".ls1.gamma"),
    (r"\.ffn\.gamma2(?:\.weight)?$", ".ls2.gamma"),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"\.ffn\.", ".mlp."),
)
"""mmpretrain's names of a plain vision transformer."""
_GATED_NAMES = ((r"\.mlp\.w12\.", ".mlp.fc1."), (r"\.mlp\.w3\.", ".mlp.fc2."))
"""DINOv2's names of a gated MLP, ViT-g's."""

_SAM2_PREFIXES = ("image_encoder.trunk.", "vision_encoder.backbone.", "detector_model.vision_encoder.backbone.")
"""Where the image encoder's trunk (Hiera) lies in SAM2's weights as Meta and as transformers publish them."""

_SAM2_NAMES = {
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


def timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename what DDP, mmsegmentation (also RSP), mmpretrain, MAE and the authors of Swin, ConvNeXt and DINOv2 saved.

    A prefix that every key has goes; of a whole segmentor the backbone is taken; of a masked autoencoder the encoder;
    Swin's merging of patches is counted with the stage after it, and its tables, which follow from the sizes, go.
    DINOv2's registers take no position, so that of the class token is added to it.

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

        def later(match: re.Match[str]) -> str:
            return f"layers.{int(match[1]) + 1}.downsample."

        tensors = {_SWIN_MERGE.sub(later, k): tensor for k, tensor in tensors.items() if not _SWIN_TABLES.search(k)}
    if _CONVNEXT in tensors:
        tensors = _renamed(tensors, _CONVNEXT_NAMES)
    if any(map(_VIT.match, tensors)):
        tensors = _renamed(tensors, _VIT_NAMES)
    if "register_tokens" in tensors:
        positions = tensors["pos_embed"]
        tensors = tensors | {"cls_token": tensors["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
        tensors["reg_token"] = tensors.pop("register_tokens")
    return _renamed(tensors, _GATED_NAMES)


def _renamed(tensors: dict[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in tensors.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        renamed[key] = tensor
    return renamed


def trunk_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the trunk's tensors out of a whole SAM2's and give them timm's names.

    Neck, prompt encoder, mask decoder and memory are left behind. Tensors that are named as timm's pass unchanged.

    Args:
        tensors: Weights by key as Meta, transformers or timm publish them.
    """
    prefix = next((prefix for prefix in _SAM2_PREFIXES if any(key.startswith(prefix) for key in tensors)), "")
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    for old, new in _SAM2_NAMES.items():
        tensors = {key.replace(old, new): tensor for key, tensor in tensors.items()}
    return tensors


def fit_positions(key: str, tensor: Tensor, model: nn.Module) -> Tensor:
    """Resample a plain vision transformer's position table ``(1, N, C)`` to the model's grid, where it is another."""
    parts: Any = model
    if key != "pos_embed" or not hasattr(model, "patch_embed") or tensor.ndim != 3:
        return tensor
    table: Tensor = parts.pos_embed
    if table.shape == tensor.shape or table.shape[2] != tensor.shape[2]:
        return tensor
    prefix = 0 if parts.no_embed_class else parts.num_prefix_tokens
    if round((tensor.shape[1] - prefix) ** 0.5) ** 2 != tensor.shape[1] - prefix:
        return tensor
    resampled: Tensor = resample_abs_pos_embed(tensor, list(parts.patch_embed.grid_size), num_prefix_tokens=prefix)
    return resampled


def load_timm_weights(model: nn.Module, weights: LocalWeights, in_channels: int, strict: bool = True) -> None:
    """Load the weights of a whole timm model into it or into its feature-extracting form.

    Feature forms rename ``stages.0`` to ``stages_0``, so keys are compared with dots for underscores. What follows
    the encoder in the file (pooling, classifier) is left over on purpose; anything else must fit exactly. Checkpoints
    of other projects are renamed, and position tables resampled.

    Args:
        model: Takes the weights.
        weights: As read from disk.
        in_channels: Bands of the image; an RGB stem is adapted.
        strict: Whether keys inside the model's parts may not be left over either.

    Raises:
        ArtifactError: Keys are missing, left over or of another shape; the message names them.
    """
    given = {_flat(key): (key, tensor) for key, tensor in timm_names(weights.tensors).items()}
    parts = {re.sub(r"_\d+$", "", name) for name, _ in model.named_children()} - _HEADS
    chosen: dict[str, Tensor] = {}
    problems: list[str] = []
    for key, target in model.state_dict().items():
        entry = given.pop(_flat(key), None)
        if entry is None:
            if not key.endswith("num_batches_tracked"):
                problems.append(f"{key} is missing")
            continue
        tensor = fit_positions(key, _adapt_stem(entry[1], target, in_channels), model)
        if tensor.shape != target.shape:
            problems.append(f"{key} is {tuple(tensor.shape)}, not {tuple(target.shape)}")
        chosen[key] = tensor
    if strict:
        problems += [f"{key} is left over" for key, _ in given.values() if key.split(".")[0] in parts]
    _refuse(weights.path, problems)
    # Some encoders of segmentation-models-pytorch override load_state_dict with another signature.
    nn.Module.load_state_dict(model, chosen, strict=False)


def load_own_weights(module: nn.Module, weights: LocalWeights, strict: bool = True) -> None:
    """Load tensors whose keys are the module's own; without ``strict`` some may be left over.

    Raises:
        ArtifactError: Keys are missing, left over or of another shape; the message names them.
    """
    expected = module.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in weights.tensors]
    for key, tensor in weights.tensors.items():
        if key not in expected and strict:
            problems.append(f"{key} is left over")
        elif key in expected and tensor.shape != expected[key].shape:
            problems.append(f"{key} is {tuple(tensor.shape)}, not {tuple(expected[key].shape)}")
    _refuse(weights.path, problems)
    module.load_state_dict(weights.tensors, strict=strict)


def _flat(key: str) -> str:
    return key.removeprefix("model.").replace("_", ".")


def _adapt_stem(tensor: Tensor, target: Tensor, in_channels: int) -> Tensor:
    """Fit an RGB stem kernel to another number of bands: summed for one, repeated and scaled for more."""
    stem = tensor.ndim == 4 and tensor.shape[1] == 3 and target.ndim == 4 and target.shape[1] == in_channels
    if stem and in_channels != 3 and tensor.shape[2:] == target.shape[2:]:
        adapted: Tensor = adapt_input_conv(in_channels, tensor)
        return adapted
    return tensor


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        shown = ", ".join(problems[:4]) + (f" and {len(problems) - 4} more" if len(problems) > 4 else "")
        raise ArtifactError(f"weights {path} do not fit the encoder: {shown}", "weights of this very encoder")
