"""Bodies of encoders: what each gives, and the family that builds it, imported when its name is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.nn.weights import LocalWeights

OWN_FAMILIES: dict[str, str] = {
    **{f"mit_b{size}": "geodistill.nn.mit:build_mit" for size in range(6)},
    **dict.fromkeys(("pvt_kda", "pvt_kda_tiny"), "geodistill.nn.pvt:build_pvt"),
}
"""Builder of each encoder that is not timm's."""

OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    name: ("drop_path_rate",) if name.startswith("pvt") else () for name in OWN_FAMILIES
}
"""Options that each of them takes."""

VIT_FAMILIES = ("vision_transformer", "deit", "eva")
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


class Body(nn.Module):
    """What computes an encoder's maps.

    Args:
        channels: Channels of each map.
        strides: Stride of each map in pixels.

    Attributes:
        channels: As given.
        strides: As given.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)``, sides multiples of every stride -> maps ``(B, Ci, H / si, W / si)``, finest first."""

    def forward_given(self, image: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
        """Run each stage on the map given for the level before it; see `geodistill.nn.pyramid.PyramidBody`.

        Raises:
            RecipeError: The stages cannot be told apart.
        """
        raise RecipeError(f"teacher forcing of {type(self).__name__}", "a convolutional encoder", "set its share to 0")

    def level_modules(self) -> list[nn.Module]:
        """Return the module whose output is each level.

        Raises:
            RecipeError: They cannot be told apart.
        """
        raise RecipeError(f"teacher forcing of {type(self).__name__}", "a convolutional encoder", "set its share to 0")


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
                local = replace(local, tensors=load("geodistill.nn.sam2:trunk_tensors")(local.tensors))
            load("geodistill.nn.checkpoints:load_timm_weights")(
                model, local, self.in_channels, strict=self.indices is None
            )


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
    plain = "geodistill.nn.vit:build_vit" if request.base not in OWN_FAMILIES and is_plain(request.base) else None
    body: Body = load(OWN_FAMILIES.get(request.base) or plain or "geodistill.nn.pyramid:build_pyramid")(request)
    return body


def is_plain(base: str) -> bool:
    """Whether a timm model is a plain vision transformer, whose maps all have one size."""
    return timm_family(base) in VIT_FAMILIES
