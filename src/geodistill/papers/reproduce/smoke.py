"""What a smoke run changes: networks, crops and steps become tiny; what makes a row that row stays."""

from __future__ import annotations

from typing import Any

from geodistill.methods.schema import Recipe
from geodistill.nn.encoders import format_name, parse_name

STEPS = 80
"""Optimiser steps of a smoke run on labels."""

PHASE_STEPS = 40
"""Steps of a phase before the labels."""

KINDS = {
    "vit_": "test_vit",
    "deit": "test_vit",
    "beit": "test_vit",
    "sam2_hiera": "test_vit",
    "convnext": "test_convnext",
}
"""The smallest network of a kind, by how names of the kind begin; ``test_resnet`` for all others."""

COMMON: dict[str, Any] = {
    "data.crop": 64,
    "data.batch_size": 4,
    "data.workers": 0,
    "data.scale": [1.0, 1.0],
    "optimizer.lr": 3e-3,
    "optimizer.encoder_lr": 3e-3,
    "schedule.warmup_steps": 5,
    "schedule.hold_steps": 1,
    "schedule.cycles": 1,
    "trainer.val_every_steps": STEPS,
    "trainer.save_every_steps": 1000,
    "trainer.precision": "32-true",
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.pictures": 0,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "supervised": {"network.decoder_channels": 32},
    "ktda": {"network.decoder_channels": 32},
    "kda": {
        "network.decoder_channels": 32,
        "losses.phase.discriminator.weights": None,
        "losses.phase.discriminator.width": 16,
    },
    "maflnet": {"network.width": 32},
    "metasegnet": {"network.width": 32, "network.heads": 4, "text.encoder": "words", "text.region": None},
    "sep": {"network.decoder_channels": 64},
}
"""Beside `COMMON`, by method."""

DISTIL: dict[str, Any] = {
    "losses.phase.epoch_steps": 1,
    "losses.phase.lr": 1e-2,
    "losses.phase.end_lr": 1e-4,
    "losses.phase.discriminator_lr": 1e-4,
    "losses.phase.discriminator_end_lr": 1e-6,
}
"""Of KDA's phase 1."""


def smoke_overrides(recipe: Recipe, sets: int = 1) -> dict[str, Any]:
    """Return the keys that make a recipe a smoke run of itself, without weights from anywhere.

    Args:
        recipe: The row's recipe.
        sets: Data sets that it learns at once; each has a share of the batch.
    """
    keys = COMMON | FAMILIES[recipe.method]
    keys |= {"network.encoder": tiny_encoder(recipe.network.encoder), "network.encoder_weights": None}
    if recipe.data.resize is not None:
        keys["data.resize"] = COMMON["data.crop"]
    if sets > 1:
        keys["data.batch_size"] = 2 * sets
    fraction = getattr(recipe.data, "fraction", None)
    if fraction is not None:
        # 1, 3 and 5 % become 1, 2 and 3 of the three made-up training images.
        keys["data.fraction"] = min(1.0, round(0.3 + 14 * fraction, 2))
    if recipe.trainer.max_steps:
        keys["trainer.max_steps"] = STEPS
    if recipe.teacher is not None and recipe.teacher.segmenter is None:
        keys |= {"teacher.encoder": tiny_encoder(recipe.teacher.encoder), "teacher.weights": None}
    phase = getattr(recipe.losses, "phase", None)
    if phase is not None and phase.steps:
        keys |= {"losses.phase.steps": PHASE_STEPS} | (DISTIL if recipe.method == "kda" else {})
    if recipe.method == "kda" and phase is not None:
        keys["losses.phase.discriminator.encoder"] = tiny_encoder(phase.discriminator.encoder)
    return keys


def tiny_encoder(name: str) -> str:
    """Return the smallest network of an encoder's kind, with its adapters where it has some.

    Raises:
        UnknownNameError: There is no such encoder.
    """
    base, options = parse_name(name)
    tiny = next((small for start, small in KINDS.items() if base.startswith(start)), "test_resnet")
    # One per block, as a plain transformer has no stages.
    return format_name(tiny, {"adapters": "block"} if "adapters" in options else {})
