"""What a trained model learns of its own doubts on validation images: a temperature, and thresholds of class sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geodistill.data.sampling import Batch
from geodistill.description import COVERAGES, TEMPERATURES
from geodistill.inference.sliding import STEPS
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX

PIXELS = 4096
"""Labelled pixels of a batch that are looked at, spread evenly over it."""

_HALVINGS = 60


def calibrate(segmenter: Segmenter, batches: Iterable[Batch], device: torch.device | str) -> None:
    """Fit a model's temperature to images, and its class sets under that; ``batches`` are gone through twice."""
    temperature = fit_temperature(segmenter, batches, device)
    segmenter.settings = replace(segmenter.settings, temperature=temperature)
    segmenter.settings = replace(segmenter.settings, class_sets=fit_class_sets(segmenter, batches, device))


@torch.inference_mode()
def fit_temperature(segmenter: Segmenter, batches: Iterable[Batch], device: torch.device | str) -> float:
    """Return the temperature under which labelled pixels that a model was not trained on are most likely.

    Classes stay as they are: all logits are divided by one number (Guo et al. 2017, section 4.2), so that
    the confidence is how often it is right.

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


@torch.inference_mode()
def fit_class_sets(segmenter: Segmenter, batches: Iterable[Batch], device: torch.device | str) -> dict[str, float]:
    r"""Return by coverage the probability from which on a class is in a pixel's set.

    Conformal risk control over images (Angelopoulos et al. 2024, eq. 4; for segmentation Mossina et al. 2024): with
    ``r_i`` the share of the labelled pixels of image ``i`` whose true class has less than ``t``, the greatest ``t`` of

        ``(r_1 + ... + r_n + 1) / (n + 1) <= 1 - coverage``

    A further image that is to these as they are to each other then has, in expectation, at most that share outside its
    sets. Pixels are neighbours and no independent draws: images are what is counted.

    Args:
        segmenter: The model, its temperature fitted.
        batches: Images in sensor units with masks; parts of one image have one ``source``.
        device: Where to compute; the model is on the CPU again afterwards.

    Returns:
        Multiples of 1/250 by coverage, such as ``{"0.9": 0.12}``; those left out that so few images cannot state.
    """
    segmenter.to(device)
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(STEPS + 1, np.int64))
    for batch in batches:
        shares = segmenter(batch["image"].to(device)).float().softmax(1).cpu()
        for image, mask, source in zip(shares, batch["mask"], batch["source"], strict=True):
            labelled = mask != IGNORE_INDEX
            true = image.gather(0, mask.where(labelled, 0)[None].long())[0][labelled]
            # Rounded down, where maps round to the nearest: sets of a map hold the true class as often or more.
            counts[source] += np.bincount((true * STEPS).long().clamp(max=STEPS).numpy(), minlength=STEPS + 1)
    segmenter.to("cpu")
    return class_set_thresholds(np.array([of_image for of_image in counts.values() if of_image.any()]))


def class_set_thresholds(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the thresholds of `fit_class_sets`.

    Args:
        counts: ``(images, STEPS + 1)`` labelled pixels by the probability of their true class in steps.
    """
    if not len(counts):
        return {}
    below = np.cumsum(counts, 1) - counts  # of each image, pixels of less than step j
    risk = ((below / counts.sum(1, keepdims=True)).sum(0) + 1) / (len(counts) + 1)
    allowed = {coverage: np.flatnonzero(risk <= 1 - coverage + 1e-12) for coverage in COVERAGES}
    return {f"{coverage:g}": int(steps[-1]) / STEPS for coverage, steps in allowed.items() if len(steps)}
