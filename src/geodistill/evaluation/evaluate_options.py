"""How a model is scored, as settings that can be read without loading what scores it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from geodistill.errors import RecipeError
from geodistill.inference.options import LocationHint, PredictOptions


@dataclass(frozen=True)
class EvaluateOptions:
    """How a model is scored.

    Attributes:
        overlap: Overlap of the sliding window, 0 to 0.75.
        flips: Average over horizontal and vertical mirrors.
        scales: Factors of the windows' sides that probabilities are averaged over; the model's own where not given.
        subset: Classes that the means are taken over, by default all.
        batch_size: Batch size (windows per forward pass).
        device: ``auto``, ``cpu``, ``cuda`` ...
        worst: Images of lowest mIoU that are shown at most, beside a few of the median and the best.
        class_map: Class of the set by class of the model, for a set with other classes: scores are those of the
            classes that both have (MetaSegNet's table VI).
        location: Where images were taken, for a model that asks and a manifest that does not say.
        gsd: Metres per pixel that images are brought to before they are segmented, for a set of another resolution
            than the model's; scored on the labels as they are.
        resize: Pixels that the longer side of each image is brought to instead, as ``data.resize`` in training.

    Raises:
        RecipeError: A number is out of its range.
    """

    overlap: float = PredictOptions.overlap
    flips: bool = False
    scales: tuple[float, ...] | None = None
    subset: Sequence[str] | None = None
    batch_size: int = 4
    device: str = "auto"
    worst: int = 12
    class_map: Mapping[str, str] | None = None
    location: LocationHint = field(default_factory=LocationHint)
    gsd: float | None = None
    resize: int | None = None

    def __post_init__(self) -> None:
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise RecipeError(f"gsd {self.gsd}", "metres per pixel, above 0")
        if self.resize is not None and (self.resize < 1 or self.gsd is not None):
            raise RecipeError(f"resize {self.resize}, gsd {self.gsd}", "one of them, at least 1 pixel")
        PredictOptions(overlap=self.overlap, batch=self.batch_size, scales=self.scales)
