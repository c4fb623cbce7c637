"""What a report shows, as settings that can be read without loading what draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geodistill.errors import RecipeError

MOST_MB = 400
"""Megabytes of a map in a page at most: browsers hold a page as one text."""


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows beside what its folder holds.

    Attributes:
        beside: Other runs or Segmenters to set the model beside; its teacher is, where it is at hand.
        speed: Time the models, which takes a few seconds each.
        device: Where they are timed.
        title: Heading of the page; the name of the folder by default, or of the project.
        map: A map that ``predict`` wrote, shown with its confidence where that lies beside it.
        scene: What the map was made of.
        map_mb: Megabytes of the map that go into the page; what is finer goes into a folder beside it.
    """

    beside: Sequence[Path | str] = ()
    speed: bool = True
    device: str = "auto"
    title: str | None = None
    map: Path | str | None = None
    scene: Path | str | None = None
    map_mb: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.map_mb <= MOST_MB:
            raise RecipeError(f"{self.map_mb} MB of map", f"above 0, at most {MOST_MB}")
