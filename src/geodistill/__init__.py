"""geodistill: boxes, images and vision foundation models in; a small remote-sensing segmenter and maps out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geodistill.version import __version__

if TYPE_CHECKING:
    from geodistill.api import (
        compare,
        evaluate,
        export,
        fit,
        label_boxes,
        predict,
        scan,
    )
    from geodistill.data.manifest import Manifest
    from geodistill.errors import GeodistillError
    from geodistill.metrics import Scores
    from geodistill.nn.encoders import build_encoder, list_encoders
    from geodistill.prediction import Prediction
    from geodistill.raster.grid import Grid, Window
    from geodistill.raster.raster import Raster
    from geodistill.segmenter import Segmenter
    from geodistill.spec import Legend, Spec
    from geodistill.training.recipe import list_recipes, load_recipe

__all__ = [
    "GeodistillError",
    "Grid",
    "Legend",
    "Manifest",
    "Prediction",
    "Raster",
    "Scores",
    "Segmenter",
    "Spec",
    "Window",
    "__version__",
    "build_encoder",
    "compare",
    "evaluate",
    "export",
    "fit",
    "label_boxes",
    "list_encoders",
    "list_recipes",
    "load_recipe",
    "predict",
    "scan",
]

_MODULES = {
    "api": ("compare", "evaluate", "export", "fit", "label_boxes", "predict", "scan"),
    "data.manifest": ("Manifest",),
    "errors": ("GeodistillError",),
    "metrics": ("Scores",),
    "nn.encoders": ("build_encoder", "list_encoders"),
    "prediction": ("Prediction",),
    "raster.grid": ("Grid", "Window"),
    "raster.raster": ("Raster",),
    "segmenter": ("Segmenter",),
    "spec": ("Legend", "Spec"),
    "training.recipe": ("list_recipes", "load_recipe"),
}
"""Where each name stands; a module is imported when a name of it is asked for, so that the import takes no time."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
