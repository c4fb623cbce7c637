"""The three published sets of SAMRS: classes in the order of pixel values, and their colours."""

from __future__ import annotations

from geodistill.data.catalog.benchmark import Benchmark, Layout
from geodistill.spec import Colour, Legend

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


def _samrs(name: str, title: str, classes: tuple[str, ...]) -> Benchmark:
    return Benchmark(
        name,
        title,
        source="github.com/ViTAE-Transformer/SAMRS, or 'label build --preset' on the official detection set",
        licence="academic use only",
        legend=Legend(classes, COLOURS[: len(classes)]),
        layouts={
            "official": Layout(
                ("images/{id}.png", "images/{id}.jpg", "images/{id}.tif"),
                ("gray/{id}.png",),
                lists={"train": "train.txt", "val": "valid.txt"},
            )
        },
        note="there is no background class: 255 is not labelled, so pre-training never sees background",
    )


SAMRS = (
    _samrs("sota", "SAMRS SOTA, from DOTA-v2.0", SOTA),
    _samrs("sior", "SAMRS SIOR, from DIOR", SIOR),
    _samrs("fast", "SAMRS FAST, from FAIR1M-2.0", FAST),
)
