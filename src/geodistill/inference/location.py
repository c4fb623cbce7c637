"""Where a scene lies, for networks that read it as text (MetaSegNet): one prompt for the whole, or one per window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.errors import DataError
from geodistill.inference.options import LocationHint
from geodistill.inference.windows import WindowPlan
from geodistill.raster import Grid, Raster, Window
from geodistill.segmenter import Segmenter


def scene_prompts(
    segmenter: Segmenter, raster: Raster, windows: WindowPlan, hint: LocationHint, grid: Grid | None = None
) -> NDArray[np.int64] | None:
    """Find the prompt of each window of a scene, from its files and what the user says.

    ``grid`` is where the windows lie, by default the scene's own.

    Returns:
        ``(rows, columns)`` of windows, positions among the model's prompts; ``None`` for a model that takes images
        alone.

    Raises:
        DataError: Nothing says where the scene lies, or it lies in the open ocean.
        UnknownNameError: There is no such zone or region.
    """
    if not segmenter.prompts:
        return None
    # A model of images alone never comes here, and needs neither the climate zones nor their texts.
    from geodistill.methods.metasegnet.network import ANY
    from geodistill.methods.metasegnet.text_table import prompt_row
    from geodistill.text.climate import season, tile_zones
    from geodistill.text.places import find_place

    shape = (len(windows.tops), len(windows.lefts))
    if segmenter.prompts == (ANY,) or len(segmenter.prompts) == 1:
        return np.zeros(shape, np.int64)
    prompts = segmenter.prompts
    grid = grid or raster.grid
    if hint.has_place or grid.crs is None or grid.transform.is_identity:
        place = find_place(raster, lonlat=hint.lonlat, zone=hint.zone, region=hint.region, day=hint.date).setting
        return np.full(shape, prompt_row(prompts, place.zone, place.season), np.int64)
    size = windows.size
    rectangles = [Window(top, left, size, size) for top in windows.tops for left in windows.lefts]
    zones = tile_zones(grid, rectangles, raster.path)
    time = season(hint.date or raster.acquired, grid.lonlat[1] if grid.lonlat else None)
    return np.array([prompt_row(prompts, zone.code, time) for zone in zones], np.int64).reshape(shape)


class PerPlaceModel:
    """A model for images that each lie somewhere: one network per prompt, made once.

    Without a hint, even an empty one, the user has no flags to say where images lie, and errors name none.

    Raises:
        RecipeError: A place is said for a model that takes images alone.
    """

    def __init__(self, segmenter: Segmenter, hint: LocationHint | None = None) -> None:
        if hint is not None and not segmenter.prompts:
            hint.refuse_for_images_alone()
        self._segmenter, self._hint = segmenter, hint
        self._by_prompt: dict[int, Segmenter] = {}

    def at(self, row: Row) -> Segmenter:
        """Return the model for a manifest's row; the model itself where it takes images alone.

        Raises:
            DataError: Nothing says where the image was taken, or it lies in the open ocean.
            UnknownNameError: There is no such zone or region.
        """
        return self._segmenter if len(self._segmenter.prompts) < 2 else self.for_prompt(self.prompt_of(row))

    def at_image(self, image: Path | str | Raster) -> Segmenter:
        """Return the model for where an image says that it lies; the model itself where it takes images alone.

        Raises:
            DataError: It does not say so, or lies in the open ocean.
        """
        if len(self._segmenter.prompts) < 2:
            return self._segmenter
        from geodistill.methods.metasegnet.text_table import prompt_row
        from geodistill.text.places import find_place

        with self._mended():
            place = find_place(image).setting
        return self.for_prompt(prompt_row(self._segmenter.prompts, place.zone, place.season))

    def prompt_of(self, row: Row) -> int:
        """Return the position of the prompt of a manifest's row, for a model that holds several.

        Raises:
            DataError: Nothing says where the image was taken, or it lies in the open ocean.
            UnknownNameError: There is no such zone or region.
        """
        from geodistill.methods.metasegnet.text_table import prompt_row
        from geodistill.text.places import row_place

        hint = self._hint or LocationHint()
        with self._mended():
            place = row_place(row, lonlat=hint.lonlat, zone=hint.zone, region=hint.region, day=hint.date).setting
        return prompt_row(self._segmenter.prompts, place.zone, place.season)

    def for_prompt(self, prompt: int) -> Segmenter:
        """Return the model under one of its prompts alone."""
        if prompt not in self._by_prompt:
            self._by_prompt[prompt] = self._segmenter.for_prompt(prompt).eval()
        return self._by_prompt[prompt]

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Say of an image without a place what can be done where there are no flags."""
        try:
            yield
        except DataError as error:
            if self._hint is not None:
                raise
            mend = "make a model of one climate zone, in Python with Segmenter.for_prompt"
            raise DataError(error.received, error.expected, mend) from error
