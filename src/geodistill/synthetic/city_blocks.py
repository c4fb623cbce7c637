"""What fills the blocks of a made-up town: fields, bare ground, parks, houses, flats and halls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from geodistill.synthetic.canvas import Canvas, shade
from geodistill.synthetic.objects import CAR_PAINTS, Building, Car, Tree
from geodistill.synthetic.region import IMPERVIOUS, LAND_USES, LOW_VEGETATION, SOIL, WATER, TownRegion
from geodistill.synthetic.town_plan import Block, Street, TownPlan

T = TypeVar("T")


class Town:
    """Fills a plan: grounds are drawn at once, things that stand are kept for later, in their drawing order."""

    def __init__(self, canvas: Canvas, plan: TownPlan, region: TownRegion, rng: np.random.Generator) -> None:
        self.canvas, self.plan, self.region, self.rng = canvas, plan, region, rng
        self.buildings: list[Building] = []
        self.cars: list[Car] = []
        self._parked: dict[tuple[int, int], list[tuple[float, float]]] = {}
        self.trees: list[Tree] = []

    def build(self) -> None:
        """Fill every block that the image shows."""
        fillers: dict[str, Callable[[Block], None]] = {
            "field": self._field, "bare": self._bare, "park": self._park,
            "houses": self._houses, "flats": self._flats, "commerce": self._commerce,
        }  # fmt: skip
        limits = np.cumsum(self.region.shares) / sum(self.region.shares)
        for block in self.plan.blocks:
            place = min(max(self.plan.urbanity(*block.centre) + float(self.rng.normal(0, 0.12)), 0.0), 0.999)
            use = LAND_USES[int(np.searchsorted(limits, place, side="right"))]
            if min(block.size) > 12 and self.canvas.sees(self.plan.rectangle(block), 20 / self.plan.gsd):
                fillers[use](block)

    def _pick(self, options: tuple[T, ...]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def _uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _ground(self, block: Block, colour: tuple[int, int, int], label: int) -> None:
        self.canvas.fill(self.plan.rectangle(block), shade(colour, self._uniform(0.95, 1.05)), label)

    def add_car(self, u: float, v: float, turn: float, lorries: float = 0.07) -> None:
        """Put a car on a plan point, now and then a lorry, unless that lies in the river or another car is near."""
        cell = math.floor(u / 6), math.floor(v / 6)
        around = [at for i in (-1, 0, 1) for j in (-1, 0, 1) for at in self._parked.get((cell[0] + i, cell[1] + j), ())]
        # Cars in neighbouring stalls and lanes stand side by side, some 2.5 metres apart.
        if not self.plan.dry(u, v, 3.0) or any(_crowded(turn, u - at[0], v - at[1]) for at in around):
            return
        self._parked.setdefault(cell, []).append((u, v))
        length, width = self._uniform(3.9, 4.9), self._uniform(1.75, 1.95)
        if self.rng.random() < lorries:
            length, width = self._uniform(6.5, 9.5), 2.5
        self.cars.append(Car(self.plan.frame(u, v, turn), length, width, self._pick(CAR_PAINTS)))

    def add_tree(self, u: float, v: float, low: float, high: float) -> None:
        """Plant a tree with a crown radius between ``low`` and ``high`` metres, unless in the river."""
        if self.plan.dry(u, v, 1.0):
            (x, y), *_ = self.plan.pixels([(u, v)])
            radius = self._uniform(low, high)
            colour = shade(self._pick(self.region.crowns), self._uniform(0.9, 1.1))
            height = radius * self._uniform(1.4, 2.2)
            self.trees.append(Tree(float(x), float(y), radius / self.plan.gsd, height, colour))

    def _add_building(
        self, u: float, v: float, turn: float, wings: tuple[tuple[float, float, float, float], ...], height: float,
        pitched: float,
    ) -> None:  # fmt: skip
        reach = max(math.hypot(w[0], w[1]) / 2 for w in wings)
        if self.plan.dry(u, v, reach + 3):
            roof = ("gable" if self.rng.random() < 0.6 else "hip") if self.rng.random() < pitched else "flat"
            colour = self._pick(self.region.decks if roof == "flat" else self.region.tiles)
            colour = shade(colour, self._uniform(0.9, 1.1))
            self.buildings.append(Building(self.plan.frame(u, v, turn), wings, height, roof, colour))

    def _scatter(self, block: Block, count: float, low: float, high: float) -> None:
        for _ in range(int(self.rng.poisson(max(count, 0.0)))):
            self.add_tree(self._uniform(block.u0, block.u1), self._uniform(block.v0, block.v1), low, high)

    def _field(self, block: Block) -> None:
        parts = [block]
        if block.size[1] > 70:
            cut = self._uniform(0.35, 0.65) * block.size[1] + block.v0
            parts = [Block(block.u0, block.v0, block.u1, cut - 0.8), Block(block.u0, cut + 0.8, block.u1, block.v1)]
        self._ground(block, self.region.grass, LOW_VEGETATION)
        for part in parts:
            colour, label = self._pick(self.region.fields)
            colour = shade(colour, self._uniform(0.92, 1.08))
            self.canvas.fill(self.plan.rectangle(part), colour, label)
            along_u = self.rng.random() < 0.5
            spacing, contrast = self._uniform(1.6, 3.2), self._uniform(0.84, 0.94)
            for offset in np.arange(spacing, (part.size[1] if along_u else part.size[0]) - 1, spacing):
                row = (
                    Street(part.u0, part.v0 + offset, part.u1, part.v0 + offset, 1)
                    if along_u
                    else Street(part.u0 + offset, part.v0, part.u0 + offset, part.v1, 1)
                )
                tone = contrast * self._uniform(0.97, 1.03)
                self.canvas.fill(self.plan.strip(row, 0, spacing * 0.45), shade(colour, tone))
        if self.rng.random() < 0.6:
            for v in np.arange(block.v0, block.v1, 7.0):
                if self.rng.random() < 0.7:
                    self.add_tree(block.u0 + 1.5, float(v), 1.8, 3.6)

    def _bare(self, block: Block) -> None:
        self._ground(block, self.region.bare, SOIL)
        inner = block.inset(4)
        for _ in range(int(self.rng.integers(3, 8))):
            u, v = self._uniform(inner.u0, inner.u1), self._uniform(inner.v0, inner.v1)
            green = self.rng.random() < 0.35
            colour = self.region.grass if green else shade(self.region.bare, self._uniform(0.84, 1.14))
            self.canvas.fill(self._blob(u, v, self._uniform(3, 9)), colour, LOW_VEGETATION if green else SOIL)
        for _ in range(2):
            v = self._uniform(inner.v0, inner.v1)
            track = Street(block.u0, v, block.u1, v + self._uniform(-12, 12), 1)
            for across in (-0.9, 0.9):
                self.canvas.fill(self.plan.strip(track, across, 0.6), shade(self.region.bare, 0.86))
        if self.rng.random() < 0.5:
            self._add_building(*inner.centre, 0, ((self._uniform(10, 16), self._uniform(8, 12), 0, 0),), 4, 0.0)
        for _ in range(int(self.rng.integers(0, 4))):
            u, v = self._uniform(inner.u0, inner.u1), self._uniform(inner.v0, inner.v1)
            self.add_car(u, v, self._uniform(0, 6.3))
        self._scatter(block, self.region.trees * block.size[0] * block.size[1] / 4e4, 1.2, 2.6)

    def _blob(self, u: float, v: float, radius: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        a, b = self._uniform(0, 6.3), self._uniform(0, 6.3)
        reach = radius * (1 + 0.22 * np.sin(2 * turns + a) + 0.12 * np.sin(3 * turns + b))
        return self.plan.pixels(np.stack([u + reach * np.cos(turns), v + reach * np.sin(turns)], 1))

    def _park(self, block: Block) -> None:
        self._ground(block, self.region.grass, LOW_VEGETATION)
        (u, v), (wide, deep) = block.centre, block.size
        for path in (Street(block.u0, v, block.u1, v, 2), Street(u, block.v0, u, block.v1, 2)):
            self.canvas.fill(self.plan.strip(path, 0, 2.2), shade(self.region.bare, 1.1), SOIL)
        spot = (self._uniform(0.25, 0.75) * wide + block.u0, self._uniform(0.25, 0.75) * deep + block.v0)
        if self.rng.random() < 0.55:
            size = self._uniform(0.13, 0.24) * min(wide, deep)
            outline = self._blob(*spot, size)
            middle = outline.mean(0)
            self.canvas.fill(middle + (outline - middle) * (1 + 1.2 / size), shade(self.region.bare, 0.9), SOIL)
            self.canvas.fill(outline, self.region.water, WATER)
            wet = size + 3
        else:
            court = self.plan.frame(*spot, 0)
            self.canvas.fill(court.box(26, 14), (150, 84, 66), IMPERVIOUS)
            for length, width in ((23.8, 10.97), (23.8, 8.23), (12.8, 8.23)):
                self.canvas.fill(court.box(length, width), (226, 224, 220))
                self.canvas.fill(court.box(length - 0.5, width - 0.5), (90, 118, 92))
            self.canvas.fill(court.box(0.4, 11), (226, 224, 220))
            wet = 15.0
        for _ in range(int(self.rng.poisson(self.region.trees * 3.2 * wide * deep / 1e4))):
            at = self._uniform(block.u0, block.u1), self._uniform(block.v0, block.v1)
            if math.dist(at, spot) > wet:
                self.add_tree(*at, 2.2, 5.2)

    def _houses(self, block: Block) -> None:
        self._ground(block, *self._pick(self.region.lots))
        middle = block.centre[0]
        for near, far in ((block.u0, middle), (block.u1, middle)):
            v = block.v0
            while v + 13 < block.v1:
                end = min(v + self._uniform(14, 22), block.v1)
                if block.v1 - end < 13:
                    end = block.v1
                self._lot(Block(min(near, far), v, max(near, far), end), towards=1 if far > near else -1, street=near)
                v = end

    def _lot(self, lot: Block, towards: int, street: float) -> None:
        rng, plan = self.rng, self.plan
        colour, label = self._pick(self.region.lots)
        self._ground(lot.inset(0.25), colour, label)
        depth, frontage = lot.size
        wide, deep = min(self._uniform(9, 14), frontage - 4.5), min(self._uniform(8, 12), depth * 0.5)
        setback = self._uniform(3, 7)
        v = lot.centre[1] + self._uniform(-0.5, 0.5) * (frontage - wide - 4.5)
        u = street + towards * (setback + deep / 2)
        drive = lot.v0 + 1.8 if v > lot.centre[1] else lot.v1 - 1.8
        reach = setback + deep * 0.7
        way = Street(street - towards * 0.4, drive, street + towards * reach, drive, 3)
        self.canvas.fill(plan.strip(way, 0, 2.8), shade(self.region.paving, self._uniform(0.9, 1.08)), IMPERVIOUS)
        walk = Street(street, v, u, v, 1.2)
        self.canvas.fill(plan.strip(walk, 0, 1.2), self.region.paving, IMPERVIOUS)
        yard = plan.frame(u + towards * (deep / 2 + 2), v)
        self.canvas.fill(yard.box(4, wide * 0.6), shade(self.region.paving, 1.04), IMPERVIOUS)
        wings: list[tuple[float, float, float, float]] = [(wide, deep, 0, 0)]
        if rng.random() < 0.35:
            wings.append((5.0, deep + 4.0, -wide / 2 + 2.5, -2.0 * towards))
        self._add_building(u, v, math.pi / 2 + self._uniform(-0.04, 0.04), tuple(wings), self._uniform(3.5, 7.0),
                           self.region.pitched)  # fmt: skip
        if rng.random() < 0.45:
            at = street + towards * self._uniform(2.6, 3.4)
            self.add_car(at, drive, 0 if rng.random() < 0.5 else math.pi, lorries=0.0)
        back = u + towards * (deep / 2 + 5)
        behind = Block(min(back, lot.u1 - 1 if towards > 0 else lot.u0 + 1), lot.v0 + 1,
                       max(back, lot.u1 - 1 if towards > 0 else lot.u0 + 1), lot.v1 - 1)  # fmt: skip
        if behind.size[0] > 9 and rng.random() < 0.13:
            pool = plan.frame(*behind.centre, float(rng.choice([0, math.pi / 2])))
            self.canvas.fill(pool.box(8.4, 5.0), shade(self.region.paving, 1.15), IMPERVIOUS)
            self.canvas.fill(pool.box(7.0, 3.6), (84, 168, 184), WATER)
        elif behind.size[0] > 4:
            if rng.random() < 0.3:
                bed = plan.frame(*behind.centre)
                self.canvas.fill(bed.box(behind.size[0] * 0.45, frontage * 0.3), shade(self.region.bare, 0.9), SOIL)
            self._scatter(behind, self.region.trees * behind.size[0] * frontage / 1e4 * 1.8, 1.4, 4.2)
        if rng.random() < 0.3:
            self.add_tree(street + towards * 1.8, v + self._uniform(-0.4, 0.4) * frontage, 1.0, 2.2)

    def _parking(self, block: Block, occupancy: float) -> None:
        """Draw a lot with rows of stalls along u; every second lane between rows is a drive."""
        self._ground(block, self.region.asphalt, IMPERVIOUS)
        rows = np.arange(block.v0 + 3.2, block.v1 - 2.4, 8.2)
        for position, v in enumerate(rows):
            for u in np.arange(block.u0 + 1.5, block.u1 - 1.5, 2.6):
                line = self.plan.frame(float(u) - 1.3, float(v), math.pi / 2)
                self.canvas.fill(line.box(4.8, 0.22), (206, 206, 202))
                if self.rng.random() < 0.04:
                    self.add_tree(float(u), float(v), 1.3, 2.4)
                elif self.rng.random() < occupancy:
                    turn = math.pi / 2 * (1 if position % 2 else -1) + self._uniform(-0.04, 0.04)
                    self.add_car(float(u), float(v) + self._uniform(-0.2, 0.2), turn, lorries=0.0)

    def _flats(self, block: Block) -> None:
        self._ground(block, self.region.grass, LOW_VEGETATION)
        wide, deep = block.size
        lane = Block(block.u0, block.v1 - 12.5, block.u1, block.v1)
        if deep > 40:
            self._parking(lane, 0.6)
        v = block.v0 + 9.0
        while v < block.v1 - (24 if deep > 40 else 9):
            length = min(self._uniform(24, 52), wide - 8)
            path = Street(block.u0, v + 8.5, block.u1, v + 8.5, 1)
            self.canvas.fill(self.plan.strip(path, 0, 1.8), self.region.paving, IMPERVIOUS)
            u = block.centre[0] + self._uniform(-0.5, 0.5) * (wide - length - 6)
            self._add_building(u, v, 0, ((length, self._uniform(10, 13), 0, 0),), self._uniform(9, 18), 0.15)
            v += self._uniform(24, 30)
        lawn = Block(block.u0, block.v0, block.u1, lane.v0 if deep > 40 else block.v1)
        self._scatter(lawn, self.region.trees * 1.3 * lawn.size[0] * lawn.size[1] / 1e4, 1.8, 4.2)

    def _commerce(self, block: Block) -> None:
        wide, deep = block.size
        hall = min(self._uniform(0.45, 0.7) * deep, 70)
        if not self.plan.dry(block.centre[0], block.v0 + hall / 2, hall / 2 + 8):
            self._park(block)
            return
        self._ground(block, self.region.asphalt, IMPERVIOUS)
        self._parking(Block(block.u0 + 3, block.v0 + hall + 4, block.u1 - 3, block.v1 - 2), self._uniform(0.25, 0.75))
        length = min(wide - 8, 75)
        wings: list[tuple[float, float, float, float]] = [(length, hall - 4, 0, 0)]
        if self.rng.random() < 0.4:
            wings.append((length * 0.35, 6.0, length * 0.2, hall / 2))
        self._add_building(block.centre[0], block.v0 + hall / 2, 0, tuple(wings), self._uniform(5, 11), 0.0)
        for u in np.arange(block.u0 + 4, block.u1 - 4, 9):
            if self.rng.random() < 0.5:
                self.add_tree(float(u), block.v1 - 1, 1.2, 2.4)


def _crowded(turn: float, du: float, dv: float) -> bool:
    """Return whether a car that many metres away stands in the way: 7 metres ahead or behind, 2.2 beside."""
    c, s = math.cos(turn), math.sin(turn)
    return abs(du * c + dv * s) < 7.0 and abs(dv * c - du * s) < 2.2
