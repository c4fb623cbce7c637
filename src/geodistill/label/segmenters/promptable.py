"""What a promptable segmenter does (look at an image once, then answer each prompt with a mask), and all by name.

Its prompts are the SAMRS paper's six and their combinations: ``cp`` centre point, ``hbox`` horizontal box (H-Box),
``rhbox`` bounds of the oriented box (RH-Box), ``hbox-mask``, ``rbox-mask`` and ``rhbox-mask`` the same boxes and the
oriented box (R-Box) as filled mask prompts.

Axes: ``H`` rows and ``W`` columns of a tile, ``N`` boxes and prompts, ``V`` vertices; x to the right and y downwards,
in pixels of the tile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.label.boxes import Box, rectangle
from geodistill.label.masks import Mask, fill_polygon
from geodistill.lazy import load

if TYPE_CHECKING:
    from torch import Tensor  # GrabCut's workers need none of it, and it takes seconds to import


PROMPTS = ("cp", "hbox", "rhbox", "hbox-mask", "rbox-mask", "rhbox-mask")
"""Kinds of prompts; the first is a point, the next two are boxes, the last three are masks."""


AUTO = "auto"
"""The H-Box where the set has one, else the RH-Box."""


COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("cp",),
    ("hbox",),
    ("hbox-mask",),
    ("cp", "hbox"),
    ("hbox", "hbox-mask"),
    ("cp", "hbox-mask"),
    ("cp", "hbox", "hbox-mask"),
    ("rbox-mask",),
    ("cp", "rbox-mask"),
    ("rhbox",),
    ("rhbox-mask",),
    ("cp", "rhbox"),
    ("rhbox", "rhbox-mask"),
    ("cp", "rhbox-mask"),
    ("cp", "rhbox", "rhbox-mask"),
)
"""The fifteen rows of the SAMRS paper's table 1, in its order."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of ``N`` objects of one tile; what is not used is ``None``, and at least one of the three is used.

    Attributes:
        points: ``(N, 2)`` float32 x, y of one foreground point each.
        boxes: ``(N, 4)`` float32 xmin, ymin, xmax, ymax.
        polygons: ``N`` arrays ``(V, 2)`` float64, outlines that are filled to mask prompts.
        outlines: ``N`` arrays ``(V, 2)`` float64, the annotated shapes themselves. No prompt of the papers; segmenters
            without weights fill them (`box`).
    """

    points: NDArray[np.float32] | None = None
    boxes: NDArray[np.float32] | None = None
    polygons: tuple[NDArray[np.float64], ...] | None = None
    outlines: tuple[NDArray[np.float64], ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.points, self.boxes, self.polygons) if part is not None}
        if len(lengths) != 1:
            raise ValueError(f"prompts for {sorted(lengths)} objects; expected points, boxes or polygons, equally many")

    def __len__(self) -> int:
        """Return the number of objects."""
        return next(len(part) for part in (self.boxes, self.points, self.polygons) if part is not None)

    def part(self, first: int, last: int) -> Prompts:
        """Return the prompts of the objects ``first`` to before ``last``."""
        chosen = slice(first, last)
        return replace(
            self,
            points=None if self.points is None else self.points[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
            polygons=None if self.polygons is None else self.polygons[chosen],
            outlines=None if self.outlines is None else self.outlines[chosen],
        )


def parse_prompt(text: str) -> tuple[str, ...]:
    """Read ``auto`` or prompts joined by ``+``, such as ``cp+hbox+hbox-mask``.

    Raises:
        UnknownNameError: A prompt has no such name.
        RecipeError: Two points, two boxes or two masks are combined; a segmenter takes one of each.
    """
    kinds = tuple(part.strip() for part in text.split("+"))
    if kinds == (AUTO,):
        return kinds
    for kind in kinds:
        if kind not in PROMPTS:
            mend = f"{AUTO} stands alone" if kind == AUTO else "join several with +"
            raise UnknownNameError("prompt", kind, PROMPTS, mend)
    groups = [_group(kind) for kind in kinds]
    if len(set(groups)) != len(groups):
        raise RecipeError(f"prompt {text!r}", "at most one point, one box and one mask")
    return kinds


def build_prompts(boxes: Sequence[Box], kinds: tuple[str, ...]) -> Prompts:
    """Turn boxes of one tile, clipped to it, into prompts of the kinds that `parse_prompt` returned.

    Raises:
        UnknownNameError: A prompt has no such name.
        ValueError: There are no boxes.
    """
    if not boxes:
        raise ValueError("no boxes to make prompts of")
    points, bounds, polygons = None, None, None
    for kind in ("hbox",) if kinds == (AUTO,) else kinds:
        match kind:
            case "cp":
                bounds_of_all = np.array([box.box for box in boxes])
                points = ((bounds_of_all[:, :2] + bounds_of_all[:, 2:]) / 2).astype(np.float32)
            case "hbox":
                bounds = np.array([box.hbox for box in boxes], np.float32)
            case "rhbox":
                bounds = np.array([box.box for box in boxes], np.float32)
            case "hbox-mask":
                polygons = tuple(rectangle(*box.hbox) for box in boxes)
            case "rbox-mask":
                polygons = tuple(box.corners for box in boxes)
            case "rhbox-mask":
                polygons = tuple(rectangle(*box.box) for box in boxes)
            case _:
                raise UnknownNameError("prompt", kind, (*PROMPTS, AUTO))
    return Prompts(points, bounds, polygons, tuple(box.polygon for box in boxes))


def _group(kind: str) -> str:
    return "mask" if kind.endswith("-mask") else "point" if kind == "cp" else "box"


@dataclass(frozen=True, eq=False)
class Embedding:
    """What a segmenter keeps of one image, to answer any number of prompts.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        image: ``(H, W, 3)`` uint8 RGB for segmenters that read the pixels again, else ``None``.
        features: Feature maps of a network, on its device; their meaning is the segmenter's own.
    """

    height: int
    width: int
    image: NDArray[np.uint8] | None = None
    features: tuple[Tensor, ...] = ()


class PromptableSegmenter(Protocol):
    """A segmenter that cuts out what its prompts point at."""

    name: str
    """As given to `build_segmenter`."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Look at images ``(H, W, 3)`` uint8 RGB, of any sizes; several go through a network in batches on a GPU."""
        ...

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterable[Mask]:
        """Return one mask per prompt, in the prompts' order, in pixels of the tile.

        They may be computed as they are taken, so that thousands on one tile need no more memory than twenty.
        """
        ...


