"""KDA's tables on CAS Landslide: each row is phase 1, then phase 2 with the encoder that it left.

Many printed figures cannot be right, so few are kept here. With two classes the background's IoU is 2 mIoU - IoU, and
it can never exceed the overall accuracy; the notes say where it does.
"""

from __future__ import annotations

from typing import Any

from geodistill.papers.row import About, PaperRow, Step

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

DISTIL, LABELS = "kda-landslide-distil", "kda-landslide"

_SATELLITE = (
    "printed as the benchmark's own result on its satellite images alone, not on this split; its F1 is the landslide "
    "class's, where those of SegFormer, SegNeXt and KDA are means of both classes"
)
_TOO_HIGH = "IoU and mIoU as printed make a background IoU of"
_BROKEN = "the printed IoU and mIoU make a background IoU above OA, as all 12 rows of the table do"


def _supervised(architecture: str, encoder: str, **row: Any) -> PaperRow:
    network = {"network.architecture": architecture, "network.encoder": encoder}
    return PaperRow(SUPERVISED | network, recipe="supervised-folder", **row)


def _kda(phase_1: dict[str, Any] | None = None, phase_2: dict[str, Any] | None = None, **row: Any) -> PaperRow:
    return PaperRow(phase_2 or {}, recipe=LABELS, before=(Step(DISTIL, phase_1 or {}),), **row)


def _teacher(encoder: str) -> PaperRow:
    return _kda({"teacher.encoder": encoder}, note=_BROKEN)


def _factors(adversarial: float, kl: float) -> PaperRow:
    return _kda({"losses.phase.weights.adversarial": adversarial, "losses.phase.weights.kl": kl})


_TINY = {"network.encoder": "pvt_kda_tiny"}

TABLES: dict[str, dict[str, PaperRow]] = {
    # Methods
    "II": {
        "FCN": _supervised(
            "fcn", "resnet50", miou=75.17, figures={"iou": 55.72, "oa": 94.97, "precision": 62.98}, note=_SATELLITE
        ),
        "U-Net": _supervised("unet", "resnet50", note=_SATELLITE),
        "DeepLabV3+": _supervised("deeplabv3plus", "resnet50", note=_SATELLITE),
        "MFFENet": PaperRow(open="a network that no library keeps", note=_SATELLITE),
        "SegFormer": _supervised("segformer", "mit_b0", note=f"{_TOO_HIGH} 100.30 %"),
        "SegNeXt": PaperRow(open="its encoder MSCAN is in no library that is kept", note=f"{_TOO_HIGH} 100.51 %"),
        "KDA": _kda(miou=86.53, figures={"iou": 70.76}, note=f"{_TOO_HIGH} 102.30 %; F1 and precision are means"),
    },
    # Teachers and students. Only DINOv2-L has the student's 1024 channels; the others pass a 1x1 convolution, which
    # the comparison of teachers is mixed up with.
    "III": {
        "DINOv2-B": _teacher("vit_base_patch14_dinov2"),
        "DINOv2-L": _kda(note=_BROKEN),
        "DINOv2-G": _teacher("vit_giant_patch14_dinov2"),
        "ConvNeXt-B": _teacher("convnext_base"),
        "ConvNeXt-L": _teacher("convnext_large"),
        "ConvNeXt-XL": _teacher("convnext_xlarge"),
        "tiny student": _kda(_TINY, _TINY, note=_BROKEN),
        "five other rows": PaperRow(open="the table has 12 rows; which these five are we do not know", note=_BROKEN),
    },
    # Decoders
    "IV": {
        "UNet": _kda(
            phase_2={"network.decoder": "unet"},
            figures={"oa": 72.34, "gflops": 35.52},
            note="an OA of 72.34 beside a background IoU of 94.2; transposed convolutions are counted four times over",
        ),
        "SegFormer": _kda(
            phase_2={"network.decoder": "segformer"},
            figures={"gflops": 24.08},
            note="repeats Table II's row of the whole SegFormer; its background IoU is above its OA",
        ),
        "SegNeXt": _kda(phase_2={"network.decoder": "segnext"}, note="its background IoU is above its OA"),
        "UPerNet": _kda(
            phase_2={"network.decoder": "upernet"}, figures={"gflops": 23.04}, note="the only row that keeps the bound"
        ),
        "DCF": _kda(
            miou=86.53,
            figures={"decoder_parameters": 0.27, "gflops": 22.26},
            note="its background IoU is above its OA",
        ),
    },
    # Factors of the adversarial term and the divergence
    "V": {f"{share:g} / {1 - share:g}": _factors(share, round(1 - share, 1)) for share in (0.2, 0.4, 0.6, 0.8)},
    # Parts of phase 1, and what is ours
    "VI": {
        "no phase 1": PaperRow(recipe=LABELS),
        "divergence alone": _factors(0.0, 1.0),
        "adversary alone": _factors(1.0, 0.0),
        "both": _kda(),
        "patch judgements": _kda({"losses.phase.discriminator.form": "patch"}, note="ours"),
        "every level": _kda({"losses.phase.weights.feature": 1.0}, note="ours"),
        "uncertainty weighting": _kda({"losses.phase.weighting": "uncertainty"}, note="ours"),
        "gradient balance": _kda({"losses.phase.weighting": "gradient_balance"}, note="ours"),
    },
}
"""Rows by table number and label."""

_LEAKS = (
    "The split is by random patches of the same scenes, which leaks: scores on whole regions left out will be lower."
)
_UNKNOWN = f"What the table varies is known to us, and none of its figures. {_LEAKS}"


def _about(title: str, columns: tuple[str, ...] = ("iou", "miou", "oa"), note: str = _LEAKS) -> About:
    return About(title, "cas-landslide", columns, size=224, note=note)


ABOUT: dict[str, About] = {
    "II": _about("networks, on landslides", ("iou", "miou", "f1", "oa", "precision")),
    "III": _about("teachers and students", note=f"All 12 printed rows break the bound, ten beyond 100 %. {_LEAKS}"),
    "IV": _about(
        "decoders",
        ("iou", "miou", "oa", "decoder_parameters", "gflops"),
        "0.27 M parameters are DCF alone; the whole model has 66.4 M. Operations are the whole model's at 224 pixels, "
        f"two a multiply-add. {_LEAKS}",
    ),
    "V": _about("factors of adversary and divergence", note=_UNKNOWN),
    "VI": _about("parts of phase 1", note=_UNKNOWN),
}
"""What each table is of."""
