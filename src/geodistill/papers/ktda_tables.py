"""KTDA's tables on grass and clouds: each row is a shipped recipe with a few keys overridden.

Table I counts the pixels of the grass set's classes; the rows of the others are networks.
"""

from __future__ import annotations

from typing import Any

from geodistill.papers.row import About, PaperRow

__all__ = ["ABOUT", "TABLES", "PaperRow"]

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

UNET_MOBILENET = {
    "network.architecture": "unet",
    "network.encoder": "mobilenetv2_100",
    "network.encoder_weights": "pretrained",
    "data.crop": 512,
    "data.batch_size": 2,
    "data.scale": [1.0, 1.0],
    "data.turns": False,
    "optimizer.lr": 6e-4,
    "schedule.kind": "poly",
    "schedule.warmup_steps": 2000,
    "trainer.max_steps": 80000,
    "trainer.val_every_steps": 1000,
}
"""CloudSEN12's baseline under the same schedule; the paper does not say how its baselines were trained."""

_COUNTED = "counted, not trained: geodistill data stats on the manifest of the grass set"
_NO_LIBRARY = "a cloud network that no library keeps"
_THREE = "mean over three classes: the class without a prediction was left out; over all four it is"


def _grass(
    overrides: dict[str, Any] | None = None,
    miou: float | None = None,
    oa: float | None = None,
    mf1: float | None = None,
    note: str = "",
) -> PaperRow:
    figures = {name: value for name, value in (("oa", oa), ("mf1", mf1)) if value is not None}
    return PaperRow(overrides or {}, recipe="ktda-grass", miou=miou, figures=figures, note=note)


TABLES: dict[str, dict[str, PaperRow]] = {
    "I": {
        "all classes": PaperRow(
            figures={"pixels": 75_431_936}, open=_COUNTED, note="1151 x 256 x 256: every pixel has a label"
        )
    },
    "II": {
        "w/o aux": _grass({"losses.weights.aux": 0.0}, 49.60),
        "w/o mse": _grass({"losses.weights.kt_mse": 0.0}, 49.18),
        "w/o kl": _grass({"losses.weights.kt_kl": 0.0}, 43.68),
        "full": _grass(miou=50.81, oa=74.10, mf1=64.91, note="Tables IV and V print 50.86 / 74.26 / 65.01 for it"),
    },
    "III": {
        "no FAM": PaperRow(
            FROZEN_DINOV2,
            recipe="supervised-folder",
            miou=47.57,
            note="the frozen teacher under a UPerNet head, Table V's DINOv2: another network, not an ablation",
        ),
        "FAM w/o loss": _grass(NO_TRANSFER | {"network.fmm_blocks": 0}),
        "FAM w/ loss": _grass({"network.fmm_blocks": 0}, 49.29, note="Table IV prints 48.82 for it, as N=0"),
        "FAM and FMM": _grass(miou=50.81),
    },
    "IV": {
        "N=0": _grass({"network.fmm_blocks": 0}, 48.82, note="Table III prints 49.29 for it, as FAM w/ loss"),
        "N=1": _grass({"network.fmm_blocks": 1}),
        "N=2": _grass({"network.fmm_blocks": 2}),
        "N=3": _grass({"network.fmm_blocks": 3}),
        "N=4": _grass(miou=50.86, oa=74.26, mf1=65.01, note="Table II prints 50.81 / 74.10 / 64.91 for it"),
    },
    "V": {
        "DINOv2": PaperRow(FROZEN_DINOV2, recipe="supervised-folder", miou=47.57),
        "other networks": PaperRow(open="which networks the paper has beside these, and their figures, we do not know"),
        "KTDA": _grass(miou=50.86, oa=74.26, mf1=65.01, note="Table II prints 50.81 / 74.10 / 64.91 for it"),
    },
    "VI": {
        "SCNN": PaperRow(figures={"mf1": 52.41}, open=_NO_LIBRARY, note=f"{_THREE} 39.3"),
        "CDNetV1": PaperRow(open=_NO_LIBRARY),
        "CDNetV2": PaperRow(figures={"mf1": 70.33}, open=_NO_LIBRARY, note=f"{_THREE} 52.75"),
        "MCDNet": PaperRow(open=_NO_LIBRARY),
        "KappaMask": PaperRow(figures={"mf1": 68.47}, open=_NO_LIBRARY, note=f"{_THREE} 51.35"),
        "HRCloudNet": PaperRow(figures={"mf1": 71.36}, open=_NO_LIBRARY, note=f"{_THREE} 53.52"),
        "UNetMobV2": PaperRow(UNET_MOBILENET, recipe="supervised-folder"),
        "KTDA": PaperRow(
            recipe="ktda-cloud",
            miou=51.49,
            figures={"mf1": 60.08, "iou:cloud shadow": 0.0},
            note="finds no cloud shadow at all; over four classes its mF1 is the best, which the table does not say",
        ),
    },
}
"""Rows by table number and label."""

_SELECTED = (
    "The paper takes the checkpoint that is best on the test split, which is the only other split there is; here the "
    "last one counts."
)
_GRASS = ("miou", "oa", "mf1")

ABOUT: dict[str, About] = {
    "I": About("pixels of the grass set's classes", "grass", ("pixels",)),
    "II": About(
        "loss terms, on grass",
        "grass",
        _GRASS,
        note="The columns' names are not known: 74.10 is taken for OA as it lies above 2 mIoU / (1 + mIoU), which "
        f"no mF1 can. {_SELECTED}",
    ),
    "III": About("FAM, its loss and FMM, on grass", "grass", _GRASS, note=_SELECTED),
    "IV": About("blocks of FMM, on grass", "grass", _GRASS, note=_SELECTED),
    "V": About("networks, on grass", "grass", _GRASS, note=_SELECTED),
    "VI": About(
        "networks, on clouds",
        "l8-biome-patches",
        ("miou", "mf1", "iou:cloud shadow"),
        note="The F1 column mixes means over three classes with means over four. The paper's validation split is its "
        "test split; here it is the set's own.",
    ),
}
"""What each table is of."""
