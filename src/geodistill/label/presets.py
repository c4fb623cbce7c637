"""What the SAMRS paper used for its three published sets: tiles, prompts, and the catalogue's classes and colours."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from geodistill.data.catalog.declarations import COLOURS, FAST, SIOR, SOTA
from geodistill.label.config import Division
from geodistill.label.postprocess import NO_RULES, Order, Rules
from geodistill.legend_entries import Colour

__all__ = ["COLOURS", "PRESETS", "SEGMENTER", "Preset"]

SEGMENTER = "sam:facebook/sam-vit-huge"
"""SAM with its largest encoder, as in the paper."""


@dataclass(frozen=True)
class Preset:
    """The settings of one published set; attributes as those of `geodistill.label.config.LabelSettings`."""

    format: str
    classes: tuple[str, ...]
    prompt: str
    tile: int | None = None
    overlap: int = 0
    share: float = 0.7
    order: Order = "annotation"
    rules: Rules = NO_RULES
    fractions: tuple[float, float, float] = (0.95, 0.05, 0.0)
    split: Division = "source"
    segmenter: str = SEGMENTER

    @property
    def colours(self) -> tuple[Colour, ...]:
        """One colour per class."""
        return COLOURS[: len(self.classes)]

    def to_settings(self) -> dict[str, Any]:
        """Return all of them by their names, as keyword arguments of `LabelSettings`."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"colours": self.colours}


# The paper trains on a part and validates on the rest, without DIOR's test images; the parts are not published.
# The paper does not publish its cropping of DOTA-v2.0 and FAIR1M-2.0; these are the released configurations of the
# tool that it names (BboxToolkit): 1024 with 200 shared pixels and share 0.7, 600 with 150 and 0.5.
PRESETS: dict[str, Preset] = {
    "sota": Preset("dota", SOTA, "hbox", tile=1024, overlap=200, share=0.7),
    "sior": Preset("voc", SIOR, "hbox"),
    "fast": Preset("fair1m", FAST, "rhbox", tile=600, overlap=150, share=0.5),
}
