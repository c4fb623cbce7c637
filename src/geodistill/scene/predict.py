"""`predict`: rasters of any size in, georeferenced maps out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodistill.raster import Raster
from geodistill.scene.network import load_on
from geodistill.scene.one import SceneMap, map_scene
from geodistill.scene.options import Options
from geodistill.scene.prepare import prepare
from geodistill.scene.windows import Area
from geodistill.segmenter import Segmenter

__all__ = ["Options", "SceneMap", "load_on", "map_paths", "predict"]


def predict(
    model: Segmenter | Path | str, inputs: Sequence[Path | str], out: Path | str, options: Options | None = None
) -> list[SceneMap]:
    options = options or Options()
    segmenter = load_on(model, options.device)
    paths = map_paths(inputs, out)
    made = []
    for source, path in zip(inputs, paths, strict=True):
        with Raster(source, options.bands) as raster:
            ready = prepare(segmenter, options, Area.whole(raster))
            made.append(map_scene(segmenter, ready.network, raster, path, ready.options))
    return made


def map_paths(inputs: Sequence[Path | str], out: Path | str) -> list[Path]:
    """Say where each raster's map goes."""
    target = Path(out)
    return [target]
