"""A discriminator of feature maps: it draws each map as a picture, which a frozen encoder reads (KDA, Fig. 2)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.errors import RecipeError, check_name
from geodistill.nn.encoders import Encoder

Form = Literal["scalar", "patch"]

GRID = 16
"""Side of the grid that the scalar form's last layer reads: DINOv2's at 224 pixels."""


class FeatureDiscriminator(nn.Module):
    """Tells two sources of feature maps apart.

    Four transposed convolutions draw the map as a picture of three channels, the frozen encoder reads the picture,
    and a convolutional head scores what it reads. Gradients pass through the frozen encoder to the map.

    Student and discriminator play a minimax game over one loss L, the squared difference of the scores (Eq. 2-3): the
    student S lowers it, the discriminator D raises it. One backward pass serves both, because every gradient that is
    stored on D's own parameters has its sign reversed::

        step of S   s <- s - rate * dL/ds
        step of D   d <- d - rate * (-dL/dd)  =  d + rate * dL/dd

    The reversal is on the parameters alone: what flows through D to the maps keeps its sign. So one loss and one
    optimiser train both sides. The encoder is no submodule: it stays out of the optimiser, of DDP and of checkpoints.

    Args:
        channels: Channels of the maps.
        encoder: Reads the picture; frozen here, in evaluation mode for good. It takes three channels.
        form: ``scalar`` returns one score per image, as the released code does; ``patch`` one per position of the
            map, as the paper's words ("pixel level") ask.
        width: Channels behind the first transposed convolution and the head's first; the others follow from it.

    Raises:
        RecipeError: The width is too small.
        UnknownNameError: No such form.
    """

    def __init__(self, channels: int, encoder: Encoder, form: Form = "scalar", width: int = 512) -> None:
        super().__init__()
        check_name("discriminator form", form, get_args(Form))
        if width < 8 or width % 8:
            raise RecipeError(f"discriminator width {width}", "a multiple of 8")
        self.form = form
        self._frozen = (encoder.eval().requires_grad_(False),)
        self.draw = nn.Sequential(
            nn.ConvTranspose2d(channels, width, 4, 2, 1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width // 2, width // 8, 4, 2, 1),
            nn.BatchNorm2d(width // 8),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width // 8, 3, 4, 2, 1),
            nn.BatchNorm2d(3),
        )
        self.head = nn.Sequential(
            nn.Conv2d(encoder.channels[-1], width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width // 4, 3, padding=1),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 4, 1, 1),
        )
        self.whole = nn.Linear(GRID * GRID, 1) if form == "scalar" else None
        for parameter in self.parameters():  # Eq. 2's maximum: the reversed gradient of the class's text
            parameter.register_hook(torch.neg)  # type: ignore[no-untyped-call]

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self._frozen[0]

    def forward(self, maps: Tensor) -> Tensor:
        """Score maps.

        Args:
            maps: ``(B, C, H, W)``.

        Returns:
            ``(B, 1)`` (scalar) or ``(B, 1, H, W)`` (patch) in 0..1.
        """
        height, width = maps.shape[-2:]
        stride = self.encoder.strides[-1]
        # The encoder's grid over the picture is then the map's own: 16 x 16 at stride 14 is the published 224.
        size = (height * stride, width * stride)
        picture = F.interpolate(self.draw(maps), size, mode="bilinear", align_corners=False)
        scores = self.head(self.encoder(picture)[-1])
        if self.whole is not None:
            scores = self.whole(F.adaptive_avg_pool2d(scores, GRID).flatten(1))
        return torch.sigmoid(scores.float())

    def compare(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Score two sources in one batch, so that the batch norms read both and hide no difference between them."""
        first_scores, second_scores = self(torch.cat([first.float(), second.float()])).chunk(2)
        return first_scores, second_scores

    def place(self, device: torch.device | str) -> None:
        """Move the frozen encoder, which `to` does not reach."""
        self.encoder.to(device)


def discriminator_accuracy(first: Tensor, second: Tensor) -> Tensor:
    """Return the accuracy of the scores of two sources, whichever of them was scored higher.

    The threshold lies halfway between the two means.

    Args:
        first: Any shape.
        second: Same shape.

    Returns:
        A scalar in 0..1, about 0.5 for scores that say nothing.
    """
    first, second = first.detach().float(), second.detach().float()
    middle = (first.mean() + second.mean()) / 2
    sign = torch.where(first.mean() >= second.mean(), 1.0, -1.0)
    right = torch.cat([((first - middle) * sign > 0).flatten(), ((middle - second) * sign > 0).flatten()])
    return right.float().mean()
