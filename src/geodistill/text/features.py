"""Features of prompts: made once by the frozen text encoder, and read from then on (MetaSegNet, section II-B)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from geodistill.errors import ArtifactError, DataError
from geodistill.files import atomic_path
from geodistill.text.templates import Prompt
from geodistill.text.text_encoders import TextEncoder, open_text_encoder

MOST_TOKENS = 250
"""The length that prompts are padded to (MetaSegNet, section III-C)."""


def token_count(encoder: TextEncoder, prompt: Prompt, merged: bool = True) -> int:
    """Count the tokens of a prompt, whose classes are read as one text or, not ``merged``, each by itself."""
    return sum(encoder.tokens(text) for text in _texts(prompt, merged))


def fitting_words(classes: int) -> int:
    """Return the words that a class's answer may have for a prompt of so many classes to keep to `MOST_TOKENS`."""
    # A class's name and the signs around it take about six tokens; an English word is 1.35 tokens of BERT.
    return min(max(int((MOST_TOKENS / classes - 6) / 1.35), 8), 40)


def encode_prompt(encoder: TextEncoder, prompt: Prompt, most: int = MOST_TOKENS, merged: bool = True) -> Tensor:
    """Return ``(T, width)`` float32 features of a prompt's tokens, class after class.

    The texts of all classes are read as one, so that each is seen beside the others (section II-B, step 4), or not
    ``merged`` each by itself, for an encoder that reads few tokens at once.

    Raises:
        DataError: The prompt has more than ``most`` tokens, or more than the encoder reads at once.
    """
    count = token_count(encoder, prompt, merged)
    if count > most:
        longest = max(prompt.parts, key=lambda part: len(part.text))
        raise DataError(
            f"a prompt of {count} tokens for {len(prompt.parts)} classes (longest: '{longest.name}')",
            f"at most {most}",
            "shorten its texts or raise text.tokens",
        )
    return torch.cat([encoder.encode(text) for text in _texts(prompt, merged)])


class FeatureStore:
    """Prompt features on disk, one safetensors file per prompt and encoder: the encoder runs once per distinct text.

    Args:
        name: The text encoder, as `open_text_encoder` takes it.
        folder: Where features are kept; in memory only where not given.
        most: Longest prompt in tokens.
        merged: Read the texts of a prompt's classes as one.
    """

    def __init__(self, name: str, folder: Path | None = None, most: int = MOST_TOKENS, merged: bool = True) -> None:
        self.encoder = open_text_encoder(name)
        self._folder, self._most, self._merged = folder, most, merged
        self._known: dict[str, Tensor] = {}

    def features(self, prompts: Iterable[Prompt]) -> dict[str, Tensor]:
        """Return ``(T, width)`` float32 features by prompt id.

        Raises:
            DataError: A prompt is too long.
            ArtifactError: A stored file is altered or of another width.
            OutputError: The folder cannot be written.
        """
        return {prompt.id: self._one(prompt) for prompt in prompts}

    def tokens(self, prompt: Prompt) -> int:
        """Return the length that a prompt's features have, or would have were it not too long."""
        return token_count(self.encoder, prompt, self._merged)

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt is short enough, as a whole and for the encoder."""
        longest = max(self.encoder.tokens(text) for text in _texts(prompt, self._merged))
        return self.tokens(prompt) <= self._most and longest <= self.encoder.longest

    def _one(self, prompt: Prompt) -> Tensor:
        if prompt.id not in self._known:
            form = "merged" if self._merged else "by-class"
            path = self._folder and self._folder / f"{self.encoder.fingerprint}-{form}-{prompt.id}.safetensors"
            if path is not None and path.is_file():
                self._known[prompt.id] = _read(path, self.encoder.width)
            else:
                self._known[prompt.id] = encode_prompt(self.encoder, prompt, self._most, self._merged)
                if path is not None:
                    with atomic_path(path) as part:
                        # Not save_file, whose files only their owner can read.
                        part.write_bytes(save({"features": self._known[prompt.id].contiguous()}))
        return self._known[prompt.id]


def padded(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack prompts of different lengths.

    Returns:
        ``(B, T, D)`` float32, zero after a prompt's end, and ``(B, T)`` bool: True where a token is.
    """
    longest = max(len(one) for one in features)
    text = torch.stack([torch.nn.functional.pad(one, (0, 0, 0, longest - len(one))) for one in features])
    present = torch.stack([torch.arange(longest) < len(one) for one in features])
    return text, present


def _texts(prompt: Prompt, merged: bool) -> list[str]:
    return [prompt.text] if merged else [part.text for part in prompt.parts]


def _read(path: Path, width: int) -> Tensor:
    try:
        features = load_file(path)["features"]
    except (SafetensorError, KeyError, OSError) as error:
        raise ArtifactError(f"{path} holds no prompt features", "", "remove it to have it made again") from error
    if features.ndim != 2 or features.shape[1] != width or not features.is_floating_point():
        raise ArtifactError(
            f"features of shape {tuple(features.shape)} in {path}",
            f"tokens x {width}",
            "remove it to have it made again",
        )
    return features
