"""What the SAMRS paper used for its three published sets: classes in the order of pixel values, tiles, prompts."""

from __future__ import annotations

from dataclasses import dataclass

from geodistill.label.paint import Order
from geodistill.label.postprocess import NO_RULES, Rules
from geodistill.spec import Colour

SEGMENTER = "sam:facebook/sam-vit-huge"
"""SAM with its largest encoder, as in the paper."""

COLOURS: tuple[Colour, ...] = (
    (0, 127, 255), (0, 63, 0), (0, 127, 63), (0, 63, 255), (0, 0, 127), (0, 127, 127), (0, 0, 63), (0, 63, 127),
    (0, 63, 191), (0, 191, 127), (0, 127, 191), (0, 63, 63), (0, 100, 155), (0, 0, 255), (0, 0, 191), (64, 191, 127),
    (64, 0, 191), (128, 63, 63), (128, 0, 63), (191, 63, 0), (255, 127, 0), (63, 0, 0), (127, 63, 0), (63, 255, 0),
    (0, 127, 0), (127, 127, 0), (63, 0, 63), (63, 127, 0), (63, 191, 0), (191, 127, 0), (127, 191, 0), (63, 63, 0),
    (100, 155, 0), (0, 255, 0), (0, 191, 0), (191, 127, 64), (0, 191, 64),
)  # fmt: skip
"""Colour of each pixel value, shared by the three sets; unlabelled is white."""

SOTA = (
    "large-vehicle", "swimming-pool", "helicopter", "bridge", "plane", "ship", "soccer-ball-field", "basketball-court",
    "ground-track-field", "small-vehicle", "baseball-diamond", "tennis-court", "roundabout", "storage-tank", "harbor",
    "container-crane", "airport", "helipad",
)  # fmt: skip
SIOR = (
    "airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney", "expressway-service-area",
    "expressway-toll-station", "dam", "golffield", "groundtrackfield", "harbor", "overpass", "ship", "stadium",
    "storagetank", "tenniscourt", "trainstation", "vehicle", "windmill",
)  # fmt: skip
FAST = (
    "A220", "A321", "A330", "A350", "ARJ21", "Baseball-Field", "Basketball-Court", "Boeing737", "Boeing747",
    "Boeing777", "Boeing787", "Bridge", "Bus", "C919", "Cargo-Truck", "Dry-Cargo-Ship", "Dump-Truck",
    "Engineering-Ship", "Excavator", "Fishing-Boat", "Football-Field", "Intersection", "Liquid-Cargo-Ship",
    "Motorboat", "other-airplane", "other-ship", "other-vehicle", "Passenger-Ship", "Roundabout", "Small-Car",
    "Tennis-Court", "Tractor", "Trailer", "Truck-Tractor", "Tugboat", "Van", "Warship",
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """The settings of one published set; attributes as those of `geodistill.label.settings.Settings`."""

    format: str
    classes: tuple[str, ...]
    prompt: str
    tile: int | None = None
    overlap: int = 0
    share: float = 0.7
    order: Order = "annotation"
    rules: Rules = NO_RULES
    segmenter: str = SEGMENTER

    @property
    def colours(self) -> tuple[Colour, ...]:
        """One colour a class."""
        return COLOURS[: len(self.classes)]


# The paper does not publish its cropping of DOTA-v2.0 and FAIR1M-2.0; these are the released configurations of the
# tool that it names (BboxToolkit): 1024 with 200 shared pixels and share 0.7, 600 with 150 and 0.5.
PRESETS: dict[str, Preset] = {
    "sota": Preset("dota", SOTA, "hbox", tile=1024, overlap=200, share=0.7),
    "sior": Preset("voc", SIOR, "hbox"),
    "fast": Preset("fair1m", FAST, "rhbox", tile=600, overlap=150, share=0.5),
}
