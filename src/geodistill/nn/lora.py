"""LoRA: low-rank updates of an encoder's weights, trained in their place and added to them at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.extras import missing_extra

_NAME = "default"


def insert_lora(encoder: nn.Module, rank: int) -> float:
    """Freeze an encoder and give each of its linear layers a low-rank update that is trained (Hu et al. 2022, Eq. 3).

    With the layer's weight ``W`` and ``B`` zero at first, so that the encoder begins as it was::

        h = W x + scaling B A x        A (rank, inputs), B (outputs, rank), scaling = alpha / rank = 2

    peft puts them in. Linear layers are those of attention and perceptrons of every transformer; convolutions keep
    their weights.

    Returns:
        The scaling.

    Raises:
        RecipeError: There is no linear layer, as in a purely convolutional encoder.
        MissingExtraError: peft is not installed.
    """
    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise RecipeError(f"network.lora on {getattr(encoder, 'name', 'this')}, without linear layers", "a transformer")
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise missing_extra("peft", "adapt") from error
    encoder.requires_grad_(False)
    attentions: list[Any] = [module for module in encoder.modules() if hasattr(module, "qkv_bias_separate")]
    for attention in attentions:  # timm then calls the layer qkv, whose weight alone it would read
        attention.qkv_bias_separate = True
    config: Any = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names)
    inject_adapter_in_model(config, encoder, _NAME)
    return float(config.lora_alpha / config.r)


def merge_lora(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Return a network's state with the updates added to the weights, under the names it had before them.

    Args:
        state: Of a network in which `insert_lora` was at work.
        scaling: What that returned.
    """
    merged = {}
    for name, value in state.items():
        if ".lora_" in name:
            continue
        layer, _, kind = name.rpartition(".base_layer.")
        if layer and kind == "weight":
            down, up = (state[f"{layer}.lora_{side}.{_NAME}.weight"] for side in "AB")
            value = value + scaling * (up @ down)
        merged[f"{layer}.{kind}" if layer else name] = value
    return merged
