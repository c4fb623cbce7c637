"""What `--input` names: rasters, folders of them, STAC items, tile indexes; each becomes scenes, opened here."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from geodistill.errors import DataError, GeodistillWarning, RecipeError
from geodistill.inference.options import FAR, PredictOptions
from geodistill.inference.windows import area_of
from geodistill.raster import IMAGE_SUFFIXES, Grid, Raster, Window
from geodistill.raster.bands import aliases, band_token, before_band, without_gain
from geodistill.raster.raster import open_image
from geodistill.raster.source import Neighbours, is_local, is_remote, shared_name, stem_of
from geodistill.raster.web_map import at_zoom, is_web_map
from geodistill.spec import Spec

MOST_OF_A_BAND = 10.0
"""How far the mean of one band may lie from the model's, in the model's standard deviations."""

MOST_DEVIATIONS = 5.0
"""How far a scene's mean may lie from the model's, in the model's standard deviations, on average over the bands.

Between drone and aerial images of Dubai, Kampala, Zanzibar, two forests of the United States and farmland of Minnesota,
each taken as the model's for all others, single images reach 4.7; eight bits stretched to sixteen, 500.
"""

LEAST_SHARE = 1 / 8
"""What share of the model's mean, and of its deviation, a scene's may at least have; one of the two is enough.

Between those images the mean falls to 0.17 and the deviation, over a field, to 0.05; reflectances of 0..1 under a model
of 8 bits have 0.003 of both.
"""

_SIDE = 64
_PLACES = (1 / 8, 1 / 2, 7 / 8)


@dataclass(frozen=True)
class InputScene:
    """One scene to map.

    Attributes:
        name: What its map is called.
        source: A raster, or several that hold its bands.
        bands: Its bands where the input names them.
        listed: The STAC item or tile index that names it, where it was not named itself.
    """

    name: str
    source: str | tuple[str, ...]
    bands: tuple[str, ...] | None = None
    listed: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Every raster that it is named by."""
        return (self.source,) if isinstance(self.source, str) else self.source


def clean_name(name: str) -> str:
    """Return an identifier from outside as a file's name: no folders, nothing hidden."""
    # Composed, else the accents of a name from a Mac would be taken for odd characters.
    return re.sub(r"[^\w.-]+", "_", normalize("NFC", name)).lstrip(".") or "scene"


def find_scenes(
    inputs: Sequence[Path | str],
    *,
    stack: bool = False,
    mosaic: bool = False,
    bands: Sequence[str] | None = None,
    model_bands: Sequence[str] = (),
    local_only: bool = False,
    zoom: int | None = None,
) -> list[InputScene]:
    """Find the scenes that inputs name.

    Args:
        inputs: Rasters (files, GDAL paths, addresses), folders of rasters or with the band files of one scene each,
            ``.json`` files with a STAC item or item collection, ``.parquet`` tile indexes.
        stack: All inputs are band files of one scene.
        mosaic: All inputs are neighbouring parts of one scene, the first on top.
        bands: Bands asked for.
        model_bands: Bands of the model, looked for by name where none are asked for.
        local_only: Refuse whatever is on the network.
        zoom: Level of web maps.

    Raises:
        DataError: There is none, an input cannot be understood, or is on the network against ``local_only``.
    """
    sources = [str(source) for source in inputs]
    if not sources:
        raise DataError("no input raster", "at least one")
    refuse_loose_bands(sources, bands or ())
    if local_only:
        from geodistill.inference.local_only import refuse_remote

        refuse_remote(sources)
    if mosaic and stack:
        raise RecipeError("one scene of bands and of neighbouring parts at once", "stack or mosaic", "leave one out")
    if mosaic:
        return [InputScene(clean_name(shared_name([stem_of(source) for source in sources])), Neighbours(sources))]
    if stack:
        return [InputScene(clean_name(shared_name([stem_of(source) for source in sources])), tuple(sources))]
    scenes: list[InputScene] = []
    for source in sources:
        suffix = Path(source.split("?", 1)[0]).suffix.lower()
        if is_remote(source) and is_web_map(source):
            if zoom is None:
                raise DataError(f"{source} is a map at every zoom level", "one level of it", "give --zoom and --aoi")
            source = at_zoom(source, zoom)
            scenes.append(InputScene(clean_name(stem_of(source)), source))
        elif is_local(source) and os.path.isdir(source):  # noqa: PTH112 - a name too long is no folder
            scenes += from_folder(Path(source), bands or model_bands)
        elif suffix in (".json", ".geojson"):
            from geodistill.inference.listed import from_stac

            scenes += from_stac(source, bands or model_bands, asked=bands is not None)
        elif suffix in (".parquet", ".geoparquet"):
            from geodistill.inference.listed import from_index

            scenes += from_index(source, bands or model_bands, asked=bands is not None)
        else:
            scenes.append(InputScene(clean_name(stem_of(source)), source))
    if local_only:
        refuse_remote([source for scene in scenes for source in scene.sources])
    return scenes


