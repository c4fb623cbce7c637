"""Mask2Former (Cheng et al. 2022) over any encoder: transformers' pixel decoder and masked-attention decoder.

Queries propose masks, which all sets share; a set's head says of which of its classes each query is, or of none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from geodistill.errors import RecipeError
from geodistill.methods.sep.decoders import Decoder, Head, Hidden, Queries
from geodistill.nn.decoders import resize

GROUPS = 32
"""Groups of the pixel decoder's norms; its width must be a multiple, and more, for a map may be a single pixel."""


class _Modules(Mask2FormerPreTrainedModel):  # type: ignore[no-untyped-call]
    """Both decoders together, so that transformers initialises them its way.

    Args:
        config: Their sizes.
        channels: Channels of the maps at strides 4, 8, 16 and 32.
    """

    def __init__(self, config: Mask2FormerConfig, channels: Sequence[int]) -> None:
        super().__init__(config)
        self.pixels = Mask2FormerPixelDecoder(config, list(channels))
        self.queries = Mask2FormerTransformerModule(config.feature_size, config)
        self.post_init()  # type: ignore[no-untyped-call]


class MaskBlocks(Decoder):
    """Mask2Former's two decoders: 6 layers of deformable attention on pixels, 9 of masked attention on 100 queries.

    Args:
        channels: Channels of the maps at strides 4, 8, 16 and 32.
        width: Channels throughout, a multiple of 32 from 64; 256 as published where not given.

    Raises:
        RecipeError: The width does not do.
    """

    def __init__(self, channels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        self.width = width or 256
        if self.width % GROUPS or self.width == GROUPS:
            raise RecipeError(f"network.decoder_channels {width} of mask2former", f"a multiple of {GROUPS} from 64")
        config = Mask2FormerConfig(
            feature_size=self.width,
            mask_feature_size=self.width,
            hidden_dim=self.width,
            encoder_feedforward_dim=4 * self.width,
            dim_feedforward=8 * self.width,
        )
        device = torch.get_default_device()
        with torch.device("cpu"):  # its initialisation reads tensor values, which a meta device has not
            self.modules_of = _Modules(config, channels)
        self.to(device)

    def train(self, mode: bool = True) -> MaskBlocks:
        """Set the mode; the pixel decoder, which has no dropout, would only look for overflow and wait for the GPU."""
        super().train(mode)
        self.modules_of.pixels.eval()
        return self

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Hidden:
        """Maps -> the queries ``(B, Q, width)`` of each layer, then the logits ``(B, Q, H / 4, W / 4)`` of their masks.

        In training of all ten stages, else of the last.
        """
        pixels = self.modules_of.pixels(list(maps), output_hidden_states=False, return_dict=True)
        found = self.modules_of.queries(list(pixels.multi_scale_features), pixels.mask_features)
        queries = [layer.transpose(0, 1) for layer in found.intermediate_hidden_states]
        masks = list(found.masks_queries_logits)
        first = 0 if self.training else -1
        return (*queries[first:], *masks[first:])

    def make_head(self, classes: int) -> Head:
        """Make a linear layer from queries to the set's classes and "no object"."""
        return QueryHead(self.width, classes)


class QueryHead(Head):
    """The class embedding of a set.

    Args:
        width: Channels of a query.
        classes: Classes of the set; "no object" comes after them.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = nn.Linear(width, classes + 1)

    def forward(self, hidden: Hidden, size: Sequence[int]) -> Tensor:
        """Semantic inference: each class's score is the sum over queries of its probability times the mask's.

        Returns:
            ``(B, K, H, W)``: the scores' logarithms, so that a softmax gives them back in proportion.
        """
        queries, masks = hidden[len(hidden) // 2 - 1], hidden[-1]
        chances = self.classes(queries).softmax(-1)[..., :-1]
        # Full size costs a hundred maps an image; in training, where only losses on queries are taken, it is spared.
        shown = masks if self.training else resize(masks, size)
        scores = torch.einsum("bqk,bqhw->bkhw", chances, shown.sigmoid())
        return resize(scores.clamp(min=1e-6).log(), size)

    def queries(self, hidden: Hidden) -> Queries:
        """Give each layer's class logits and mask logits."""
        layers = len(hidden) // 2
        return Queries([self.classes(layer) for layer in hidden[:layers]], list(hidden[layers:]))
