"""MetaSegNet's objective: cross-entropy, Dice and image-text matching (paper, section III-E)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import GeodistillWarning, UnknownNameError
from geodistill.methods.metasegnet.network import EMBEDDING
from geodistill.methods.method import CommonLosses
from geodistill.nn.losses import cross_entropy, soft_dice
from geodistill.nn.output import SegmentationOutput

WEIGHTS = {"ce": 1.0, "dice": 1.0, "itm": 1.0}
_EMPTY = -1


@dataclass(frozen=True)
class LossConfig(CommonLosses):
    """The loss terms.

    Attributes:
        weights: Factor of ``ce``, ``dice`` and ``itm`` (image-text matching). A term left out keeps its default.
        smoothing: Share of each label spread over all classes, GeoSeg's habit.
        queue: Image and text embeddings of earlier batches that the contrastive part compares with.
    """

    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    smoothing: float = 0.05
    queue: int = 16


class MatchingQueue:
    """The embeddings of earlier batches with the prompt of each; slots not filled yet take no part.

    Args:
        length: Slots.
    """

    def __init__(self, length: int) -> None:
        self.image, self.text = torch.zeros(length, EMBEDDING), torch.zeros(length, EMBEDDING)
        self.prompt = torch.full((length,), _EMPTY)
        self._next = 0

    def add(self, image: Tensor, text: Tensor, prompt: Tensor) -> None:
        """Put a batch in, over the oldest."""
        for one, words, key in zip(image.detach(), text.detach(), prompt, strict=True):
            if len(self.prompt):
                self.image[self._next], self.text[self._next], self.prompt[self._next] = one, words, key
                self._next = (self._next + 1) % len(self.prompt)

    def filled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give image embeddings, text embeddings and prompts of the filled slots."""
        there = self.prompt != _EMPTY
        return self.image[there], self.text[there], self.prompt[there]

    def to(self, device: torch.device | str) -> None:
        """Move the queue."""
        self.image, self.text, self.prompt = (part.to(device) for part in (self.image, self.text, self.prompt))

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run needs."""
        return {"image": self.image, "text": self.text, "prompt": self.prompt, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self.image, self.text, self.prompt = state["image"], state["text"], state["prompt"]
        self._next = int(state["next"])


def contrast(embedding: Tensor, others: Tensor, prompt: Tensor, other_prompts: Tensor, temperature: Tensor) -> Tensor:
    """Image-to-text or text-to-image contrast; every entry of the same prompt is a positive.

    With one prompt a climate zone, images of one zone share their text: ALBEF's form for repeated texts is used,
    whose target is spread evenly over the positives.

    Args:
        embedding: ``(B, E)`` of unit length.
        others: ``(N, E)`` of unit length, of the other modality.
        prompt: ``(B,)`` int64.
        other_prompts: ``(N,)`` int64.
        temperature: Scalar above 0.

    Returns:
        A scalar.
    """
    positive = (prompt[:, None] == other_prompts).float()
    logits = embedding @ others.T / temperature.clamp(0.001, 0.5)
    target = positive / positive.sum(1, keepdim=True)
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()


class MetaSegNetObjective:
    """The terms ``ce``, ``dice`` and ``itm``.

    ``itm`` is the mean of both directions of contrast plus the matching loss. It is exactly 0 while only one prompt
    is in sight, in batch and queue together: there is nothing to tell apart then.

    Args:
        config: Weights and choices.

    Raises:
        UnknownNameError: A weight of no such term.
    """

    label_free = frozenset({"itm"})

    def __init__(self, config: LossConfig) -> None:
        for name in config.weights:
            if name not in WEIGHTS:
                raise UnknownNameError("loss term", name, WEIGHTS)
        self.weights = WEIGHTS | dict(config.weights)
        self._smoothing, self._queue = config.smoothing, MatchingQueue(config.queue)
        self._seen: set[int] = set()
        self._steps = 0

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Give the unweighted terms of one batch in training form."""
        mask = batch["mask"]
        terms = {"ce": cross_entropy(output.logits, mask, self._smoothing), "dice": soft_dice(output.logits, mask)}
        if "match" not in output.features:
            return terms | {"itm": output.logits.sum() * 0.0}
        return terms | {"itm": self._matching(output)}

    def _matching(self, output: SegmentationOutput) -> Tensor:
        names = ("prompt", "image_embedding", "text_embedding", "temperature", "match", "mismatch")
        prompt, image, text, temperature, match, mismatch = (output.features[name][0] for name in names)
        old_image, old_text, old_prompt = self._queue.filled()
        prompts = torch.cat([prompt, old_prompt])
        # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
        nothing = (image.sum() + text.sum() + temperature + match.sum() + mismatch.sum()) * 0.0
        several = bool((prompts != prompts[0]).any())
        self._tell(prompts)
        total = nothing
        if several:
            to_text = contrast(image, torch.cat([text, old_text]), prompt, prompts, temperature)
            to_image = contrast(text, torch.cat([image, old_image]), prompt, prompts, temperature)
            total = total + (to_text + to_image) / 2 + self._match(match, mismatch, prompt)
        self._queue.add(image, text, prompt)
        return total

    def _match(self, match: Tensor, mismatch: Tensor, prompt: Tensor) -> Tensor:
        """Two-way cross-entropy: own prompt against another image's; images without another give their own alone."""
        has_other = (prompt[:, None] != prompt).any(1)
        logits = torch.cat([match, mismatch[has_other]]).float()
        target = torch.cat([torch.ones_like(prompt), torch.zeros_like(prompt[has_other])])
        return F.cross_entropy(logits, target)

    def _tell(self, prompts: Tensor) -> None:
        """Say once, after a queue's worth of batches, that the term has nothing to compare."""
        self._steps += 1
        if self._steps <= len(self._queue.prompt):
            self._seen |= set(prompts.tolist())
            if self._steps == len(self._queue.prompt) and len(self._seen) == 1 and self.weights["itm"]:
                warnings.warn(
                    "image-text matching is 0: every image so far has the same prompt; it helps only where images of "
                    "several climate zones or seasons are trained together",
                    GeodistillWarning,
                    stacklevel=2,
                )

    def weight(self, name: str, step: int) -> float:
        """Give the factor of a term, the same at every step."""
        return self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Move the queue."""
        self._queue.to(device)

    def teacher_module(self) -> nn.Module | None:
        """There is no teacher; the text encoder has done its part before training."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Give the queue."""
        return self._queue.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the queue back."""
        self._queue.load_state_dict(state)
