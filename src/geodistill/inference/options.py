"""What a user can ask of `predict`, checked before any work begins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.inference.location import Whereabouts
from geodistill.inference.sliding import SPAN, Settings
from geodistill.inference.vector import VectorOptions
from geodistill.inference.windows import Part, Plan
from geodistill.raster import Raster

BACKENDS = ("auto", "torch", "onnx", "openvino")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Options:
    """How maps are made.

    Attributes:
        settings: How a scene is segmented; its batch size is replaced by that below.
        batch: Windows a forward pass; ``auto`` measures which is fastest, ``None`` takes what suits the device.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...
        backend: What runs the network, among `BACKENDS`; ``auto`` takes the fastest that gives torch's classes.
        precision: Arithmetic of the network, among `PRECISIONS`; ``auto`` takes, with the backend, the fastest that
            gives the classes of fp32, but for one pixel in a thousand, and fp32 where probabilities are wanted.
        compile: Compile the network with torch first.
        bands: Bands of the scenes to use, each by number from 1 or by name; by default by the model's names where
            the scene has them, else all in their order.
        nodata: Value that means no data, for scenes that do not say so themselves.
        resample: Bring scenes to the ground sampling distance of the model.
        max_memory: Most bytes that a scene may take beside the network; wider ones are cut in column blocks.
        resume: Continue interrupted maps and leave finished ones as they are.
        blocks: In how many blocks of rows each scene is cut for several workers; by default as many as keep all
            workers busy.
        stac: Write a STAC item beside each map.
        whereabouts: What the user says of where and when scenes were taken, for a network that asks.
        vector: Write polygons beside each map, and the map of confidence that they take theirs from.
        local_only: Refuse scenes that are read over the network, or from outside the folder of what names them.

    Raises:
        RecipeError: A number is out of range.
        UnknownNameError: There is no such backend or precision.
    """

    settings: Settings = field(default_factory=Settings)
    batch: int | Literal["auto"] | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    compile: bool = False
    bands: tuple[str, ...] | None = None
    nodata: float | None = None
    resample: bool = False
    max_memory: int | None = None
    resume: bool = False
    blocks: int | None = None
    stac: bool = False
    whereabouts: Whereabouts = field(default_factory=Whereabouts)
    vector: VectorOptions | None = None
    local_only: bool = False

    def __post_init__(self) -> None:
        if self.vector is not None:
            wanted = replace(self.settings.wanted, confidence=True)
            object.__setattr__(self, "settings", replace(self.settings, wanted=wanted))
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if isinstance(self.batch, int) and self.batch < 1:
            raise RecipeError(f"batch size {self.batch}", "at least 1")
        if self.blocks is not None and self.blocks < 1:
            raise RecipeError(f"{self.blocks} blocks", "at least 1")
        if self.max_memory is not None and self.max_memory < 1:
            raise RecipeError(f"--max-memory {self.max_memory}", "a number of bytes above 0, such as 2GB")


def parse_bytes(text: str) -> int:
    """Read ``2GB``, ``500M`` or a number of bytes.

    Raises:
        RecipeError: It is not such a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if not found:
        raise RecipeError(f"size {text!r}", "a size such as 2GB or 500M")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def cut_columns(
    plan: Plan, options: Options, classes: int, raster: Raster, rows: tuple[int, int] | None = None
) -> list[Part]:
    """Cut a scene in column blocks that keep within ``max_memory``; one block where there is no need.

    Args:
        plan: The windows.
        options: With the batch size that is used.
        classes: Number of classes.
        raster: The scene.
        rows: Rows of windows to cut, by default all.

    Raises:
        RecipeError: Not even the narrowest block fits, or without ``max_memory`` a strip is larger than all memory.
    """
    first_row, last_row = rows or (0, len(plan.tops))
    columns = len(plan.lefts)
    if options.max_memory is None:
        fixed, a_column = strip_bytes(plan, options, classes, raster)
        if fixed + columns * a_column > (memory := _memory()):
            raise RecipeError(
                f"{raster.source}, {raster.grid.width} pixels wide, takes about "
                f"{(fixed + columns * a_column) / 2**30:.1f} GiB at once",
                f"at most the {memory / 2**30:.1f} GiB of this machine",
                "bound it with --max-memory",
            )
        return [Part(first_row, last_row, 0, columns)]
    span = SPAN * options.settings.batch
    fixed, a_column = strip_bytes(plan, options, classes, raster)
    fitting = int((options.max_memory - fixed) / a_column)
    if fitting < min(span, columns):
        needed = fixed + min(span, columns) * a_column
        raise RecipeError(
            f"--max-memory of {options.max_memory / 2**20:.1f} MiB",
            f"at least {needed / 2**20:.1f} MiB for this scene and batch size",
            "use a smaller --batch",
        )
    width = columns if fitting >= columns else fitting // span * span
    cuts = [*range(0, columns, width), columns]
    return [Part(first_row, last_row, a, b) for a, b in pairwise(cuts)]


def _memory() -> float:
    """Return the bytes of memory that this machine has; no bound where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def cache_bytes(raster: Raster, columns: int) -> int:
    """Bytes of decoded blocks that GDAL may hold while a block of columns is read.

    About two rows of blocks of the raster, so that a strip's border is not decoded twice; of tiles those under the
    columns, of whole rows all.
    """
    own, width = raster.block[1], raster.grid.width
    share = min((columns + 2 * own) / width, 1.0) if raster.tiled else 1.0
    return 2**22 + int(2 * share * raster.block_row_bytes)


def strip_bytes(plan: Plan, options: Options, classes: int, raster: Raster) -> tuple[int, int]:
    """Estimate the memory of a block: what does not depend on its width, and what each column of windows adds."""
    settings, size = options.settings, plan.size
    channels, itemsize = raster.channels, raster.dtype.itemsize
    step = size if len(plan.lefts) == 1 else -(-(plan.lefts[-1]) // (len(plan.lefts) - 1))
    down = size if len(plan.tops) == 1 else -(-(plan.tops[-1]) // (len(plan.tops) - 1))
    window = classes * size * size * 4
    images = settings.batch * channels * size * size * 4
    cached = cache_bytes(raster, 0), cache_bytes(raster, step)
    fixed = 2 * images + (3 * settings.batch + 3) * window + cached[0]
    # The strip, the rows that move up in it, and those being read, with their validity.
    block = raster.block[0] if raster.block[0] <= size else 0
    readers = settings.readers(raster)
    pixel = (channels * itemsize + 1) * (size + (size - down) + (2 + readers) * down + (1 + readers) * block)
    waiting = classes * 4 * (size - down)
    wanted = settings.wanted
    layer = 1 + wanted.confidence
    if wanted.probabilities:
        layer += classes * (1 if wanted.probabilities == "uint8" else 4)
    # On the device, on the host, and on its way to the disk.
    made = layer * (size + 2 * down)
    return fixed, (pixel + waiting + made) * step + cached[1] - cached[0]
