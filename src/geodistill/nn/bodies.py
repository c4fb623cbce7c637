"""The kinds of encoder body: pyramids and plain vision transformers of timm, Mix Transformers, and our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError
from geodistill.nn.adapters import insert_adapters
from geodistill.nn.pvt import PVT_SIZES, STRIDES, PvtBody
from geodistill.nn.sam2 import trunk_tensors
from geodistill.nn.weights import LocalWeights, load_timm_weights

MIT_NAMES = tuple(f"mit_b{i}" for i in range(6))
OWN_OPTIONS: dict[str, tuple[str, ...]] = dict.fromkeys(MIT_NAMES, ()) | dict.fromkeys(PVT_SIZES, ("drop_path_rate",))
"""Encoders that are not timm's, with the options they take."""

VIT_FAMILIES = ("vision_transformer", "deit", "eva")
SWIN_FAMILIES = ("swin_transformer", "swin_transformer_v2")
FIXED_FAMILIES = {
    "beit",
    "byoanet",
    "cait",
    "coat",
    "convit",
    "efficientformer",
    "efficientformer_v2",
    "gcvit",
    "gemma4_vit",
    "hiera",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "levit",
    "maxxvit",
    "mlp_mixer",
    "nest",
    "pit",
    "swin_transformer_v2_cr",
    "tnt",
    "visformer",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "vitamin",
    "volo",
}
"""timm modules whose models take one image size only, or trim their maps, and so cannot serve rasters of any size."""


