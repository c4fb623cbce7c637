"""Which draws make a batch: of one data set, or of several in proportion, over all processes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from torch.utils.data import Sampler

from geodistill.errors import RecipeError


class DrawBatches(Sampler[list[int]]):
    """Batches of draw numbers without end.

    A step of ``world`` processes uses ``batch_size * world`` draws in a row; process ``rank`` takes every
    ``world``-th of them. So the processes together see what one process with the larger batch would see.

    Args:
        batch_size: Draws in a batch of one process.
        start_draw: First draw of the first step, over all processes.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, batch_size: int, start_draw: int = 0, rank: int = 0, world: int = 1) -> None:
        self._batch_size, self._start, self._rank, self._world = batch_size, start_draw, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        together = self._batch_size * self._world
        for first in count(self._start + self._rank, together):
            yield list(range(first, first + together, self._world))


def split_batch(total: int, images: Mapping[str, int], processes: int = 1) -> dict[str, int]:
    """Part a batch among sets in proportion to their images, by largest remainder.

    Each set gets the whole part of its exact share; what is left goes one by one to the largest remainders, the
    earlier set first where they are equal.

    Args:
        total: Samples in a step of all processes together.
        images: Labelled training images of each set.
        processes: Each must get at least one sample of every set.

    Returns:
        Samples of each set, which add up to ``total``.

    Raises:
        RecipeError: A set, or a process, would get none.
    """
    whole = sum(images.values())
    # Integers throughout: shares that are equal must not part by rounding.
    shares = {name: divmod(total * held, whole) for name, held in images.items()}
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


class DealBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (set, draw) without end; each process gets every part in the proportion of the whole.

    The samples of a step stand in a row, set after set, and are dealt to the processes in turn: each gets as many,
    and of each set as many as any other, give or take one.

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
