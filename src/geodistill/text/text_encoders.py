"""Frozen text encoders: texts become token features (MetaSegNet, section III-C)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from geodistill.errors import ArtifactError, DataError, check_name, first_line
from geodistill.nn.weights import read_tensors
from geodistill.offline import local_where_unreachable

WORDS = "words"
WORD_WIDTH = 128

_KNOWN = {"bert-base-uncased": (768, 109_482_240), "sentence-transformers/all-MiniLM-L6-v2": (384, 22_713_216)}
"""Width and parameters of text encoders, for weighing a network without having them."""


class TextEncoder(Protocol):
    """Turns texts into token features.

    Attributes:
        name: What was asked for.
        fingerprint: Changes whenever name or weights do.
        width: Channels of a token.
        longest: Most tokens that are read at once.
    """

    name: str
    fingerprint: str
    width: int
    longest: int

    def tokens(self, text: str) -> int:
        """Count the tokens that `encode` gives of a text."""
        ...

    def encode(self, text: str) -> Tensor:
        """Return ``(T, width)`` float32 features of a text's tokens.

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
        self.name, self.fingerprint, self.width, self.longest = WORDS, f"{WORDS}-{width}", width, sys.maxsize

    def tokens(self, text: str) -> int:
        """Count words; an empty text has one."""
        return max(len(_words(text)), 1)

    def encode(self, text: str) -> Tensor:
        """Return ``(words, width)`` float32 of unit standard deviation."""
        return torch.stack([_direction(word, self.width) for word in _words(text) or [""]])


class TransformersEncoder:
    """The text side of a transformers model, frozen: BERT, MiniLM, CLIP ...; special tokens included.

    Args:
        name: Hub id or local directory with a tokenizer and safetensors weights.

    Raises:
        ArtifactError: It is not available or holds no text encoder.
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
            first = first_line(error)
            raise ArtifactError(
                f"text encoder {name} cannot be loaded ({first})", "tokenizer and safetensors"
            ) from error
        self._model = model.eval().requires_grad_(False)
        text = getattr(model.config, "text_config", model.config)
        self.width = int(text.hidden_size)
        self.longest = int(getattr(text, "max_position_embeddings", 512))
        self.fingerprint = f"{config.model_type}-{_files_hash(folder)}"

    def tokens(self, text: str) -> int:
        """Count tokens, with the special ones."""
        return len(self._tokenizer(text)["input_ids"])

    def encode(self, text: str) -> Tensor:
        """Return ``(T, width)`` float32: the last hidden state.

        Raises:
            DataError: The text is longer than the encoder reads at once.
        """
        ids = self._tokenizer(text, return_tensors="pt")["input_ids"]
        if ids.shape[1] > self.longest:
            raise DataError(
                f"a text of {ids.shape[1]} tokens for {self.name}",
                f"at most {self.longest}",
                "shorten it: " + text[:60],
            )
        with torch.inference_mode():
            hidden: Tensor = self._model(input_ids=ids).last_hidden_state
        return hidden[0].float().clone()


def local_directory(name: str) -> Path:
    """Return a model's directory: the one named, or a hub repository's, fetched once.

    Raises:
        ArtifactError: It is not available.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if Path(name).is_dir():
        return Path(name)
    try:
        with local_where_unreachable():
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


def _files_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


REMOTE_CLIP = {
    "RemoteCLIP-ViT-B-32": "openai/clip-vit-base-patch32",
    "RemoteCLIP-ViT-L-14": "openai/clip-vit-large-patch14",
}
"""Each model's file on the hub, and the model whose tokenizer and shape it shares."""

_UNFIT = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)
"""What torch and the renaming below raise where a file holds something else than tensors by name."""

_REPOSITORY = "chendelong/RemoteCLIP"
_PLAIN = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


class RemoteClipEncoder(TransformersEncoder):
    """CLIP's text tower with RemoteCLIP's weights.

    Args:
        name: Key of `REMOTE_CLIP`.
        weights: The ``.pt`` file; fetched where not given.
        base: Directory or hub id that gives tokenizer and shape; the model's own where not given.

    Raises:
        UnknownNameError: There is no such model.
        ArtifactError: The weights are not available or do not fit.
    """

    def __init__(self, name: str, weights: Path | None = None, base: str | None = None) -> None:
        check_name("RemoteCLIP model", name, REMOTE_CLIP)
        super().__init__(base or REMOTE_CLIP[name])
        path = weights or _fetch(f"{name}.pt")
        state = read_tensors(path)
        try:
            missing = self._model.load_state_dict(text_tower(state), strict=False).missing_keys
        except _UNFIT as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(f"{path} holds no RemoteCLIP weights ({reason})", f"those of {name}") from error
        if lacking := [key for key in missing if "position_ids" not in key]:
            raise ArtifactError(f"{path} lacks {lacking[0]} ({len(lacking)} keys)", f"the weights of {name}")
        self.name, self.fingerprint = name, f"{name}-{path.stat().st_size}"


def text_tower(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's text weights to those of transformers' ``CLIPTextModel``.

    Attention's three projections are one matrix there and three here.
    """
    prefix = "text_model." if _nested() else ""
    renamed: dict[str, Tensor] = {prefix + new: state[old] for old, new in _PLAIN.items()}
    for key, value in state.items():
        if not key.startswith("transformer.resblocks."):
            continue
        number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
        layer = f"{prefix}encoder.layers.{number}."
        module, _, kind = rest.rpartition(".")
        if kind.startswith("in_proj_"):
            for name, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{layer}self_attn.{name}_proj.{kind.removeprefix('in_proj_')}"] = part
        else:
            renamed[f"{layer}{_BLOCK[module]}.{kind}"] = value
    return renamed


def _nested() -> bool:
    """Whether this release of transformers keeps the tower under ``text_model``."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tiny: Any = CLIPTextModel(CLIPTextConfig(vocab_size=4, hidden_size=4, intermediate_size=4, num_hidden_layers=1,
                                             num_attention_heads=1, max_position_embeddings=4))  # fmt: skip
    return any(key.startswith("text_model.") for key in tiny.state_dict())


def _fetch(file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        with local_where_unreachable():
            return Path(hf_hub_download(_REPOSITORY, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(f"{file} cannot be fetched from {_REPOSITORY}", "a connection to the hub") from error


def open_text_encoder(name: str) -> TextEncoder:
    """Open a text encoder.

    Args:
        name: ``words`` (no weights; ``words:WIDTH`` for another width than `WORD_WIDTH`), a hub id, a local directory,
            or ``RemoteCLIP-ViT-B-32``.

    Raises:
        ArtifactError: It is not available.
    """
    kind, _, width = name.partition(":")
    if kind == WORDS and (not width or width.isdecimal()):
        return WordEncoder(int(width or WORD_WIDTH))
    if name.startswith("RemoteCLIP"):
        return RemoteClipEncoder(name)
    return TransformersEncoder(name)


def blank_encoder(name: str) -> str:
    """Name an encoder without weights that is as wide as a known one, for weighing a network."""
    return name if name.startswith(WORDS) else f"{WORDS}:{_KNOWN.get(name, (768, 0))[0]}"


def text_parameters(name: str) -> int:
    """Return the parameters of a known text encoder, 0 where it has none or is not known."""
    return _KNOWN.get(name, (0, 0))[1]
