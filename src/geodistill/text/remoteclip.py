"""RemoteCLIP's text tower: open_clip weights under transformers' names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from geodistill.errors import ArtifactError, UnknownNameError
from geodistill.nn.weights import read_tensors
from geodistill.text.encoders import TransformersEncoder

MODELS = {
    "RemoteCLIP-ViT-B-32": "openai/clip-vit-base-patch32",
    "RemoteCLIP-ViT-L-14": "openai/clip-vit-large-patch14",
}
"""Each model's file on the hub, and the model whose tokenizer and shape it shares."""

_ODD = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)
"""What torch and the renaming below raise where a file holds something else than tensors by name."""

REPOSITORY = "chendelong/RemoteCLIP"
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
        name: Key of `MODELS`.
        weights: The ``.pt`` file; fetched where not given.
        base: Directory or hub id that gives tokenizer and shape; the model's own where not given.

    Raises:
        UnknownNameError: There is no such model.
        ArtifactError: The weights cannot be had or do not fit.
    """

    def __init__(self, name: str, weights: Path | None = None, base: str | None = None) -> None:
        if name not in MODELS:
            raise UnknownNameError("RemoteCLIP model", name, MODELS)
        super().__init__(base or MODELS[name])
        path = weights or _fetch(f"{name}.pt")
        state = read_tensors(path)
        try:
            missing = self._model.load_state_dict(text_tower(state), strict=False).missing_keys
        except _ODD as error:
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
        return Path(hf_hub_download(REPOSITORY, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ArtifactError(f"{file} cannot be fetched from {REPOSITORY}", "a connection to the hub") from error
