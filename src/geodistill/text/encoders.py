"""Frozen text encoders: texts become token features (MetaSegNet, III-C)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from geodistill.errors import ArtifactError, DataError

WORDS = "words"
WORD_WIDTH = 128


class TextEncoder(Protocol):
    """Turns texts into token features.

    Attributes:
        name: What was asked for.
        fingerprint: Changes whenever name or weights do.
        width: Channels of a token.
    """

    name: str
    fingerprint: str
    width: int

    def tokens(self, text: str) -> int:
        """Count the tokens that `encode` gives of a text."""
        ...

    def encode(self, text: str) -> Tensor:
        """Give ``(T, width)`` float32 features of a text's tokens.

        Raises:
            DataError: The text is longer than the encoder reads at once.
        """
        ...


class WordEncoder:
    """Text features without any weights: each word is a fixed random direction, drawn from its own spelling.

    Texts that share words share features, which is all that a segmenter trained on a few dozen prompts can use; what
    words mean is known to a trained text encoder only.

    Args:
        width: Channels of a word.
    """

    def __init__(self, width: int = WORD_WIDTH) -> None:
        self.name, self.fingerprint, self.width = WORDS, f"{WORDS}-{width}", width

    def tokens(self, text: str) -> int:
        """Count words; an empty text has one."""
        return max(len(_words(text)), 1)

    def encode(self, text: str) -> Tensor:
        """Give ``(words, width)`` float32 of unit deviation."""
        return torch.stack([_direction(word, self.width) for word in _words(text) or [""]])


class TransformersEncoder:
    """The text side of a transformers model, frozen: BERT, MiniLM, CLIP ...; special tokens included.

    Args:
        name: Hub id or local directory with a tokenizer and safetensors weights.

    Raises:
        ArtifactError: It cannot be had or holds no text encoder.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel

        self.name, folder = name, local_directory(name)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            kind: Any = CLIPTextModel if config.model_type.startswith("clip") else AutoModel
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model: Any = kind.from_pretrained(folder, use_safetensors=True)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ArtifactError(
                f"text encoder {name} cannot be loaded ({first})", "tokenizer and safetensors"
            ) from error
        self._model = model.eval().requires_grad_(False)
        text = getattr(model.config, "text_config", model.config)
        self.width = int(text.hidden_size)
        self._longest = int(getattr(text, "max_position_embeddings", 512))
        self.fingerprint = f"{config.model_type}-{_weights_hash(folder)}"

    def tokens(self, text: str) -> int:
        """Count tokens, with the special ones."""
        return len(self._tokenizer(text)["input_ids"])

    def encode(self, text: str) -> Tensor:
        """Give ``(T, width)`` float32: the last hidden state.

        Raises:
            DataError: The text is longer than the encoder reads at once.
        """
        ids = self._tokenizer(text, return_tensors="pt")["input_ids"]
        if ids.shape[1] > self._longest:
            raise DataError(
                f"a text of {ids.shape[1]} tokens for {self.name}",
                f"at most {self._longest}",
                "shorten it: " + text[:60],
            )
        with torch.inference_mode():
            hidden: Tensor = self._model(input_ids=ids).last_hidden_state
        return hidden[0].float().clone()


def local_directory(name: str) -> Path:
    """Give a model's directory: the one named, or a hub repository's, fetched once.

    Raises:
        ArtifactError: It cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(
            f"text encoder {name} cannot be fetched", "a directory, or a hub id with a connection",
            "give a local directory, or 'words' which needs none",
        ) from error  # fmt: skip


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def _direction(word: str, width: int) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(width).astype(np.float32))


def _weights_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
