"""Mask2Former (Cheng et al. 2022) over any encoder: transformers' two decoders, and losses with an ignored region.

Queries propose masks, which all sets share; a set's head says of which of its classes each query is, or of none.

transformers' own losses (and SAMRS's) count every pixel outside a mask as its negative, labelled or not. In sets that
label objects alone most pixels are unlabelled, and the network learns that no object is there. Here pixels without a
label take no part in matching, masks or Dice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from geodistill.errors import RecipeError
from geodistill.methods.sep.network import Hidden, Queries, SepDecoder, SepHead, SepNetworkConfig
from geodistill.nn.decoders import resize
from geodistill.nn.losses import mean_over_processes
from geodistill.spec import IGNORE_INDEX

NORM_GROUPS = 32
"""Groups of the pixel decoder's norms; its width must be a multiple, and more, for a map may be a single pixel."""

POINTS = 12_544
"""Points at which a mask is compared with the labels (section 3.3), at most one for each of their pixels."""
OVERSAMPLE = 3
UNSURE = 0.75
"""Share of the points that lie where the mask is least sure, among `OVERSAMPLE` times as many."""
COSTS = (2.0, 5.0, 5.0)
"""Factors of class, mask and Dice in the matching (section 4.1)."""
NO_OBJECT = 0.1
"""Weight of "no object" among the classes (section 4.1)."""

Pairs = tuple[Tensor, Tensor]
"""Queries and the masks they are matched with, ``(N,)`` int64 each; masks as positions in `Targets.classes`."""


class _Modules(Mask2FormerPreTrainedModel):  # type: ignore[no-untyped-call]
    """Both decoders together, so that transformers initialises them its way."""

    def __init__(self, config: Mask2FormerConfig, channels: Sequence[int]) -> None:
        super().__init__(config)
        self.pixels = Mask2FormerPixelDecoder(config, list(channels))
        self.queries = Mask2FormerTransformerModule(config.feature_size, config)
        self.post_init()  # type: ignore[no-untyped-call]


class MaskBlocks(SepDecoder):
    """Mask2Former's two decoders: 6 layers of deformable attention on pixels, 9 of masked attention on 100 queries.

    Args:
        channels: Channels of the maps at strides 4, 8, 16 and 32.
        width: Channels throughout, a multiple of 32 from 64; 256 as published where not given.

    Raises:
        RecipeError: The width is not such a multiple.
    """

    def __init__(self, channels: Sequence[int], width: int | None = None) -> None:
        super().__init__()
        self.width = width or 256
        if self.width % NORM_GROUPS or self.width == NORM_GROUPS:
            raise RecipeError(
                f"network.decoder_channels {width} of mask2former", f"a multiple of {NORM_GROUPS} from 64"
            )
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
        decoded = self.modules_of.queries(list(pixels.multi_scale_features), pixels.mask_features)
        queries = [layer.transpose(0, 1) for layer in decoded.intermediate_hidden_states]
        masks = list(decoded.masks_queries_logits)
        first = 0 if self.training else -1
        return (*queries[first:], *masks[first:])

    def make_head(self, classes: int, config: SepNetworkConfig) -> SepHead:
        """Make a `QueryHead`."""
        return QueryHead(self.width, classes)


class QueryHead(SepHead):
    """The class embedding of a set: from queries to its classes, and "no object" after them."""

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
        """Return each layer's class logits and mask logits."""
        layers = len(hidden) // 2
        return Queries([self.classes(layer) for layer in hidden[:layers]], list(hidden[layers:]))


class Targets:
    """The binary masks of an image, one for each class that its labels hold."""

    def __init__(self, mask: Tensor) -> None:
        """Take labels ``(H, W)`` int64, `IGNORE_INDEX` where there is none."""
        classes = torch.unique(mask)
        self.classes = classes[classes != IGNORE_INDEX]
        self.labels = mask[None, None].float()


def query_losses(queries: Queries, mask: Tensor) -> dict[str, Tensor]:
    """Return the three losses, each summed over the layers.

    Args:
        queries: Class logits ``(B, Q, K + 1)`` and mask logits ``(B, Q, h, w)`` of every layer.
        mask: ``(B, H, W)`` int64, `IGNORE_INDEX` where there is no label.

    Returns:
        ``class``: cross-entropy of the queries of images that have a label, those matched with no mask being "no
        object"; ``mask``: binary cross-entropy, and ``dice``: Dice, the mean over masks at points that have a label.
        Each is 0 with a graph where no pixel is labelled.
    """
    targets = [Targets(image) for image in mask]
    labelled = torch.tensor([len(image.classes) > 0 for image in targets], device=mask.device)
    matched = [match(queries, position, image) for position, image in enumerate(targets)]
    masks = mean_over_processes(torch.tensor(sum(len(t.classes) for t in targets), device=mask.device).float())
    totals = {name: torch.zeros((), device=mask.device) for name in ("class", "mask", "dice")}
    for layer, (classes, shapes) in enumerate(zip(queries.classes, queries.masks, strict=True)):
        pairs = [image[layer] for image in matched]
        totals["class"] = totals["class"] + _class_loss(classes, targets, pairs, labelled)
        cross, dice = _mask_losses(shapes, targets, pairs)
        totals["mask"] = totals["mask"] + cross / masks
        totals["dice"] = totals["dice"] + dice / masks
    return totals