def refuse_loose_bands(sources: Sequence[str], bands: Sequence[str]) -> None:
    """Refuse bare numbers that are no files beside bands: ``--bands 4 3 2`` leaves 3 and 2 among the scenes.

    Raises:
        DataError: There are some.
    """
    numbers = [source for source in sources if source.isdecimal() and not Path(source).exists()]
    if bands and numbers:
        joined = ",".join([*bands, *numbers])
        raise DataError(f"scenes called {' and '.join(numbers)}", "bands joined by commas", f"write --bands {joined}")


def from_folder(folder: Path, bands: Sequence[str]) -> list[InputScene]:
    """Return a folder's rasters, each a scene, or the scene whose band files it holds.

    Band files are looked for in folders below too, as in a Landsat folder or a Sentinel-2 ``.SAFE``.

    Raises:
        DataError: There is no raster, a band is missing, or there are those of several scenes.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        token = band_token(path.stem) if path.suffix.lower() in IMAGE_SUFFIXES else None
        # Sentinel-2 has masks of each band too, Landsat 7 those of its gaps.
        if token and not re.search(r"^MSK_|^L(E0?7|7).*_GM_B\d", path.name):
            files.setdefault(token, []).append(path)
    if not files:
        rasters = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not rasters:
            raise DataError(f"no raster in the folder {folder}", f"files {', '.join(sorted(IMAGE_SUFFIXES))}")
        return [InputScene(clean_name(path.stem), str(path)) for path in rasters]
    band_files = []
    for name in bands:
        alias = f"b{int(name)}" if name.isdecimal() else name.lower()
        fitting = [paths for paths in files.values() if any(alias in aliases(p.name, None, None, True) for p in paths)]
        if len(fitting) != 1:
            raise DataError(
                f"{folder} has no file of band {name!r}",
                f"one of {', '.join(sorted(files))}",
                "name them with --bands",
            )
        band_files.append(str(_finest(fitting[0])))
    numbers = tuple(str(i + 1) for i in range(len(band_files)))
    return [InputScene(clean_name(folder.name.removesuffix(".SAFE")), tuple(band_files), numbers)]


def _finest(paths: list[Path]) -> Path:
    """Return the finest of a band's files: Sentinel-2 has some bands at 10, 20 and 60 m.

    Raises:
        DataError: They are of several scenes: another is as fine, and no twin, or its name begins otherwise.
    """
    if len(paths) == 1:
        return paths[0]
    sizes = {path: _pixel_size(path) for path in paths}
    finest = min(paths, key=sizes.__getitem__)
    begins = before_band(finest.stem)
    twin = finest.with_name(without_gain(finest.stem))  # a copy in another format too
    as_fine = [p for p in paths if sizes[p] == sizes[finest] and p.with_name(without_gain(p.stem)) != twin]
    others = as_fine + [p for p in paths if before_band(p.stem) != begins]
    if others:
        raise DataError(
            f"{finest} and {others[0]} hold one band",
            "the band files of one scene",
            "name the folder of each scene, or its files with --stack",
        )
    return finest


def _pixel_size(path: Path) -> float:
    """Return the area of a pixel."""
    with Raster(path) as raster:
        return abs(float(raster.grid.transform.determinant))


def open_scene(scene: InputScene, options: PredictOptions, spec: Spec) -> Raster:
    """Open a scene with the model's bands, at the ground sampling distance that the options ask for.

    Raises:
        DataError: It cannot be read, has no such bands, or refers to what ``local_only`` forbids.
    """
    bands = scene.bands or options.bands
    if bands is not None:
        raster = Raster(scene.source, bands, nodata=options.nodata)
    else:
        raster = open_image(scene.source, spec.bands, options.nodata)
    try:
        if options.local_only:
            from geodistill.inference.local_only import refuse_outside

            refuse_outside(scene, raster)
        if options.web_tiles is not None:
            from geodistill.inference.tile_set import check_place

            check_place(raster.grid, raster.source)
        here = ground_distance(raster, options)
        resample = options.gsd == "model" or (options.gsd == "auto" and is_far(here, spec))
        return _resampled(raster, spec, here) if resample else raster
    except DataError:
        raster.close()
        raise


def _resampled(raster: Raster, spec: Spec, here: float | None) -> Raster:
    from geodistill.raster.resampled import ResampledRaster

    if spec.gsd is None:
        raise DataError("a model without ground sampling distance", "one to resample to", "--gsd native")
    centre = raster.grid.gsd
    with raster:
        # A raster is resampled by its distance at its centre; that of the area differs in Mercator's projection.
        return ResampledRaster(raster, spec.gsd * (centre / here if centre and here else 1.0))


def _native(raster: Raster) -> Grid:
    """Return the grid of the file, whatever the raster is read at."""
    grid: Grid = getattr(raster, "native", raster.grid)
    return grid


def ground_distance(raster: Raster, options: PredictOptions) -> float | None:
    """Return the ground sampling distance of the file, in the middle of what is mapped of it.

    Raises:
        DataError: The area of interest cannot be read or lies elsewhere.
    """
    grid = _native(raster)
    if options.aoi is None:
        return grid.gsd
    from geodistill.inference.aoi import outline_on

    return grid.window(outline_on(grid, options.aoi, raster.source).window).gsd


def is_far(gsd: float | None, spec: Spec) -> bool:
    """Whether the ground sampling distances of a scene and a model are known and differ by more than `FAR`."""
    trained = spec.gsd
    return gsd is not None and trained is not None and max(gsd / trained, trained / gsd) > FAR


def warn_unlike(raster: Raster, spec: Spec, options: PredictOptions) -> None:
    """Say where a scene was resampled unasked, or its distance or samples lie far from those of the training."""
    native = ground_distance(raster, options)
    if options.gsd != "model" and is_far(native, spec):
        distances = f"{raster.source} has {native:.3g} m a pixel, the model {spec.gsd:.3g} m"
        resampled = raster.grid.transform != _native(raster).transform
        done = (
            "resampled to the model's; --gsd native keeps the scene's" if resampled else "the classes may mean nothing"
        )
        warnings.warn(f"{distances}: {done}", GeodistillWarning, stacklevel=2)
    moments = sample_moments(raster, options.aoi) if any(spec.mean) else None
    difference = how_far(spec, *moments) if moments is not None else None
    if difference is not None:
        warnings.warn(f"{raster.source} has {difference}", GeodistillWarning, stacklevel=2)


def sample_moments(raster: Raster, aoi: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and standard deviation of each band over nine small windows; ``None`` where none has data.

    With ``aoi`` they lie around the polygons of that file.
    """
    area, pixels = area_of(raster, aoi, _SIDE), []
    grid = area.grid
    for row in _PLACES:
        for col in _PLACES:
            window = Window(int(row * grid.height) - _SIDE // 2, int(col * grid.width) - _SIDE // 2, _SIDE, _SIDE)
            try:
                image, valid = area.read(window.intersection(grid.height, grid.width))
            except DataError:
                continue  # mapping the scene will come upon it
            pixels.append(image[:, valid].astype(np.float64))
    samples = np.concatenate(pixels, 1) if pixels else np.zeros((raster.channels, 0))
    if not samples.shape[1]:
        return None
    return tuple(samples.mean(1).tolist()), tuple(samples.std(1).tolist())


def furthest_band(spec: Spec, mean: Sequence[float]) -> tuple[int, float] | None:
    """Return the position of the band whose mean lies furthest from the model's, and its deviations.

    ``None`` for a model without statistics (all means 0).
    """
    if not any(spec.mean) or len(mean) != len(spec.mean):
        return None
    away = np.abs(np.asarray(mean) - spec.mean) / np.asarray(spec.std)
    return int(away.argmax()), float(away.max())


def how_far(spec: Spec, mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Say how far mean and deviation of the bands (sensor units) lie from those that a model was trained on.

    Return ``None`` where they might be of its kind, or the model has no statistics (all means 0).
    """
    ours, theirs = np.array([mean, std], np.float64), np.array([spec.mean, spec.std], np.float64)
    if not theirs[0].any() or ours.shape != theirs.shape:
        return None
    deviations = float(np.mean(np.abs(ours[0] - theirs[0]) / theirs[1]))
    shares = np.abs(ours).mean(1) / np.abs(theirs).mean(1)
    one = furthest_band(spec, mean)
    far = deviations > MOST_DEVIATIONS or not (shares >= LEAST_SHARE).any()
    if one is None or not (far or one[1] > MOST_OF_A_BAND):
        return None
    furthest = f"furthest in band {spec.bands[one[0]]}, {one[1]:.2g}"
    (mean_here, std_here), (mean_there, std_there) = ours.mean(1), theirs.mean(1)
    return (
        f"samples of {mean_here:.4g} on average, deviation {std_here:.3g}, where the model was trained on "
        f"{mean_there:.4g}, deviation {std_there:.3g} ({deviations:.2g} standard deviations apart; {furthest}): "
        "another sample type or scaling, and the classes may mean nothing"
    )
