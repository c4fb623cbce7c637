"""The plan of a made-up town: gently bent streets, the blocks between them, and perhaps a river."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geodistill.synthetic.canvas import Points
from geodistill.synthetic.objects import ObjectFrame
from geodistill.synthetic.region import TownRegion

PAVEMENT = 2.0
"""Width of the pavement on each side of a street in metres."""


@dataclass(frozen=True)
class Street:
    """A street from one point of the plan to another, along u or along v; metres."""

    u0: float
    v0: float
    u1: float
    v1: float
    width: float

    @cached_property
    def length(self) -> float:
        """Metres from end to end."""
        return math.hypot(self.u1 - self.u0, self.v1 - self.v0)

    @cached_property
    def turn(self) -> float:
        """Direction in radians from u towards v."""
        return math.atan2(self.v1 - self.v0, self.u1 - self.u0)

    def at(self, along: float, across: float = 0.0) -> tuple[float, float]:
        """Return the plan point that many metres along the street and to its right."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        return self.u0 + along * c - across * s, self.v0 + along * s + across * c


@dataclass(frozen=True)
class Block:
    """A rectangle of the plan between streets, without their pavements; metres."""

    u0: float
    v0: float
    u1: float
    v1: float

    @property
    def centre(self) -> tuple[float, float]:
        """Middle point."""
        return (self.u0 + self.u1) / 2, (self.v0 + self.v1) / 2

    @property
    def size(self) -> tuple[float, float]:
        """Extent along u and along v."""
        return self.u1 - self.u0, self.v1 - self.v0

    def inset(self, margin: float) -> Block:
        """Return the block without a margin all round."""
        return Block(self.u0 + margin, self.v0 + margin, self.u1 - margin, self.v1 - margin)


@dataclass(frozen=True)
class River:
    """A river that winds along u."""

    middle: float
    swing: float
    bend: float
    phase: float
    width: float

    def v(
        self, u: float | np.ndarray[tuple[int], np.dtype[np.float64]]
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the middle of the river at ``u``."""
        return np.asarray(self.middle + self.swing * np.sin(2 * np.pi * np.asarray(u) / self.bend + self.phase))

    def distance(self, u: float, v: float) -> float:
        """Return about how many metres of dry land lie between a point and the bank; negative in the water."""
        return abs(v - float(self.v(u))) - self.width / 2


class TownPlan:
    """Plan coordinates (u, v: metres from the middle of the scene) and how they lie on an image of so many pixels.

    The plan is turned by a random angle and bent by two long waves, so that no street is quite straight. The region
    sets block sizes and the chance of a river; all chance comes from ``rng``.
    """

    def __init__(self, height: int, width: int, region: TownRegion, rng: np.random.Generator) -> None:
        self.gsd = region.gsd
        self._middle = np.array([width / 2, height / 2])
        self._angle = float(rng.uniform(0, math.pi))
        self._swing = rng.uniform(5, 13, 2)
        self._bend = rng.uniform(260, 420, 2)
        self._phase = rng.uniform(0, 2 * math.pi, 2)
        self._town = rng.uniform(0, 2 * math.pi, 3)
        self.reach = math.hypot(height, width) / 2 * region.gsd + 25
        self.river = self._river(region, rng)
        self.streets: list[Street] = []
        self.blocks: list[Block] = []
        self._lay_out(region, rng)

    def _river(self, region: TownRegion, rng: np.random.Generator) -> River | None:
        if rng.random() >= region.river:
            return None
        middle = float(rng.uniform(-0.4, 0.4)) * self.reach
        swing, bend = float(rng.uniform(8, 22)), float(rng.uniform(200, 380))
        return River(middle, swing, bend, float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(14, 34)))

    def _lay_out(self, region: TownRegion, rng: np.random.Generator) -> None:
        shortest, longest = region.block
        end = self.reach
        u = -end - float(rng.uniform(0, longest))
        left = 0.0
        while u < end:
            width = 11.0 if rng.random() < 0.3 else 6.5
            self.streets.append(Street(u, -end, u, end, width))
            following = u + float(rng.uniform(shortest, longest))
            left, right = u + width / 2 + PAVEMENT, following - 5.5 - PAVEMENT
            v = -end - float(rng.uniform(0, longest))
            while v < end:
                cross = 9.0 if rng.random() < 0.2 else 6.0
                if self.dry((u + following) / 2, v, 14.0):
                    self.streets.append(Street(u, v, following, v, cross))
                below = v + float(rng.uniform(shortest, longest * 1.5))
                self.blocks.append(Block(left, v + cross / 2 + PAVEMENT, right, below - 4.5 - PAVEMENT))
                v = below
            u = following

    def dry(self, u: float, v: float, margin: float) -> bool:
        """Return whether a point lies at least ``margin`` metres from the river."""
        return self.river is None or self.river.distance(u, v) > margin

    def urbanity(self, u: float, v: float) -> float:
        """Return how central a place is: about evenly spread over 0 to 1, smooth over some 200 metres."""
        a, b, c = self._town
        wave = math.sin(u / 95 + a) + math.sin(v / 80 + b) + math.sin((u + v) / 130 + c)
        return 0.5 * (1 + math.erf(wave / math.sqrt(3)))

    def pixels(self, points: list[tuple[float, float]] | Points) -> Points:
        """Turn plan points ``(N, 2)`` into image points ``(N, 2)``."""
        u, v = np.asarray(points, float).T
        x = u + self._swing[0] * np.sin(2 * np.pi * v / self._bend[0] + self._phase[0])
        y = v + self._swing[1] * np.sin(2 * np.pi * u / self._bend[1] + self._phase[1])
        c, s = math.cos(self._angle), math.sin(self._angle)
        placed = np.empty((len(x), 2))
        placed[:, 0] = (x * c - y * s) / self.gsd + self._middle[0]
        placed[:, 1] = (x * s + y * c) / self.gsd + self._middle[1]
        return placed

    def frame(self, u: float, v: float, turn: float = 0.0) -> ObjectFrame:
        """Return the frame of an object at a plan point, its length turned from u towards v."""
        (x0, y0), (x1, y1) = self.pixels([(u, v), (u + math.cos(turn), v + math.sin(turn))])
        return ObjectFrame(float(x0), float(y0), math.atan2(y1 - y0, x1 - x0), self.gsd)

    def strip(
        self, street: Street, across: float, width: float, start: float = 0.0, end: float | None = None
    ) -> Points:
        """Return a band along a street: its middle ``across`` metres to the right, from ``start`` to ``end``."""
        end = street.length if end is None else end
        steps = np.linspace(start, end, max(2, math.ceil((end - start) / 8)))
        sides = [[street.at(float(t), across + side * width / 2) for t in steps] for side in (-1, 1)]
        return self.pixels(sides[0] + sides[1][::-1])

    def rectangle(self, block: Block) -> Points:
        """Return a block's outline on the image, its long sides bent as the plan is."""
        middle = (block.v0 + block.v1) / 2
        return self.strip(Street(block.u0, middle, block.u1, middle, 1), 0, block.v1 - block.v0)
