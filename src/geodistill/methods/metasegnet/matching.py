"""Image-text matching (ALBEF's, as the paper takes it, section II-C1): what it compares, and its contrast."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.methods.metasegnet.network import mean_of_tokens

EMBEDDING = 256
TEMPERATURE = 0.07
_EMPTY = -1


class Matching(nn.Module):
    """What image-text matching compares (step 1 of the paper's algorithm); training only.

    Step 4 has a linear head on the fused text token, where the paper takes a positive and a negative vector from BERT,
    which is frozen.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(width, EMBEDDING), nn.Linear(width, EMBEDDING)
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE))
        self.match = nn.Linear(width, 2)

    def embed(self, image: Tensor, text: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, h, w)`` and ``(B, T, C)`` -> two ``(B, EMBEDDING)`` of unit length."""
        pooled = self.image(image.mean((-2, -1))), self.text(mean_of_tokens(text, present))
        return F.normalize(pooled[0].float(), dim=-1), F.normalize(pooled[1].float(), dim=-1)


class MatchingQueue:
    """The embeddings of earlier batches with the prompt of each (step 2); slots not filled yet take no part."""

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
        """Return image embeddings, text embeddings and prompts of the filled slots."""
        there = self.prompt != _EMPTY
        return self.image[there], self.text[there], self.prompt[there]

    def to(self, device: torch.device | str) -> None:
        """Move the queue."""
        self.image, self.text, self.prompt = (part.to(device) for part in (self.image, self.text, self.prompt))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"image": self.image, "text": self.text, "prompt": self.prompt, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self.image, self.text, self.prompt = state["image"], state["text"], state["prompt"]
        self._next = int(state["next"])


def same_prompt(prompt: Tensor, others: Tensor) -> Tensor:
    """``(B,)`` and ``(N,)`` int64 -> ``(B, N)`` bool: every entry of the same prompt is a positive.

    With one prompt per climate zone, images of one zone share their text; this is ALBEF's form for repeated texts.
    """
    return prompt[:, None] == others


def own_pair(prompt: Tensor, others: Tensor) -> Tensor:
    """``(B,)`` and ``(N,)`` -> ``(B, N)`` bool: an image's own text alone is its positive, as the paper prints it.

    The first B of the N entries are those of the batch.
    """
    return torch.eye(len(prompt), len(others), dtype=torch.bool, device=prompt.device)


def contrast(embedding: Tensor, others: Tensor, positive: Tensor, temperature: Tensor) -> Tensor:
    """Return image-to-text or text-to-image contrast (step 3), whose target is spread evenly over the positives.

    Args:
        embedding: ``(B, E)`` of unit length.
        others: ``(N, E)`` of unit length, of the other modality.
        positive: ``(B, N)`` bool.
        temperature: Scalar above 0.

    Returns:
        A scalar.
    """
    logits = embedding @ others.T / temperature.clamp(0.001, 0.5)
    target = positive / positive.sum(1, keepdim=True)  # bool by integer is float
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()
