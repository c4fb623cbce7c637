"""Where a scene lies, for networks that ask: one prompt for the whole, or one for each window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.data.manifest import Row
from geodistill.inference.windows import Plan
from geodistill.methods.metasegnet.network import ANY
from geodistill.methods.metasegnet.training import prompt_row
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.text.climate import season, tile_zones
from geodistill.text.setting import find_place, row_place


@dataclass(frozen=True)
class Whereabouts:
    """What the user says of where and when scenes were taken; what is not said comes from the files.

    Attributes:
        lonlat: Longitude and latitude in degrees.
        zone: A climate zone's code.
        region: A place of a benchmark set, or ``file`` where the file's name is one.
        day: ``YYYY-MM-DD``.
    """

    lonlat: tuple[float, float] | None = None
    zone: str | None = None
    region: str | None = None
    day: str | None = None

    @property
    def said(self) -> bool:
        """Whether the place is said."""
        return bool(self.lonlat or self.zone or self.region)


def scene_prompts(segmenter: Segmenter, raster: Raster, plan: Plan, said: Whereabouts) -> NDArray[np.int64] | None:
    """Find the prompt of each window of a scene.

    Args:
        segmenter: The model.
        raster: The scene.
        plan: Its windows.
        said: What the user says.

    Returns:
        ``(rows, columns)`` of windows, positions among the model's prompts; ``None`` for a model that takes images
        alone.

    Raises:
        DataError: Nothing says where the scene lies, or it lies in the open ocean.
        UnknownNameError: There is no such zone or region.
    """
    if not segmenter.prompts:
        return None
    shape = (len(plan.tops), len(plan.lefts))
    if segmenter.prompts == (ANY,) or len(segmenter.prompts) == 1:
        return np.zeros(shape, np.int64)
    prompts = segmenter.prompts
    grid = raster.grid
    if said.said or grid.crs is None or grid.transform.is_identity:
        place = find_place(raster, lonlat=said.lonlat, zone=said.zone, region=said.region, day=said.day).setting
        return np.full(shape, prompt_row(prompts, place.zone, place.season), np.int64)
    size = plan.size
    windows = [Window(top, left, size, size) for top in plan.tops for left in plan.lefts]
    zones = tile_zones(grid, windows, raster.path)
    time = season(said.day or raster.acquired, grid.lonlat[1] if grid.lonlat else None)
    return np.array([prompt_row(prompts, zone.code, time) for zone in zones], np.int64).reshape(shape)


class Placed:
    """A model for images that each lie somewhere: one network a prompt, made once.

    Args:
        segmenter: The model.
        said: What the user says of where and when images were taken.
    """

    def __init__(self, segmenter: Segmenter, said: Whereabouts) -> None:
        self._segmenter, self._said = segmenter, said
        self._made: dict[int, Segmenter] = {}

    def at(self, row: Row) -> Segmenter:
        """Give the model for a manifest's row; the model itself where it does not ask.

        Raises:
            DataError: Nothing says where the image was taken, or it lies in the open ocean.
            UnknownNameError: There is no such zone or region.
        """
        if len(self._segmenter.prompts) < 2:
            return self._segmenter
        said = self._said
        found = row_place(row, lonlat=said.lonlat, zone=said.zone, region=said.region, day=said.day).setting
        prompt = prompt_row(self._segmenter.prompts, found.zone, found.season)
        if prompt not in self._made:
            self._made[prompt] = self._segmenter.for_prompt(prompt).eval()
        return self._made[prompt]