@torch.no_grad()
def match(queries: Queries, position: int, target: Targets) -> list[Pairs]:
    """Return for each layer the queries of the image at ``position`` of the batch with the masks they are matched with.

    The Hungarian method at random points that have a label.
    """
    none = target.classes.new_empty(0)
    if not len(target.classes):
        return [(none, none)] * len(queries.classes)
    points = torch.rand(1, min(POINTS, target.labels.numel()), 2, device=none.device)
    labels = sample_labels(target.labels, points)[0]
    # For points p of N that have a label (known), K targets (inside) and Q queries (logits x, chances s = sigmoid(x)):
    # cross[q, k] = sum_p of BCE(x[q, p], inside[k, p]) / N, and dice[q, k] = 1 - (2 s.inside + 1) / (s + inside + 1).
    known = (labels != IGNORE_INDEX).float()
    inside = (labels == target.classes[:, None]).float() * known
    costs = []
    for classes, masks in zip(queries.classes, queries.masks, strict=True):
        chances = classes[position].float().softmax(-1)[:, target.classes]
        shapes = sample_logits(masks[position][None].float(), points)[0]
        cross = F.softplus(-shapes) @ inside.T + (F.softplus(shapes) * known) @ (1 - inside).T
        cross = cross / known.sum().clamp(min=1)
        sizes = (shapes.sigmoid() @ known)[:, None] + inside.sum(-1)
        dice = 1 - (2 * shapes.sigmoid() @ inside.T + 1) / (sizes + 1)
        costs.append(COSTS[1] * cross + COSTS[2] * dice - COSTS[0] * chances)
    # One transfer for all layers. What is not finite must still be matched; the loss itself will tell.
    finite = torch.stack(costs).nan_to_num(1e6, 1e6, -1e6).cpu().numpy()
    pairs = map(linear_sum_assignment, finite)
    return [(torch.from_numpy(a).to(none.device), torch.from_numpy(b).to(none.device)) for a, b in pairs]


def _class_loss(logits: Tensor, targets: Sequence[Targets], pairs: Sequence[Pairs], labelled: Tensor) -> Tensor:
    none = logits.shape[-1] - 1
    classes = torch.full(logits.shape[:2], none, device=logits.device)
    for position, (image, (chosen, masks)) in enumerate(zip(targets, pairs, strict=True)):
        classes[position, chosen] = image.classes[masks]
    weights = torch.where(classes == none, NO_OBJECT, 1.0) * labelled[:, None]
    each = F.cross_entropy(logits.float().flatten(0, 1), classes.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / mean_over_processes(weights.sum(), least=NO_OBJECT)


def _mask_losses(logits: Tensor, targets: Sequence[Targets], pairs: Sequence[Pairs]) -> tuple[Tensor, Tensor]:
    """Sum both losses over all matched masks of a batch."""
    images = [torch.full_like(chosen, position) for position, (chosen, _) in enumerate(pairs)]
    image, query = torch.cat(images), torch.cat([chosen for chosen, _ in pairs])
    if not len(image):
        nothing = 0.0 * logits.float().sum()
        return nothing, nothing
    shapes = logits[image, query][:, None].float()
    classes = torch.cat([target.classes[masks] for target, (_, masks) in zip(targets, pairs, strict=True)])
    labels = torch.cat([target.labels for target in targets])[image]
    points = unsure_points(shapes.detach(), labels)
    sampled = sample_logits(shapes, points)[:, 0]
    given = sample_labels(labels, points)
    known = (given != IGNORE_INDEX).float()
    inside = (given == classes[:, None]).float()
    cross = F.binary_cross_entropy_with_logits(sampled, inside, reduction="none")
    chances = sampled.sigmoid() * known
    dice = 1 - (2 * (chances * inside).sum(1) + 1) / (chances.sum(1) + inside.sum(1) + 1)
    return ((cross * known).sum(1) / known.sum(1).clamp(min=1)).sum(), dice.sum()


@torch.no_grad()
def unsure_points(shapes: Tensor, labels: Tensor) -> Tensor:
    """Draw the points of each mask: most where it is least sure, and none without need where no label is.

    Args:
        shapes: ``(N, 1, h, w)`` mask logits.
        labels: ``(N, 1, H, W)`` float class indices.

    Returns:
        ``(N, P, 2)`` x and y in 0..1, P being `POINTS` or the number of pixels.
    """
    points = min(POINTS, labels.shape[-2] * labels.shape[-1])
    drawn = torch.rand(len(shapes), OVERSAMPLE * points, 2, device=shapes.device)
    sure = sample_logits(shapes, drawn)[:, 0].abs()
    sure = sure.masked_fill(sample_labels(labels, drawn) == IGNORE_INDEX, torch.inf)
    count = int(UNSURE * points)
    best = sure.topk(count, largest=False).indices
    chosen = drawn.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.rand(len(shapes), points - count, 2, device=shapes.device)], 1)


def sample_logits(maps: Tensor, points: Tensor) -> Tensor:
    """Read ``(N, C, h, w)`` at ``(N, P, 2)`` points, x and y in 0..1, bilinearly: ``(N, C, P)``."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, align_corners=False)[..., 0]


def sample_labels(labels: Tensor, points: Tensor) -> Tensor:
    """Read ``(N, 1, H, W)`` float class indices at ``(N, P, 2)`` points, the nearest: ``(N, P)`` int64."""
    return F.grid_sample(labels, 2 * points[:, :, None] - 1, mode="nearest", align_corners=False)[:, 0, :, 0].long()
