"""A tiny MetaSegNet whose maps differ much from zone to zone."""

from __future__ import annotations

import torch

from geodistill.methods.metasegnet.network import MetaSegNetwork
from geodistill.segmenter import Segmenter
from geodistill.text.climate import ZONES
from tiny import tiny_spec

ARGUMENTS = {"text_tokens": 6, "text_width": 8, "width": 16, "heads": 2}


def zoned_segmenter(prompts: tuple[str, ...] = tuple(ZONES), tile: int = 32, encoder: str = "test_resnet") -> Segmenter:
    """Return an untrained model of three classes; prompts are of 3 to 6 tokens."""
    torch.manual_seed(0)
    arguments = ARGUMENTS | {"encoder": encoder, "prompts": list(prompts)}
    network = MetaSegNetwork(3, 3, **arguments)  # type: ignore[arg-type]
    network.set_text([10 * torch.randn(3 + i % 4, 8) for i in range(len(prompts))])
    return Segmenter.from_network("metasegnet", arguments, tiny_spec(std=60.0), network.state_dict(), tile, {}).eval()
