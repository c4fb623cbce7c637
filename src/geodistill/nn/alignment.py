"""Where student meets teacher: taking an encoder's maps, pairing levels, and KTDA's Feature Alignment Module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.nn.decoders import rescaled, resize


class FeatureTap:
    """Keeps the maps of an encoder's last forward pass, whatever network it stands in.

    Args:
        network: With an ``encoder``, and a ``scale`` where it resizes the image before that.
    """

    def __init__(self, network: nn.Module) -> None:
        encoder: Any = network.encoder
        self.channels, self.strides = encoder.channels, encoder.strides
        self._scale = float(getattr(network, "scale", 1.0))
        self._maps: list[Tensor] | None = None
        encoder.register_forward_hook(self._keep)

    def take(self, height: int, width: int) -> list[Tensor]:
        """Return the maps once, of the whole image, without what a network padded it by.

        Args:
            height: Of the image that the network was given, in pixels.
            width: Same.

        Returns:
            ``(B, Ci, ceil(height / si), ceil(width / si))`` a level.

        Raises:
            RecipeError: The network has not run its encoder since the last call.
        """
        if self._maps is None:
            raise RecipeError("a network that does not run its encoder", "maps to learn features on")
        maps, self._maps = self._maps, None
        rows, cols = rescaled((height, width), self._scale)
        grids = map_grids(rows, cols, self.strides)
        cut = [m[..., : grid[0], : grid[1]] for m, grid in zip(maps, grids, strict=True)]
        return [resize(m, grid) for m, grid in zip(cut, map_grids(height, width, self.strides), strict=True)]

    def _keep(self, encoder: nn.Module, given: Any, maps: list[Tensor]) -> None:
        self._maps = list(maps)


def map_grids(height: int, width: int, strides: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the maps of an image at each stride."""
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


class FAM(nn.Module):
    """Feature Alignment Module (Eq. 1-2): a 1x1 convolution a level, then resizing to the teacher's grid.

    Args:
        channels: Channels of each student map.
        teacher_channels: Channels of each teacher map.
    """

    def __init__(self, channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        super().__init__()
        convs = [nn.Conv2d(count, target, 1) for count, target in zip(channels, teacher_channels, strict=True)]
        for conv in convs:
            nn.init.trunc_normal_(conv.weight, std=0.02)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.projections = nn.ModuleList(convs)

    def forward(self, maps: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> list[Tensor]:
        """``(B, Ci, Hi, Wi)`` a level -> ``(B, teacher Ci, *grid)`` a level."""
        aligned: list[Tensor] = []
        for level, projection, grid in zip(maps, self.projections, grids, strict=True):
            # The published order is project, then resize. Both are linear and the resize's weights sum to 1, so
            # they commute; the cheaper side first saves most of the work at fine levels.
            shrinks = grid[0] * grid[1] < level.shape[-2] * level.shape[-1]
            aligned.append(projection(resize(level, grid)) if shrinks else resize(projection(level), grid))
        return aligned


def pair_levels(student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Say which student level learns from which teacher level.

    Two pyramids meet at equal strides. Where either side has one size for all its maps (a plain vision transformer),
    levels pair by depth, the last with the last, as published.

    Args:
        student: Stride of each student level.
        teacher: Stride of each teacher level.

    Returns:
        Pairs (student level, teacher level), finest first.

    Raises:
        RecipeError: Nothing matches.
    """
    pyramids = [len(set(strides)) > 1 for strides in (student, teacher)]
    if all(pyramids):
        # A dilated encoder repeats its last stride: its deepest level of that stride is the one to match.
        deepest = {stride: level for level, stride in enumerate(student)}
        last = {stride: level for level, stride in enumerate(teacher)}
        pairs = [(deepest[stride], level) for stride, level in last.items() if stride in deepest]
    else:
        count = min(len(student), len(teacher))
        pairs = [(len(student) - count + i, len(teacher) - count + i) for i in range(count)]
    if not pairs:
        raise RecipeError(
            f"student maps at strides {list(student)} under teacher maps at {list(teacher)}",
            "at least one stride in common",
            "choose levels with teacher.indices, or another encoder on either side",
        )
    return pairs
