"""``label next``: which tiles to label next, where a model is unsure and they are unlike what is labelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geodistill.data.layout import image_files
from geodistill.data.manifest import Manifest
from geodistill.engine import progress_bar
from geodistill.errors import DataError, RecipeError, check_name
from geodistill.explain.feature_maps import encoder_map, last_map
from geodistill.inference.location import PerPlaceModel
from geodistill.inference.sliding import check_bands, confidence_of
from geodistill.label.label_set import read_instances
from geodistill.label.output_folder import ACCOUNT, INSTANCES
from geodistill.label.tiles import tile_windows
from geodistill.nn.encoders import Encoder
from geodistill.raster import Grid, Window
from geodistill.raster.raster import open_image
from geodistill.reading import read_object, well_formed
from geodistill.segmenter import Segmenter

LEAST_VALID = 0.5
"""Share of a tile that has data at least."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class NextOptions:
    """How tiles are chosen.

    Attributes:
        count: How many.
        tile: Side in pixels; the model's by default.
        weak: Classes that the model is weak at: tiles where it sees them come sooner.
        labelled: Manifest of what is labelled already: its images are left out, and tiles unlike them come sooner. Of a
            folder of ``label build`` (or its manifest) those that its tiles were cut out of are left out.
        encoder: In whose features tiles are compared, such as a teacher's; the model's own by default.
    """

    count: int = 20
    tile: int | None = None
    weak: tuple[str, ...] = ()
    labelled: Path | str | None = None
    encoder: Encoder | None = None


@dataclass(frozen=True, eq=False)
class NextTile:
    """A tile that could be labelled.

    Attributes:
        image: Its image.
        window: Where it lies in that.
        grid: Where it lies on the ground.
        uncertainty: Mean entropy of the class probabilities, as a share of the largest possible.
        weak: Share of its pixels that the model takes for weak classes.
        features: ``(C,)`` of length 1.
        distance: From the nearest tile that is labelled or was chosen before, 1 minus the cosine; ``None`` where
            there was none.
    """

    image: Path
    window: Window
    grid: Grid
    uncertainty: float
    weak: float
    features: Features
    distance: float | None = None

    @property
    def value(self) -> float:
        """What labelling it promises, before it is known how unlike the others it is."""
        return self.uncertainty + self.weak


@dataclass(frozen=True)
class NextTiles:
    """Tiles to label next, the first first; of how many, and how many had too little data."""

    tiles: list[NextTile]
    candidates: int
    too_empty: int


def choose_next(
    images: Sequence[Path | str], model: Segmenter, options: NextOptions, *, progress: bool = False
) -> NextTiles:
    """Choose tiles one by one: each is the one of the largest value times distance (a greedy weighted k-centre).

    The k-centre rule alone (Sener and Savarese 2018) covers the features evenly; the value prefers, among tiles as far
    from all chosen ones, those that the model is unsure of or sees weak classes in.

    Args:
        images: Folders and files.
        model: A trained model.
        options: How.
        progress: Show progress bars on a terminal.

    Raises:
        DataError: There is no image, or one cannot be read, has other bands than the model, or does not say where it
            lies under a model of climate zones.
        RecipeError: The model has no encoder, or a number makes no sense.
        UnknownNameError: The model has no such class.
    """
    if options.count < 1 or (options.tile is not None and options.tile < 16):
        raise RecipeError(f"{options.count} tiles of {options.tile} pixels", "1 or more of at least 16")
    names = model.spec.legend.names
    for name in options.weak:
        check_name("class", name, names)
    labelled = None if options.labelled is None else Manifest.load(options.labelled)
    done = set() if labelled is None else {entry.image.resolve() for entry in labelled.entries} | _sources(labelled)
    files = [file for place in images for file in image_files(Path(place)) if file.resolve() not in done]
    if not files:
        raise DataError(f"no image in {', '.join(map(str, images))} that is not labelled", "images")
    weak = [names.index(name) for name in options.weak]
    tiles, too_empty, places = [], 0, PerPlaceModel(model)
    for file in progress_bar(files, "looking at images", progress):
        for tile in _tiles(file, places, options, weak):
            if tile is None:
                too_empty += 1
            else:
                tiles.append(tile)
    if not tiles:
        raise DataError(f"{too_empty} tiles, all with less than half of their pixels", "tiles with data")
    known = [] if labelled is None else list(_known(labelled, places, options, progress))
    return NextTiles(spread(tiles, known, options.count), len(tiles), too_empty)


