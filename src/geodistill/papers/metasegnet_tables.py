"""MetaSegNet's tables: each row is a shipped recipe with a few keys overridden.

Few figures are kept here, since few are known to us and not all that are printed can be right:

* Table I (OpenEarthMap): the mIoU of 70.4 is the mean of nine classes, background (97.5) among them; the official mean
  of the eight others is 67.04. SegFormer's printed mIoU of 66.0 stands beside class IoUs whose mean is 67.56, MANet's
  64.0 beside 62.16.
* Table II (Potsdam) prints the mean F1 of five classes and an OA over all, clutter included, on masks with eroded
  borders; all its images lie in one climate zone.
* Table III (LoveDA): RS3Mamba's printed 50.9 stands beside class IoUs whose mean is 46.86, and its and EMRT's rows look
  like the validation split's in a table of the test split. All its images lie in one climate zone.
* Table VI (from OpenEarthMap to Potsdam, nothing trained there): IoU of building and tree alone. To which resolution
  Potsdam's 5 cm were brought is not stated, and it matters: OpenEarthMap's is 25 to 50 cm.
"""

from __future__ import annotations

from typing import Any

from geodistill.papers.row import ISPRS_FIVE, About, PaperRow

OPENEARTHMAP = "metasegnet-openearthmap"

NO_ALIGNMENT: dict[str, Any] = {"network.align": False}
NO_FUSION: dict[str, Any] = {"network.fuse": False}

SEGFORMER: dict[str, Any] = {
    "network.architecture": "segformer",
    "network.encoder": "mit_b1",
    "network.encoder_weights": "pretrained",
    "data.crop": 1024,
    "data.batch_size": 2,
    "data.scale": [1.0, 1.0],
    "data.turns": False,
    "optimizer.lr": 3e-4,
    "optimizer.weight_decay": 2.5e-4,
    "schedule.warmup_steps": 0,
    "trainer.max_steps": 67500,
    "trainer.val_every_steps": 1500,
}
"""A baseline under MetaSegNet's own schedule; the paper does not say which SegFormer it is."""

_OWN_CODE = "its publication's own code, in no library that is kept"
_OTHERS = PaperRow(open="which networks the paper has beside these, and their figures, we do not know")
_VALIDATION = "its Barren lies at 33 to 37 where the others' is 10 to 17: a validation figure in a test table"

TABLES: dict[str, dict[str, PaperRow]] = {
    # OpenEarthMap
    "I": {
        "SegFormer": PaperRow(
            SEGFORMER, recipe="supervised-folder", miou=66.0, note="printed 66.0; the mean of its classes is 67.56"
        ),
        "MANet": PaperRow(miou=64.0, open=_OWN_CODE, note="printed 64.0; the mean of its classes is 62.16"),
        "RS3Mamba": PaperRow(miou=64.5, open=_OWN_CODE, note="underlined as second best, below four others"),
        "other networks": _OTHERS,
        "MetaSegNet": PaperRow(
            recipe=OPENEARTHMAP,
            miou=70.4,
            figures={"iou:background": 97.5},
            note="the mean has background in it; the official one over eight classes is 67.04",
        ),
    },
    # Potsdam
    "II": {
        "other networks": _OTHERS,
        "MetaSegNet": PaperRow(recipe="metasegnet-potsdam", figures={"mf1": 93.3}),
    },
    # LoveDA
    "III": {
        "RS3Mamba": PaperRow(
            miou=50.9, open=_OWN_CODE, note=f"printed 50.9; the mean of its classes is 46.86; {_VALIDATION}"
        ),
        "EMRT": PaperRow(open=_OWN_CODE, note=_VALIDATION),
        "other networks": _OTHERS,
        "MetaSegNet": PaperRow(recipe="metasegnet-loveda", note="its printed figures we do not know"),
    },
    # The decoder's parts; without both nothing reads the text
    "IV": {
        "neither": PaperRow(NO_ALIGNMENT | NO_FUSION, recipe=OPENEARTHMAP),
        "alignment": PaperRow(NO_FUSION, recipe=OPENEARTHMAP),
        "fusion": PaperRow(NO_ALIGNMENT, recipe=OPENEARTHMAP),
        "both": PaperRow(recipe=OPENEARTHMAP),
    },
    # Prompts: no text, "It is a remote sensing image.", the classes alone, the classes under the climate zone
    "V": {
        "none": PaperRow({"text.kind": "none"}, recipe=OPENEARTHMAP),
        "plain": PaperRow({"text.kind": "plain"}, recipe=OPENEARTHMAP),
        "non-climate": PaperRow({"text.kind": "no-climate"}, recipe=OPENEARTHMAP),
        "climate": PaperRow(recipe=OPENEARTHMAP),
    },
    # Trained on OpenEarthMap and scored on Potsdam by its class map
    "VI": {
        "no text": PaperRow(NO_ALIGNMENT | NO_FUSION, recipe=OPENEARTHMAP),
        "MetaSegNet": PaperRow(recipe=OPENEARTHMAP),
    },
}
"""Rows by table number and label; a row whose printed figure we do not know has none."""


def _ablation(title: str) -> About:
    note = "Scored on the official validation split; the mean has background in it."
    return About(title, "openearthmap", ("miou", "iou:background"), scored="val", flips=True, note=note)


ABOUT: dict[str, About] = {
    "I": About(
        "networks, on OpenEarthMap",
        "openearthmap",
        ("miou", "iou:background", "parameters"),
        scored="val",
        flips=True,
        note="Scored on the official validation split, as in the paper: the test split's labels are withheld. "
        "399.7 M parameters, as printed, count momentum copies of both encoders; about 204 M are used.",
    ),
    "II": About(
        "networks, on Potsdam",
        "potsdam",
        ("mf1", "miou", "oa"),
        classes=ISPRS_FIVE,
        flips=True,
        note="Means are over five classes, without clutter, and on the full labels; the paper's are probably on labels "
        "without borders, and with padding that counts as impervious surface: scores are then higher.",
    ),
    "III": About(
        "networks, on LoveDA",
        "loveda",
        scored="val",
        flips=True,
        note="The paper's figures are from the hidden test labels; ours are of the validation split.",
    ),
    "IV": _ablation("parts of the decoder, on OpenEarthMap"),
    "V": _ablation("prompts, on OpenEarthMap"),
    "VI": About(
        "from OpenEarthMap to Potsdam, where nothing is trained",
        "openearthmap",
        ("iou:building", "iou:tree"),
        scored_set="potsdam",
        scored_region="potsdam",
        class_map={"building": "building", "tree": "tree"},
        flips=True,
        note="To which resolution Potsdam's 5 cm were brought is not stated, and it matters: OpenEarthMap's is 25 to "
        "50 cm. Here they are scored as they are.",
    ),
}
"""What each table of the paper is of."""
