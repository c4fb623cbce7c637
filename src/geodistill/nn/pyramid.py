"""Encoder bodies of several sizes of map: timm's convolutional networks and hierarchical transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.nn.bodies import Body, BodyRequest, timm_family

SWIN_FAMILIES = ("swin_transformer", "swin_transformer_v2")


class PyramidBody(Body):
    """A timm model in its ``features_only`` form, channel-first.

    Args:
        model: Has ``feature_info``.
    """

    def __init__(self, model: nn.Module) -> None:
        parts: Any = model
        super().__init__(parts.feature_info.channels(), parts.feature_info.reduction())
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

        hooks = [stage.register_forward_hook(partial(take, level)) for level, stage in enumerate(self.level_modules())]
        try:
            self.model(image)
        finally:
            for hook in hooks:
                hook.remove()
        return own

    def level_modules(self) -> list[nn.Module]:
        """Return the module whose output is each level.

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
