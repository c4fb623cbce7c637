"""What a run sees of a data set: what a sample holds, which views there are, and which draws make a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from geodistill.errors import RecipeError

BLOCK = 64
"""Draws among which the share of unlabelled ones is exact."""


@dataclass(frozen=True)
class View:
    """What a draw shows: a sample of the labelled pool (0) or the unlabelled one (1), and its slot among all views."""

    pool: int
    sample: int
    slot: int


@dataclass(frozen=True)
class ViewSchedule:
    """Which view each draw shows: a function of seed and draw number alone.

    Every pass over a pool shows each view of each of its samples once, in a new order. Labelled slots come first, so
    that their numbers do not depend on the unlabelled ones.

    Attributes:
        samples: Samples of each pool, one or two pools.
        views: Views of each sample.
        share: Share of the draws taken from the second pool.
        seed: Any integer from 0.
    """

    samples: tuple[int, ...]
    views: int
    share: float
    seed: int

    @property
    def slots(self) -> int:
        """Views of all samples of all pools."""
        return self.views * sum(self.samples)

    def view(self, draw: int) -> View:
        """Return the view of a draw, from 0 without end."""
        pool, ordinal = (0, draw) if len(self.samples) == 1 or self.share == 0 else self._pool(draw)
        size = self.samples[pool] * self.views
        place = int(_order(self.seed, pool, ordinal // size, size)[ordinal % size])
        return View(pool, place // self.views, place + pool * self.samples[0] * self.views)

    def _pool(self, draw: int) -> tuple[int, int]:
        """Return the pool of a draw and how many draws before it were from that pool."""
        block, place = divmod(draw, BLOCK)
        second = round(BLOCK * self.share)
        chosen = _order(self.seed, 2, block, BLOCK) < second
        before = int(np.count_nonzero(chosen[:place]))
        if chosen[place]:
            return 1, block * second + before
        return 0, block * (BLOCK - second) + place - before


@lru_cache(maxsize=8)
def _order(seed: int, pool: int, turn: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, pool, turn)).permutation(size)


def place_in_pass(seed: int, draw: int, size: int) -> int:
    """Return which of ``size`` samples a draw shows, where each is shown once in every pass, in a new order each time.

    It is a function of seed and draw alone.
    """
    return int(_order(seed, 0, draw // size, size)[draw % size])


def split_batch(total: int, images: Mapping[str, int], processes: int = 1) -> dict[str, int]:
    """Part a batch of all processes among sets in proportion to their training images, by largest remainder.

    Each set gets the whole part of its exact share; what is left goes one by one to the largest remainders, the
    earlier set first where they are equal. The parts add up to ``total``.

    Raises:
        RecipeError: A set, or a process, would get none.
    """
    whole = sum(images.values())
    # Integers throughout: shares that are equal must not part by rounding.
    shares = {name: divmod(total * number, whole) for name, number in images.items()}
    parts = {name: quotient for name, (quotient, _) in shares.items()}
    by_remainder = sorted(shares, key=lambda name: -shares[name][1])
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    if short := [name for name, size in parts.items() if size < processes]:
        name = short[0]
        raise RecipeError(
            f"batches of {total} over {processes} process{'es' * (processes > 1)} give set {name!r} {parts[name]} "
            f"({images[name]} of {whole} images)",
            f"at least {processes} of every set",
            "use a larger data.batch_size, or train without that set",
        )
    return parts


class DrawBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (set, draw) without end; each process gets every part in the proportion of the whole.

    The samples of a step stand in a row, set after set, and are dealt to the processes in turn: each gets as many,
    and of each set as many as any other, give or take one. So the processes together see what one process with the
    larger batch would see. Parts of 3 and 2 from draws 0 and 0, for 2 processes::

        step 0   (0,0) (0,1) (0,2) (1,0) (1,1)       step 1   (0,3) (0,4) (0,5) (1,2) (1,3)
        process    0     1     0     1     0

    Args:
        parts: Samples of each set in a step of all processes.
        start: First draw of each set.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, parts: Sequence[int], start: Sequence[int], rank: int = 0, world: int = 1) -> None:
        self._parts, self._start, self._rank, self._world = tuple(parts), tuple(start), rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in count():
            samples = [
                (position, first + step * size + index)
                for position, (first, size) in enumerate(zip(self._start, self._parts, strict=True))
                for index in range(size)
            ]
            yield samples[self._rank :: self._world]


class Sample(TypedDict):
    """One image with its labels; batched, every tensor gains a leading ``B`` and `key` is a list.

    Keys:
        image: ``(C, H, W)`` float32, sensor units; 0 where not valid.
        mask: ``(H, W)`` int64 class indices; `geodistill.spec.IGNORE_INDEX` where ignored or not valid.
        valid: ``(H, W)`` bool.
        unlabelled: ``(H, W)`` bool: valid pixels of an image without labels. Those that a labelled image leaves out are
            not among them.
        key: Names the sample: file and, for a crop, its row and column.
        source: `Row.key` of the manifest's row that it was cut from.
        slot: Number of the view, where each sample has a few that come back; see `geodistill.data.sampling`.
        plain: ``(C, H, W)`` float32, the image before its colours were changed; beside a slot, or where asked for.
        set: Position of its data set, where a network learns several at once.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    unlabelled: Tensor
    key: str
    source: str
    slot: NotRequired[int]
    plain: NotRequired[Tensor]
    set: NotRequired[int]


class Batch(TypedDict):
    """Samples stacked: ``image (B, C, H, W)``, ``mask``, ``valid`` and ``unlabelled (B, H, W)``, ``key`` a list ...

    ``slot (B,)`` and ``set (B,)`` int64 and ``plain`` like the image are there where the samples have them. Under
    self-training there are also ``soft (B, K, H, W)``, a teacher's probabilities, ``confident (B, H, W)`` bool, where
    they are learnt, and ``pseudo_pixels``, the number of pixels without labels.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    unlabelled: Tensor
    key: list[str]
    source: list[str]
    slot: NotRequired[Tensor]
    plain: NotRequired[Tensor]
    set: NotRequired[Tensor]
    soft: NotRequired[Tensor]
    confident: NotRequired[Tensor]
    pseudo_pixels: NotRequired[Tensor]
