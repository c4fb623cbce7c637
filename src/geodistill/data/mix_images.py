"""Images of a batch mixed with each other: a part of one pasted into the next, with its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from geodistill.data.data_config import MixKind
from geodistill.data.labelled_objects import number_objects
from geodistill.data.sampling import Batch
from geodistill.spec import IGNORE_INDEX

_SPATIAL = ("image", "plain", "mask", "valid", "unlabelled", "soft", "confident")


@dataclass(frozen=True)
class Mixing:
    """Pastes a part of each image's neighbour in the batch into it, with labels, validity and soft labels.

    Where there are several data sets, it is the neighbour among those of its own set, whose classes are the same.

    ``classmix`` pastes half of the neighbour's classes, by its labels or, of an image without them, by its soft labels
    (Olsson et al. 2021); ``cutmix`` a rectangle of a random share of the image (Yun et al. 2019); ``copypaste`` half of
    its objects: connected pixels of any class but the neighbour's most frequent one (Ghiasi et al. 2021, whose jitter
    of scale and mirroring crops have had already). Random numbers are torch's own, which a run seeds at every step.

    Attributes:
        probability: That an image is mixed at all.
        kind: What is pasted.
    """

    probability: float = 0.0
    kind: MixKind = "classmix"

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with some of its images mixed; the same batch where nothing is to be done."""
        if not self.probability or len(batch["key"]) < 2:
            return batch
        givers = _givers(batch)
        pasted = torch.stack([self._pasted(batch, giver) for giver in givers])
        mixed: dict[str, Any] = dict(batch)
        for name in _SPATIAL:
            if name in batch:
                receiving = cast(Tensor, mixed[name])
                where = pasted[:, None] if receiving.ndim == 4 else pasted
                mixed[name] = torch.where(where, receiving[givers], receiving)
        return cast(Batch, mixed)

    def _pasted(self, batch: Batch, giver: int) -> Tensor:
        """Return which pixels ``(H, W)`` of an image come from ``giver``."""
        mask = batch["mask"][giver]
        if float(torch.rand(())) >= self.probability:
            return torch.zeros_like(mask, dtype=torch.bool)
        if self.kind == "cutmix":
            return _rectangle(mask)
        classes = mask
        if "soft" in batch:
            classes = torch.where(batch["unlabelled"][giver], batch["soft"][giver].argmax(0), mask)
        counted = batch["valid"][giver] & (classes != IGNORE_INDEX)
        if self.kind == "copypaste":
            most = int(torch.bincount(classes[counted], minlength=1).argmax())
            numbers = number_objects(classes.cpu().numpy(), counted.cpu().numpy(), most)
            classes = torch.from_numpy(numbers).to(classes.device)
            counted = classes > 0
        present = torch.bincount(classes[counted]).nonzero()[:, 0]
        chosen = present[torch.randperm(len(present)).to(present.device)[: -(-len(present) // 2)]]
        return counted & torch.isin(classes, chosen)


def _givers(batch: Batch) -> list[int]:
    """Return which image gives a part to each: the one before it of the same set; one alone in its set gives itself."""
    count = len(batch["key"])
    sets = batch["set"].tolist() if "set" in batch else [0] * count
    # Positions below 0 count from the end, as Python's do.
    return [next(j for j in range(i - 1, i - 1 - count, -1) if sets[j] == sets[i]) for i in range(count)]


def _rectangle(mask: Tensor) -> Tensor:
    """Return a random rectangle of an image's shape, whose share of it is as likely to be any."""
    height, width = mask.shape
    share, row, col = (float(value) for value in torch.rand(3))
    tall, wide = round(height * share**0.5), round(width * share**0.5)
    top, left = round(row * (height - tall)), round(col * (width - wide))
    inside = torch.zeros_like(mask, dtype=torch.bool)
    inside[top : top + tall, left : left + wide] = True
    return inside
