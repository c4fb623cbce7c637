"""KDA's tables on CAS Landslide: each row is a shipped recipe with a few keys overridden.

A row of ``kda-landslide-distil`` is phase 1; ``kda-landslide`` with its encoder completes it. Many printed figures
cannot be right, so few are kept here. With two classes the background's IoU is 2 mIoU - IoU, and it can never exceed
the overall accuracy:

* Table II: that background IoU is 100.30 % for SegFormer, 100.51 % for SegNeXt and 102.30 % for KDA (mIoU 86.53, IoU
  70.76). Its FCN, U-Net and DeepLabV3+ are the benchmark's own, on satellite images alone, not on this split; their
  F1 is the landslide class's, the others' the mean of both classes.
* Table III: all 12 rows break the bound, ten of them beyond 100 %.
* Table IV: only UPerNet's row keeps it. U-Net's OA of 72.34 stands beside a background IoU of 94.2. "0.27 M" is DCF
  alone; the whole model has 66.4 M parameters, and the FLOPs are the whole model's at 224 pixels, two a multiply-add:
  see ``geodistill inspect kda-landslide --decoders --size 224``.

The split is by random patches of the same scenes, which leaks: scores on whole regions left out will be lower.
MFFENet and SegNeXt's own encoder are not among our networks. Of Tables V and VI we know what they vary, the factors
and parts of phase 1, and no figure.
"""

from __future__ import annotations

from typing import Any

from geodistill.recipes.ktda_tables import Row

SUPERVISED: dict[str, Any] = {
    "data.crop": 512,
    "data.batch_size": 16,
    "optimizer.lr": 5e-4,
    "schedule.warmup_steps": 0,
    "schedule.hold_steps": 1043,
    "trainer.max_steps": 208600,
    "trainer.val_every_steps": 1043,
}
"""Phase 2's schedule for networks of other publications."""

DISTIL = "kda-landslide-distil"


def _factors(adversarial: float, kl: float) -> Row:
    return Row({"losses.phase.weights.adversarial": adversarial, "losses.phase.weights.kl": kl}, recipe=DISTIL)


TABLES: dict[str, dict[str, Row]] = {
    # Methods
    "II": {
        "FCN": Row(
            SUPERVISED | {"network.architecture": "fcn", "network.encoder": "resnet50"},
            recipe="supervised-folder",
            miou=75.17,
        ),
        "U-Net": Row(SUPERVISED | {"network.encoder": "resnet50"}, recipe="supervised-folder"),
        "DeepLabV3+": Row(
            SUPERVISED | {"network.architecture": "deeplabv3plus", "network.encoder": "resnet50"},
            recipe="supervised-folder",
        ),
        "SegFormer": Row(
            SUPERVISED | {"network.architecture": "segformer", "network.encoder": "mit_b0"}, recipe="supervised-folder"
        ),
        "KDA": Row(recipe="kda-landslide", miou=86.53),
    },
    # Teachers and students. Only DINOv2-L has the student's 1024 channels; the others pass a 1x1 convolution, which
    # the comparison of teachers is mixed up with.
    "III": {
        "DINOv2-B": Row({"teacher.encoder": "vit_base_patch14_dinov2"}, recipe=DISTIL),
        "DINOv2-L": Row(recipe=DISTIL),
        "DINOv2-G": Row({"teacher.encoder": "vit_giant_patch14_dinov2"}, recipe=DISTIL),
        "ConvNeXt-B": Row({"teacher.encoder": "convnext_base"}, recipe=DISTIL),
        "ConvNeXt-L": Row({"teacher.encoder": "convnext_large"}, recipe=DISTIL),
        "ConvNeXt-XL": Row({"teacher.encoder": "convnext_xlarge"}, recipe=DISTIL),
        "tiny student": Row({"network.encoder": "pvt_kda_tiny"}, recipe=DISTIL),
    },
    # Decoders
    "IV": {
        "UNet": Row({"network.decoder": "unet"}, recipe="kda-landslide"),
        "SegFormer": Row({"network.decoder": "segformer"}, recipe="kda-landslide"),
        "SegNeXt": Row({"network.decoder": "segnext"}, recipe="kda-landslide"),
        "UPerNet": Row({"network.decoder": "upernet"}, recipe="kda-landslide"),
        "DCF": Row(recipe="kda-landslide", miou=86.53),
    },
    # Factors of the adversarial term and the divergence
    "V": {f"{share:g} / {1 - share:g}": _factors(share, round(1 - share, 1)) for share in (0.2, 0.4, 0.6, 0.8)},
    # Parts of phase 1, and what is ours
    "VI": {
        "no phase 1": Row(recipe="kda-landslide"),
        "divergence alone": _factors(0.0, 1.0),
        "adversary alone": _factors(1.0, 0.0),
        "both": Row(recipe=DISTIL),
        "patch judgements": Row({"losses.phase.discriminator.form": "patch"}, recipe=DISTIL),
        "every level": Row({"losses.phase.weights.feature": 1.0}, recipe=DISTIL),
        "uncertainty weighting": Row({"losses.phase.weighting": "uncertainty"}, recipe=DISTIL),
        "gradient balance": Row({"losses.phase.weighting": "gradient_balance"}, recipe=DISTIL),
    },
}
"""Rows by table number and label."""
