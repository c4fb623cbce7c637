"""Settings of many images: what differs among them, and how many images each prompt is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from geodistill.data.manifest import Manifest
from geodistill.raster import Grid, Window
from geodistill.text.climate import tile_zones
from geodistill.text.setting import Place, Setting, row_place
from geodistill.text.templates import rounded

MOST_TILES = 64
"""Tiles along the longer side of a raster whose zones are counted."""


@dataclass(frozen=True)
class Group:
    """Images that share a prompt.

    Attributes:
        setting: What the prompt is written for.
        places: One an image.
    """

    setting: Setting
    places: tuple[Place, ...]

    @property
    def sources(self) -> dict[str, int]:
        """Images by what gave their zone, most first."""
        return dict(Counter(place.source for place in self.places).most_common())

    @property
    def seasons(self) -> dict[str, int]:
        """Images by season, most first; those without a date or in the tropics are left out."""
        return dict(Counter(s for place in self.places if (s := place.setting.season)).most_common())


def group_places(places: Iterable[Place], *, seasons: bool = True) -> list[Group]:
    """Bring places of one prompt together, those with most images first.

    Args:
        places: One an image.
        seasons: Tell seasons apart.
    """
    held: dict[Setting, list[Place]] = {}
    for place in places:
        setting = place.setting
        key = replace(
            setting,
            season=setting.season if seasons else None,
            # As prompts tell them: images of nearly one resolution share theirs.
            gsd=None if setting.gsd is None else rounded(setting.gsd),
            elevation=None if setting.elevation is None else rounded(setting.elevation),
        )
        held.setdefault(key, []).append(place)
    groups = [Group(setting, tuple(found)) for setting, found in held.items()]
    return sorted(groups, key=lambda group: (-len(group.places), group.setting.zone or ""))


def manifest_places(manifest: Manifest, *, zone: str | None = None, region: str | None = None) -> list[Place]:
    """Find the setting of each image of a manifest, as training does: the resolution is the whole set's.

    Args:
        manifest: The images.
        zone: A zone's code for all of them.
        region: A place for all of them, or ``file`` to take it from file names.

    Raises:
        DataError: An image does not say where it was taken, or a coordinate is out of range or in the open ocean.
        UnknownNameError: There is no such zone or region.
    """
    return [row_place(row, zone=zone, region=region, gsd=manifest.gsd) for row in manifest.entries]


def zone_shares(grid: Grid, side: int = 512) -> dict[str, int]:
    """Count the tiles of a raster by climate zone, most first.

    Args:
        grid: The raster's, with a CRS and a transform.
        side: Side of a tile in pixels; more where there would be over `MOST_TILES` along a side.

    Raises:
        DataError: The raster has no CRS and transform, or all of it lies in the open ocean.
    """
    side = max(side, -(-max(grid.height, grid.width) // MOST_TILES))
    windows = [
        Window(row, col, min(side, grid.height - row), min(side, grid.width - col))
        for row in range(0, grid.height, side)
        for col in range(0, grid.width, side)
    ]
    return dict(Counter(zone.code for zone in tile_zones(grid, windows)).most_common())
