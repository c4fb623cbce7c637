"""Bodies of encoders: timm's pyramids and plain vision transformers, and where those of other families come from.

A family of `OWN_FAMILIES` is imported when its name is asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.lazy import load

if TYPE_CHECKING:
    from geodistill.nn.encoder_weights import LocalWeights

OWN_FAMILIES: dict[str, str] = {
    **{f"mit_b{size}": "geodistill.nn.mit:build_mit" for size in range(6)},
    **dict.fromkeys(("pvt_kda", "pvt_kda_tiny"), "geodistill.nn.pvt:build_pvt"),
}
"""Builder of each encoder that is not timm's."""

OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    name: ("drop_path_rate",) if name.startswith("pvt") else () for name in OWN_FAMILIES
}
"""Options that each of them takes."""

SWIN_FAMILIES = ("swin_transformer", "swin_transformer_v2")
VIT_FAMILIES = ("vision_transformer", "deit", "eva")
BEIT_FAMILIES = ("beit",)
FIXED_FAMILIES = {
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


class Body(nn.Module):
    """What computes an encoder's maps.

    Attributes:
        channels: Channels of each map.
        strides: Stride of each map in pixels.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)``, sides multiples of every stride -> maps ``(B, Ci, H / si, W / si)``, finest first."""

    def level_modules(self) -> list[nn.Module]:
        """Return the module whose output is each level.

        Raises:
            RecipeError: They cannot be told apart.
        """
        raise _no_stages(self)

    def forward_given(self, image: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        """Run each stage on the map given for the level before it, instead of on its own.

        Args:
            image: ``(B, C, H, W)``.
            given: A map for each level, of the level's own shape or smaller (then padded at the bottom and right).

        Raises:
            RecipeError: The stages cannot be told apart.
        """
        outputs: list[Tensor] = []

        def take(level: int, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            outputs.append(output)
            height, width = (a - b for a, b in zip(output.shape[-2:], given[level].shape[-2:], strict=True))
            # A copy: the next stage may work in place, and the given map is still a target.
            return F.pad(given[level], (0, width, 0, height)).to(output.dtype, copy=True)

        hooks = [stage.register_forward_hook(partial(take, level)) for level, stage in enumerate(self.level_modules())]
        try:
            self(image)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs


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
                local = replace(local, tensors=load("geodistill.nn.checkpoints:trunk_tensors")(local.tensors))
            load("geodistill.nn.checkpoints:load_timm_weights")(
                model, local, self.in_channels, strict=self.indices is None
            )


class PyramidBody(Body):
    """A timm model in its ``features_only`` form, channel-first."""

    def __init__(self, model: nn.Module) -> None:
        parts: Any = model
        super().__init__(parts.feature_info.channels(), parts.feature_info.reduction())
        self.model = model
        self.channels_last = getattr(model, "output_fmt", None) == "NHWC"

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` -> maps."""
        maps: list[Tensor] = self.model(image)
        return [m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else list(maps)

    def level_modules(self) -> list[nn.Module]:
        """Return the module whose output is each level; as in `Body`."""
        parts: Any = self.model
        names = [str(info.get("module", "")) for info in parts.feature_info.get_dicts()]
        modules = dict(self.model.named_modules())
        matches = [modules.get(name, modules.get(name.replace(".", "_"))) for name in names]
        stages = [stage for stage in matches if stage is not None]
        if self.channels_last or len(stages) < len(names):
            raise _no_stages(self.model)
        return stages


def _no_stages(body: nn.Module) -> RecipeError:
    return RecipeError(
        f"the stages of a {type(body).__name__}, which cannot be told apart",
        "a convolutional encoder",
        "set what works on them, the share of teacher forcing or network.style_noise, to 0",
    )


def build_pyramid(request: BodyRequest) -> PyramidBody:
    """Return a pyramid of timm.

    Raises:
        TypeError, IndexError, RuntimeError: timm's, where an option, a level or a size is not its.
    """
    options = dict(request.options)
    if timm_family(request.base) in SWIN_FAMILIES:
        options["strict_img_size"] = False
    if request.indices is not None:
        options["out_indices"] = request.indices
    model: Any = timm.create_model(
        request.base, pretrained=request.hub, features_only=True, in_chans=request.in_channels, **options
    )
    request.load(model)
    return PyramidBody(model)


class VitBody(Body):
    """A plain vision transformer whose maps are the patch tokens after some of its blocks.

    Maps are the raw residual stream, except that the last block's passes the final norm (mmpretrain's convention,
    which KTDA's teacher follows). Position embeddings are resampled from the pretrained grid to the image's.

    Args:
        model: timm model with ``blocks``, ``patch_embed`` and ``forward_intermediates``.
        indices: Blocks to tap, from 0, ascending.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]) -> None:
        parts: Any = model
        stride = parts.patch_embed.patch_size[0]
        super().__init__([parts.embed_dim] * len(indices), [stride] * len(indices))
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


def build_vit(request: BodyRequest) -> VitBody:
    """Return a plain vision transformer of timm.

    Raises:
        IndexError: The blocks asked for are not ascending, or not among the model's.
        TypeError, RuntimeError: timm's, where an option or a size is not its.
    """
    model: Any = timm.create_model(
        request.base,
        pretrained=request.hub,
        num_classes=0,
        in_chans=request.in_channels,
        dynamic_img_size=True,
        **request.options,
    )
    request.load(model)
    return VitBody(model, tapped_blocks(len(model.blocks), request.indices))


def tapped_blocks(depth: int, indices: Sequence[int] | None) -> list[int]:
    """Return the blocks whose tokens are maps, from 0: those asked for, or those that end each quarter of the depth.

    Raises:
        IndexError: They are not ascending, or not among the blocks.
    """
    quarters = sorted({max(depth * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)})
    taps = quarters if indices is None else list(indices)
    if taps != sorted(set(taps)) or not taps or not 0 <= taps[0] <= taps[-1] < depth:
        raise IndexError(f"blocks {taps}, not ascending numbers from 0 to {depth - 1}")
    return taps


def timm_family(base: str) -> str:
    """Name of the timm module that defines a model, such as ``"resnet"``."""
    return str(timm.models.model_entrypoint(base.split(".")[0]).__module__).rsplit(".", 1)[-1]


def build_body(request: BodyRequest) -> Body:
    """Return a body of the family that its name belongs to, with adapters where they are asked for.

    Raises:
        Exception: What the family's library raises on options, levels and sizes that it does not take.
    """
    if "adapters" in request.options:
        # After the loading of weights, which name the blocks as they are without adapters.
        options = {key: value for key, value in request.options.items() if key != "adapters"}
        adapted = build_body(replace(request, options=options))
        load("geodistill.nn.adapters:insert_adapters")(adapted, request.options["adapters"])
        return adapted
    if request.base in OWN_FAMILIES:
        body: Body = load(OWN_FAMILIES[request.base])(request)
        return body
    if timm_family(request.base) in BEIT_FAMILIES:
        beit: Body = load("geodistill.nn.beit:build_beit")(request)
        return beit
    return build_vit(request) if timm_family(request.base) in VIT_FAMILIES else build_pyramid(request)
