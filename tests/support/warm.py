"""Imports what commands use, once for all processes that are forked: by the server of `forked`, and by the torture."""

import importlib
import os
from contextlib import suppress

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

HEAVY = (
    "torch", "segmentation_models_pytorch", "timm", "lightning.pytorch", "tensorboard", "torch.utils.tensorboard",
    "cv2", "pyogrio", "geopandas", "pyarrow.parquet", "matplotlib.pyplot", "jsonargparse", "pystac",
    "geodistill.cli", "geodistill.cli.data", "geodistill.cli.export", "geodistill.cli.label", "geodistill.cli.predict",
    "geodistill.data.patches", "geodistill.data.scan", "geodistill.evaluation.evaluate", "geodistill.exports",
    "geodistill.inference.predict", "geodistill.label.build_labels", "geodistill.methods.supervised.training",
    "geodistill.training.fit", "geodistill.training.recipe",
)  # fmt: skip

for name in HEAVY:
    with suppress(ImportError):
        importlib.import_module(name)