SEGMENTERS: Mapping[str, str] = {
    "grabcut": "geodistill.label.segmenters.grabcut:GrabCut",
    "box": "geodistill.label.segmenters.promptable:BoxSegmenter",
}
"""Segmenters without weights: ``module:attribute`` of a class that takes no arguments, imported when asked for."""


NETWORKS: Mapping[str, str] = dict.fromkeys(
    ("sam", "sam2", "sam3", "edgetam"), "geodistill.label.segmenters.sam:load_segmenter"
)
"""Families of networks, ``module:attribute`` of a function ``(family, weights, device=, chunk_file=)`` that loads one;
each is named together with its weights, as ``sam:DIRECTORY``."""


def build_segmenter(name: str, *, device: str = "auto", chunk_file: Path | None = None) -> PromptableSegmenter:
    """Build a segmenter.

    Args:
        name: ``grabcut``; ``box``, which fills the annotated shape (the floor); or a network with its weights, a
            local directory or a hub id: ``sam:DIR``, ``sam2:DIR``, ``sam3:DIR``, ``edgetam:DIR``.
        device: Where a network runs: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...
        chunk_file: File that keeps how many prompts a network decodes at once, so that every process with that file
            gives the same masks to the last bit; measured anew in each process where not given.

    Raises:
        UnknownNameError: There is no such segmenter.
        ArtifactError: The weights cannot be read or fetched, or are of another family.
        RecipeError: The device does not exist here.
    """
    check_segmenter(name)
    if name in SEGMENTERS:
        segmenter: PromptableSegmenter = load(SEGMENTERS[name])()
        return segmenter
    family, _, weights = name.partition(":")
    network: PromptableSegmenter = load(NETWORKS[family])(family, weights, device=device, chunk_file=chunk_file)
    return network


def check_segmenter(name: str) -> None:
    """Refuse a name that is no segmenter's; weights are not looked for.

    Raises:
        UnknownNameError: There is no such segmenter.
    """
    family, _, weights = name.partition(":")
    if name not in SEGMENTERS and not (family in NETWORKS and weights):
        raise UnknownNameError("segmenter", name, (*SEGMENTERS, *(f"{family}:DIRECTORY" for family in NETWORKS)))


def weights_stamp(name: str) -> str:
    """Return a digest of sizes and times of change of a network's files; empty where they are in no local directory."""
    _, _, weights = name.partition(":")
    folder = Path(weights).expanduser()
    if not weights or not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class BoxSegmenter:
    """Fills the annotated polygon or oriented box; without one the mask prompt, the box or the pixel of the point.

    The floor that a segmenter must pass: no image is looked at.
    """

    name = "box"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        """Keep the sizes of images ``(H, W, 3)``."""
        return [Embedding(image.shape[0], image.shape[1]) for image in images]

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
        """Return the filled shapes, each with score 1."""
        for shape in shapes_of(prompts):
            # A point on the far edges lies in the last pixel.
            shape = np.clip(shape, 0, np.nextafter((embedding.width, embedding.height), 0))
            yield fill_polygon(shape, embedding.height, embedding.width)


def shapes_of(prompts: Prompts) -> Sequence[NDArray[np.float64]]:
    """Return one polygon ``(V, 2)`` per object: the best that is known of its shape."""
    for polygons in (prompts.outlines, prompts.polygons):
        if polygons is not None:
            return polygons
    if prompts.boxes is not None:
        return [rectangle(*box) for box in prompts.boxes.tolist()]
    assert prompts.points is not None
    return [np.repeat(point[None].astype(np.float64), 3, axis=0) for point in prompts.points]
