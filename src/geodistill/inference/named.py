"""A scene to map, and what its map is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from unicodedata import normalize


@dataclass(frozen=True)
class Scene:
    """One scene to map.

    Attributes:
        name: What its map is called.
        source: A raster, or several that hold its bands.
        bands: Its bands where the input told which they are.
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


def clean(name: str) -> str:
    """Make a file's name of an identifier from outside: no folders, nothing hidden."""
    # Composed, else the accents of a name from a Mac would be taken for odd characters.
    return re.sub(r"[^\w.-]+", "_", normalize("NFC", name)).lstrip(".") or "scene"
