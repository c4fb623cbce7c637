"""SAM2-MAFLNet's tables: each row is a shipped recipe with a few keys overridden.

The figures are as printed, and not all of them can be right. The teacher's mIoU on Vaihingen is 85.06 in the abstract
and Table 1, 85.66 in Table 3, and the mean of Table 1's own class IoUs is 85.46; its F1 of impervious surface (94.47)
contradicts its IoU (93.30). Impervious surface and OA on Vaihingen lie above every other publication's for all methods
alike: the mark of tiles whose padding counts as impervious surface. With an ignore index for padding they are not to
be expected. A UNetFormer printed at 79.64 in Table 2 has 86.8 in its own publication.
"""

from __future__ import annotations

from typing import Any

from geodistill.recipes.ktda_tables import Row

POTSDAM: dict[str, Any] = {
    "data.crop": 768,
    "data.scale": [0.75, 1.5],
    "data.turns": False,
    "optimizer.weight_decay": 2.5e-4,
    "schedule.cycles": 2,  # 15 and 30 of 45 epochs
    "trainer.max_steps": 26730,  # 45 epochs of about 2376 tiles
}
"""What GeoSeg does otherwise on Potsdam than on Vaihingen, the recipes' own setting."""

PSPNET: dict[str, Any] = {
    "network.architecture": "pspnet",
    "network.encoder": "resnet50",
    "network.encoder_weights": "pretrained",
    "data.crop": 512,
    "data.batch_size": 4,
    "optimizer.lr": 6e-4,
    "optimizer.encoder_lr": 6e-5,
    "schedule.warmup_steps": 0,
    "schedule.cycles": 3,
    "trainer.max_steps": 26250,
}
"""The baseline under the same schedule; the paper does not say which encoder it has."""

NO_MACA = {"network.maca.enabled": False}
NO_LHFEM = {"network.lhfem.enabled": False}

TABLES: dict[str, dict[str, Row]] = {
    # Vaihingen
    "1": {
        "PSPNet": Row(PSPNET, recipe="supervised-folder", miou=80.50),
        "teacher": Row(recipe="mafl-teacher", miou=85.06),
        "student": Row(recipe="mafl-student"),
    },
    # Potsdam
    "2": {
        "PSPNet": Row(PSPNET | POTSDAM, recipe="supervised-folder", miou=83.41),
        "teacher": Row(POTSDAM, recipe="mafl-teacher"),
        "student": Row(POTSDAM, recipe="mafl-student"),
    },
    # Vaihingen: the teacher's parts
    "3": {
        "neither": Row(NO_MACA | NO_LHFEM, recipe="mafl-teacher", miou=82.14),  # from the printed gain of 3.52
        "MACA": Row(NO_LHFEM, recipe="mafl-teacher"),
        "LHFEM": Row(NO_MACA, recipe="mafl-teacher"),
        "both": Row(recipe="mafl-teacher", miou=85.66),
    },
}
"""Rows by table number and label; a row whose printed figure we do not know has none."""