class PyramidBody(nn.Module):
    """A timm model in its ``features_only`` form, channel-first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.channels_last = getattr(model, "output_fmt", None) == "NHWC"

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps."""
        maps: list[Tensor] = self.model(image)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else list(maps)

    def forward_given(self, image: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        """Run each stage on the map given for the level before it, instead of on its own.

        Args:
            image: ``(B, C, H, W)``.
            given: A map a level, of the level's own shape or smaller (then padded at the bottom and right).

        Raises:
            RecipeError: The stages cannot be told apart.
        """
        own: list[Tensor] = []

        def take(level: int, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            own.append(output)
            height, width = (a - b for a, b in zip(output.shape[-2:], given[level].shape[-2:], strict=True))
            # A copy: the next stage may work in place, and the given map is still a target.
            return F.pad(given[level], (0, width, 0, height)).to(output.dtype, copy=True)

        hooks = [stage.register_forward_hook(partial(take, level)) for level, stage in enumerate(self.stages())]
        try:
            self.model(image)
        finally:
            for hook in hooks:
                hook.remove()
        return own

    def stages(self) -> list[nn.Module]:
        """Give the module whose output is each level.

        Raises:
            RecipeError: They cannot be told apart.
        """
        parts: Any = self.model
        names = [str(info.get("module", "")) for info in parts.feature_info.get_dicts()]
        modules = dict(self.model.named_modules())
        found = [modules.get(name, modules.get(name.replace(".", "_"))) for name in names]
        stages = [stage for stage in found if stage is not None]
        if self.channels_last or len(stages) < len(names):
            raise RecipeError(
                f"teacher forcing of a {type(self.model).__name__}", "a convolutional encoder", "set its share to 0"
            )
        return stages


class VitBody(nn.Module):
    """A plain vision transformer that gives the patch tokens after some of its blocks as maps.

    Maps are the raw residual stream, except that the last block's passes the final norm (mmpretrain's convention,
    which KTDA's teacher follows). Position embeddings are resampled from the pretrained grid to the image's.

    Args:
        model: timm model with ``blocks``, ``patch_embed`` and ``forward_intermediates``.
        indices: Blocks to tap, from 0, ascending.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        super().__init__()
        parts: Any = model
        reaches_end = indices[-1] == len(parts.blocks) - 1
        # Models that pool by averaging keep their final norm behind the pooling.
        final = parts.fc_norm if isinstance(parts.norm, nn.Identity) else parts.norm
        parts.prune_intermediate_layers(list(indices), prune_norm=True, prune_head=True)
        self.model = model
        self.indices = tuple(indices)
        self.norm = final if reaches_end else nn.Identity()

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps, all of one size."""
        parts: Any = self.model
        maps: list[Tensor] = parts.forward_intermediates(
            image, indices=list(self.indices), output_fmt="NCHW", intermediates_only=True
        )
        maps[-1] = self.norm(maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return maps


class MitBody(nn.Module):
    """A Mix Transformer (SegFormer's encoder) of segmentation-models-pytorch, without its dummy first levels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps at strides 4, 8, 16, 32."""
        maps: list[Tensor] = self.model(image)
        return maps[2:]


Parts = tuple[nn.Module, list[int], list[int]]
"""A body, the channels of its maps and their strides."""


@dataclass(frozen=True)
class BodyRequest:
    """What to build a body from.

    Attributes:
        base: Name of a timm model or a Mix Transformer.
        in_channels: Bands of the image.
        options: Further arguments of a timm model.
        hub: Load pretrained weights from the hub.
        local: Load these weights.
        indices: Levels or blocks to give.
    """

    base: str
    in_channels: int
    options: dict[str, Any]
    hub: bool
    local: LocalWeights | None
    indices: tuple[int, ...] | None

    def load(self, model: nn.Module) -> None:
        """Load a local file made from the whole model; with `indices` its last layers may be left over."""
        if self.local is not None and self.local.encoder is None:
            local = self.local
            if self.base.startswith("sam2_hiera"):
                local = replace(local, tensors=trunk_tensors(local.tensors))
            load_timm_weights(model, local, self.in_channels, strict=self.indices is None)


def timm_family(base: str) -> str:
    """Name of the timm module that defines a model, such as ``"resnet"``."""
    return str(timm.models.model_entrypoint(base.split(".")[0]).__module__).rsplit(".", 1)[-1]


def build_body(request: BodyRequest) -> Parts:
    """Build a body; gives it with the channels and strides of its maps."""
    if "adapters" in request.options:
        # Behind the loading of weights, which name the blocks as they are without adapters.
        options = {key: value for key, value in request.options.items() if key != "adapters"}
        parts = build_body(replace(request, options=options))
        insert_adapters(parts[0], request.options["adapters"])
        return parts
    if request.base in MIT_NAMES:
        return _build_mit(request)
    if request.base in PVT_SIZES:
        return _build_pvt(request)
    return _build_vit(request) if timm_family(request.base) in VIT_FAMILIES else _build_pyramid(request)


def _build_pyramid(request: BodyRequest) -> Parts:
    options = dict(request.options)
    if timm_family(request.base) in SWIN_FAMILIES:
        options["strict_img_size"] = False
    if request.indices is not None:
        options["out_indices"] = request.indices
    model: Any = timm.create_model(
        request.base, pretrained=request.hub, features_only=True, in_chans=request.in_channels, **options
    )
    request.load(model)
    return PyramidBody(model), list(model.feature_info.channels()), list(model.feature_info.reduction())


def _build_vit(request: BodyRequest) -> Parts:
    model: Any = timm.create_model(
        request.base,
        pretrained=request.hub,
        num_classes=0,
        in_chans=request.in_channels,
        dynamic_img_size=True,
        **request.options,
    )
    request.load(model)
    depth = len(model.blocks)
    quarters = sorted({max(depth * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)})
    taps = quarters if request.indices is None else list(request.indices)
    if taps != sorted(set(taps)) or not taps or not 0 <= taps[0] <= taps[-1] < depth:
        raise IndexError(f"blocks {taps}, not ascending numbers from 0 to {depth - 1}")
    stride = model.patch_embed.patch_size[0]
    return VitBody(model, taps), [model.embed_dim] * len(taps), [stride] * len(taps)


def _build_mit(request: BodyRequest) -> Parts:
    if request.indices not in (None, (0, 1, 2, 3)):
        raise IndexError(f"levels {request.indices}, not all four")
    weights = "imagenet" if request.hub else None
    device = torch.get_default_device()
    with torch.device("cpu"):  # its constructor reads tensor values, which a meta device has not
        model: Any = get_encoder(request.base, in_channels=request.in_channels, depth=5, weights=weights).to(device)
    request.load(model)
    return MitBody(model), list(model.out_channels[2:]), [4, 8, 16, 32]


def _build_pvt(request: BodyRequest) -> Parts:
    if request.indices not in (None, (0, 1, 2, 3)):
        raise IndexError(f"levels {request.indices}, not all four")
    if request.hub:
        raise ArtifactError(
            f"pretrained weights of {request.base}", "none: nobody published any", "train it, or use null"
        )
    size = PVT_SIZES[request.base]
    body = PvtBody(request.in_channels, size, **request.options)
    request.load(body)
    return body, list(size.widths), list(STRIDES)