def spread(tiles: Sequence[NextTile], known: Sequence[Features], count: int) -> list[NextTile]:
    """Return ``count`` tiles by value times distance from the features of ``known`` tiles and of those chosen."""
    features = np.stack([tile.features for tile in tiles])
    values = np.array([tile.value for tile in tiles])
    near = np.full(len(tiles), np.inf)
    for centre in known:
        near = np.minimum(near, 1 - features @ centre)
    chosen: list[NextTile] = []
    left = np.ones(len(tiles), bool)
    while len(chosen) < min(count, len(tiles)):
        far = np.where(np.isfinite(near), near.clip(0), 1.0)
        at = int(np.where(left, values * far, -np.inf).argmax())
        distance = float(near[at].clip(0)) if np.isfinite(near[at]) else None
        chosen.append(replace(tiles[at], distance=distance))
        left[at] = False
        near = np.minimum(near, 1 - features @ features[at])
    return chosen


def _sources(manifest: Manifest) -> set[Path]:
    """Return the images that a label folder's tiles and pictures were made of; none where a manifest is in no such."""
    folder = Path() if manifest.path is None else manifest.path.parent
    if not all((folder / name).is_file() for name in (ACCOUNT, INSTANCES)):
        return set()
    content, account = read_instances(folder / INSTANCES)[1], read_object(folder / ACCOUNT)
    with well_formed(folder, "a folder as 'label build' wrote it"):
        images = Path(account["settings"]["images"])
        root = images if images.is_dir() else images.parent
        return {(root / entry["source"]).resolve() for entry in content["images"]}


def _tiles(file: Path, places: PerPlaceModel, options: NextOptions, weak: list[int]) -> Iterator[NextTile | None]:
    """Yield the tiles of an image; ``None`` for one with too little data."""
    model = places.at_image(file)
    with open_image(file, model.spec.bands) as raster:
        check_bands(raster, model.spec.bands)
        for window in tile_windows(raster.grid.height, raster.grid.width, options.tile or model.tile, 0):
            pixels, valid = raster.read(window)
            if valid.mean() < LEAST_VALID:
                yield None
                continue
            features, probabilities = _look(pixels, valid, model, options.encoder)
            sure = confidence_of(probabilities, probabilities.amax(0), "entropy").numpy()
            classes = probabilities.argmax(0).numpy()[valid]
            share = float(np.isin(classes, weak).mean()) if weak else 0.0
            grid = raster.grid if window == raster.grid.whole else raster.grid.window(window)
            yield NextTile(file, window, grid, 1 - float(sure[valid].mean()), share, features)


def _look(
    pixels: NDArray[np.generic], valid: NDArray[np.bool_], model: Segmenter, encoder: Encoder | None
) -> tuple[Features, torch.Tensor]:
    """Return the features of a tile, of length 1, and the probabilities ``(K, H, W)`` of its classes.

    Where there is no data the network sees 0, as in training and on maps.
    """
    image = torch.from_numpy(np.nan_to_num(np.where(valid, pixels, 0).astype(np.float32)))[None]
    with torch.no_grad():
        last, logits = last_map(model, image)
        features = last if encoder is None else encoder_map(encoder, image)
        pooled = torch.nn.functional.normalize(features.float().mean((2, 3))[0], dim=0)
    return pooled.numpy(), logits.float().softmax(1)[0]


def _known(manifest: Manifest, places: PerPlaceModel, options: NextOptions, progress: bool) -> Iterator[Features]:
    """Yield the features of what is labelled: of each row's own part of its image."""
    for entry in progress_bar(manifest.entries, "looking at labelled images", progress):
        area, model = entry.window, places.at(entry)
        with open_image(entry.image, model.spec.bands) as raster:
            check_bands(raster, model.spec.bands)
            for tile in tile_windows(area.height, area.width, options.tile or model.tile, 0):
                window = replace(tile, row=area.row + tile.row, col=area.col + tile.col)
                pixels, valid = raster.read(window)
                if valid.mean() >= LEAST_VALID:
                    yield _look(pixels, valid, model, options.encoder)[0]
