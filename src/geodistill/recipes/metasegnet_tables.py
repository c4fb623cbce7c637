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

from geodistill.recipes.row import Row

OPENEARTHMAP = "metasegnet-openearthmap"

NO_ALIGNMENT: dict[str, Any] = {"network.align": False}
NO_FUSION: dict[str, Any] = {"network.fuse": False}

CLASS_MAPS: dict[str, dict[str, str]] = {"VI": {"building": "building", "tree": "tree"}}
"""By table number, for rows that are scored on another set: class of that set by class of the one trained on."""

TABLES: dict[str, dict[str, Row]] = {
    # OpenEarthMap, Potsdam, LoveDA
    "I": {"MetaSegNet": Row(recipe=OPENEARTHMAP, miou=70.4)},
    "II": {"MetaSegNet": Row(recipe="metasegnet-potsdam")},
    "III": {"MetaSegNet": Row(recipe="metasegnet-loveda")},
    # The decoder's parts; without both nothing reads the text
    "IV": {
        "neither": Row(NO_ALIGNMENT | NO_FUSION, recipe=OPENEARTHMAP),
        "alignment": Row(NO_FUSION, recipe=OPENEARTHMAP),
        "fusion": Row(NO_ALIGNMENT, recipe=OPENEARTHMAP),
        "both": Row(recipe=OPENEARTHMAP),
    },
    # Prompts: no text, "It is a remote sensing image.", the classes alone, the classes under the climate zone
    "V": {
        "none": Row({"text.kind": "none"}, recipe=OPENEARTHMAP),
        "plain": Row({"text.kind": "plain"}, recipe=OPENEARTHMAP),
        "non-climate": Row({"text.kind": "no-climate"}, recipe=OPENEARTHMAP),
        "climate": Row(recipe=OPENEARTHMAP),
    },
    # Trained on OpenEarthMap and scored on Potsdam by `CLASS_MAPS`
    "VI": {
        "no text": Row(NO_ALIGNMENT | NO_FUSION, recipe=OPENEARTHMAP),
        "MetaSegNet": Row(recipe=OPENEARTHMAP),
    },
}
"""Rows by table number and label; a row whose printed figure we do not know has none."""
