"""KTDA's ablation tables on the grass set: each row is a shipped recipe with a few keys overridden."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One row of a paper's table.

    Attributes:
        overrides: Recipe keys, dotted, and their values.
        recipe: The shipped recipe they change.
        miou: The published mIoU in per cent, or ``None`` where we know none.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    recipe: str = "ktda-grass"
    miou: float | None = None


NO_TRANSFER = {"losses.weights.kt_mse": 0.0, "losses.weights.kt_kl": 0.0}

FROZEN_DINOV2 = {
    "network.architecture": "upernet",
    "network.encoder": "vit_base_patch14_dinov2",
    "network.encoder_weights": "pretrained",
    "network.frozen_encoder": True,
    "data.crop": 256,
    "data.batch_size": 4,
    "optimizer.lr": 6e-4,
    "schedule.kind": "poly",
    "schedule.warmup_steps": 1150,
    "trainer.max_steps": 23000,
    "trainer.val_every_steps": 230,
}

TABLES: dict[str, dict[str, Row]] = {
    "II": {
        "w/o aux": Row({"losses.weights.aux": 0.0}, miou=49.60),
        "w/o mse": Row({"losses.weights.kt_mse": 0.0}, miou=49.18),
        "w/o kl": Row({"losses.weights.kt_kl": 0.0}, miou=43.68),
        "full": Row(miou=50.81),
    },
    "III": {
        # The printed row without FAM is the frozen teacher under a UPerNet head: another network, not an ablation.
        "no FAM": Row(FROZEN_DINOV2, recipe="supervised-folder", miou=47.57),
        "FAM w/o loss": Row(NO_TRANSFER | {"network.fmm_blocks": 0}),
        "FAM w/ loss": Row({"network.fmm_blocks": 0}, miou=49.29),
        "FAM and FMM": Row(miou=50.81),
    },
    "IV": {
        # N=0 is Table III's "FAM w/ loss" again, and N=4 the full model; the paper prints other figures for both.
        "N=0": Row({"network.fmm_blocks": 0}, miou=48.82),
        "N=1": Row({"network.fmm_blocks": 1}),
        "N=2": Row({"network.fmm_blocks": 2}),
        "N=3": Row({"network.fmm_blocks": 3}),
        "N=4": Row(miou=50.86),
    },
}
"""Rows by table number and label."""
