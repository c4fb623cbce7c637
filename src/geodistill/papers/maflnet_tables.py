"""SAM2-MAFLNet's tables: each row is a shipped recipe with a few keys overridden.

The figures are as printed, and not all of them can be right; the notes say which.
"""

from __future__ import annotations

from typing import Any

from geodistill.papers.row import ISPRS_FIVE, About, PaperRow, Step

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

TEACHER, STUDENT = "mafl-teacher", "mafl-student"
_SURFACE = "impervious surface"
_UNETFORMER = "UNetFormer is GeoSeg's own code, in no library that is kept"
_OTHERS = PaperRow(open="which networks the paper has beside these, and their figures, we do not know")


def _student(overrides: dict[str, Any], **row: Any) -> PaperRow:
    """The student, behind the teacher that it learns from."""
    taught = Step(TEACHER, overrides, into="teacher.segmenter", part="segmenter")
    return PaperRow(overrides, recipe=STUDENT, before=(taught,), **row)


TABLES: dict[str, dict[str, PaperRow]] = {
    # Vaihingen
    "1": {
        "PSPNet": PaperRow(PSPNET, recipe="supervised-folder", miou=80.50),
        "UNetFormer": PaperRow(
            figures={f"f1:{_SURFACE}": 95.72, "oa": 92.26},
            open=_UNETFORMER,
            note="92.7 and 91.0 in its own publication: the mark of padding that counts as impervious surface",
        ),
        "other networks": _OTHERS,
        "teacher": PaperRow(
            recipe=TEACHER,
            miou=85.06,
            figures={"mf1": 91.92, f"iou:{_SURFACE}": 93.30, f"f1:{_SURFACE}": 94.47},
            note="mIoU is 85.06 here and in the abstract, 85.66 in Table 3, 85.46 as the mean of the classes; mF1 is "
            "91.35 as the mean of the classes; an IoU of 93.30 is an F1 of 96.53",
        ),
        "student": _student({}, figures={"parameters": 12.52}),
    },
    # Potsdam
    "2": {
        "PSPNet": PaperRow(PSPNET | POTSDAM, recipe="supervised-folder", miou=83.41),
        "UNetFormer": PaperRow(
            miou=79.64, open=_UNETFORMER, note="86.8 in its own publication: this one was not trained to the end"
        ),
        "other networks": _OTHERS,
        "teacher": PaperRow(POTSDAM, recipe=TEACHER),
        "student": _student(POTSDAM, figures={"parameters": 12.52}),
    },
    # Vaihingen: the teacher's parts
    "3": {
        "neither": PaperRow(NO_MACA | NO_LHFEM, recipe=TEACHER, miou=82.14, note="from the printed gain of 3.52"),
        "MACA": PaperRow(NO_LHFEM, recipe=TEACHER),
        "LHFEM": PaperRow(NO_MACA, recipe=TEACHER),
        "both": PaperRow(recipe=TEACHER, miou=85.66, note="Table 1 and the abstract print 85.06 for it"),
    },
}
"""Rows by table number and label; a row whose printed figure we do not know has none."""

_COLUMNS = ("miou", "mf1", "oa", f"iou:{_SURFACE}", f"f1:{_SURFACE}", "parameters")
_PADDING = (
    "Impervious surface and OA as printed lie above every other publication's for all methods alike: the mark of tiles "
    "whose padding counts as impervious surface. With an ignore index for padding they are not to be expected."
)
_NOTE = (
    "Means are over five classes, without clutter, and on the full labels; the paper's are probably on labels without "
    "borders, where scores are higher. The student's parameters are the text's."
)

ABOUT: dict[str, About] = {
    "1": About(
        "networks, on Vaihingen",
        "vaihingen",
        _COLUMNS,
        split="val-30",
        classes=ISPRS_FIVE,
        note=f"{_PADDING} {_NOTE}",
    ),
    "2": About("networks, on Potsdam", "potsdam", _COLUMNS, split="val-2_10", classes=ISPRS_FIVE, note=_NOTE),
    "3": About(
        "parts of the teacher, on Vaihingen",
        "vaihingen",
        ("miou", "mf1", "oa"),
        split="val-30",
        classes=ISPRS_FIVE,
        note=_PADDING,
    ),
}
"""What each table is of."""
