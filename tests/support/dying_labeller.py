"""A labeller whose process dies once, in the middle of a run; workers in other processes can import it."""

from __future__ import annotations

import os

from geodistill.label.tile_labeller import Labeller
from geodistill.label.tile_records import TileRecord
from geodistill.label.tiles import Item


class DyingLabeller(Labeller):
    """Ends its process on the last image, the first time; ``died`` beside the output folder remembers it."""

    def __call__(self, item: Item) -> list[TileRecord]:
        records = super().__call__(item)
        mark = self.out.parent / "died"
        if item[0].key == "scene_2" and not mark.exists():
            mark.touch()
            os._exit(1)
        return records
