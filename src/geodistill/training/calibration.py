"""One temperature for a trained model's logits, so that its confidence is how often it is right (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, TEMPERATURES

PIXELS = 4096
"""Labelled pixels of a batch that are looked at, spread evenly over it."""

_HALVINGS = 60


@torch.inference_mode()
def fit_temperature(segmenter: Segmenter, batches: Iterable[Batch], device: torch.device | str) -> float:
    """Return the temperature under which labelled pixels that a model was not trained on are most likely.

    Classes stay as they are: all logits are divided by one number (section 4.2 of the paper).

    Args:
        segmenter: The model; its own temperature must be 1.
        batches: Images in sensor units with masks.
        device: Where to compute; the model is on the CPU again afterwards.

    Returns:
        A number within `TEMPERATURES`; 1 where no pixel has a label.
    """
    segmenter.to(device)
    logits, classes = [], []
    for batch in batches:
        mask = batch["mask"].flatten()
        labelled = torch.nonzero(mask != IGNORE_INDEX)[:, 0]
        chosen = labelled[:: max(len(labelled) // PIXELS, 1)][:PIXELS]
        answer = segmenter(batch["image"].to(device)).float().permute(0, 2, 3, 1).flatten(0, 2).cpu()
        logits.append(answer[chosen])
        classes.append(mask[chosen].long())
    segmenter.to("cpu")
    if not sum(map(len, classes)):
        return 1.0
    return best_temperature(torch.cat(logits), torch.cat(classes))


def best_temperature(logits: Tensor, classes: Tensor) -> float:
    """Return the temperature of least mean cross-entropy of ``(N, K)`` logits against ``(N,)`` classes.

    The cross-entropy is convex in ``b = 1 / T``, so that the sign of its slope says on which side the least one lies.
    """
    true = logits.gather(1, classes[:, None])[:, 0].double()
    wide = logits.double()
    low, high = (1 / bound for bound in reversed(TEMPERATURES))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = ((F.softmax(wide * middle, 1) * wide).sum(1) - true).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 2 / (low + high)
