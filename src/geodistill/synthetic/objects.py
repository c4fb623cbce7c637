"""What stands in made-up towns: buildings with roofs, cars and trees, each drawn with its shadow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from geodistill.legend_entries import Colour
from geodistill.synthetic.canvas import Canvas, Points, shade
from geodistill.synthetic.region import BUILDING, CAR, TREE, TownRegion

CAR_PAINTS: tuple[Colour, ...] = (
    (232, 232, 232), (196, 198, 200), (60, 62, 66), (28, 30, 34), (150, 152, 156), (150, 34, 30), (44, 66, 120),
)  # fmt: skip

GLASS: Colour = (36, 42, 50)


@dataclass(frozen=True)
class ObjectFrame:
    """A small right-angled frame on the image: metres along an object's length and across it.

    Its origin is in pixels, its angle the direction of the length in radians from x towards y, its gsd metres per
    pixel.
    """

    x: float
    y: float
    angle: float
    gsd: float

    def place(self, points: list[tuple[float, float]] | Points) -> Points:
        """Turn ``(N, 2)`` metres into pixels."""
        placed: Points = np.asarray(points, float) @ self._turn + (self.x, self.y)
        return placed

    @cached_property
    def _turn(self) -> Points:
        c, s = math.cos(self.angle) / self.gsd, math.sin(self.angle) / self.gsd
        return np.array([(c, s), (-s, c)])

    def box(self, length: float, width: float, at: tuple[float, float] = (0.0, 0.0)) -> Points:
        """Return the corners of a rectangle centred ``at``: metres in, ``(4, 2)`` pixels out."""
        a, b = length / 2, width / 2
        return self.place([(at[0] + u, at[1] + v) for u, v in ((-a, -b), (a, -b), (a, b), (-a, b))])

    def moved(self, along: float, across: float, turn: float = 0.0) -> ObjectFrame:
        """Return the frame that many metres further on and turned."""
        (x, y), *_ = self.place([(along, across)])
        return ObjectFrame(float(x), float(y), self.angle + turn, self.gsd)


@dataclass(frozen=True)
class Sun:
    """Where the light comes from: shares along x and y towards it, and pixels of shadow for one metre of height."""

    x: float
    y: float
    reach: float

    @classmethod
    def over(cls, region: TownRegion) -> Sun:
        """Return the region's sun; north is up."""
        azimuth, elevation = math.radians(region.sun_azimuth), math.radians(region.sun_elevation)
        return cls(math.sin(azimuth), -math.cos(azimuth), 1 / math.tan(elevation) / region.gsd)

    def throw(self, points: Points, height: float) -> Points:
        """Move points to where their shadow falls from ``height`` metres."""
        return points - np.array([self.x, self.y]) * self.reach * height

    def light(self, angle: float, slope: float) -> float:
        """Return the brightness of a roof face that falls towards ``angle``, against a flat one."""
        return 1 + slope * (math.cos(angle) * self.x + math.sin(angle) * self.y)


@dataclass(frozen=True)
class Building:
    """A building of one or two rectangular wings.

    Attributes:
        frame: Its middle and direction.
        wings: Length, width and centre of each wing in metres of the frame.
        height: Metres to the eaves.
        roof: ``gable``, ``hip`` or ``flat``.
        colour: Of the roof.
    """

    frame: ObjectFrame
    wings: tuple[tuple[float, float, float, float], ...]
    height: float
    roof: str
    colour: Colour

    def outline(self) -> list[Points]:
        """Return each wing's corners in pixels."""
        return [self.frame.box(length, width, (u, v)) for length, width, u, v in self.wings]

    def oriented_box(self) -> Points:
        """Return the smallest turned rectangle round all wings: ``(4, 2)`` pixels."""
        corners = np.concatenate(self.outline()).astype(np.float32)
        return np.asarray(cv2.boxPoints(cv2.minAreaRect(corners)), float)

    def cast(self, canvas: Canvas, sun: Sun) -> None:
        """Draw the shadow on the ground."""
        top = self.height + (1.5 if self.roof != "flat" else 0.0)
        for wing in self.outline():
            reach = cv2.convexHull(np.concatenate([wing, sun.throw(wing, top)]).astype(np.float32))
            canvas.darken(reach[:, 0].astype(float))

    def draw(self, canvas: Canvas, sun: Sun, rng: np.random.Generator) -> None:
        """Draw the roof."""
        for corners in self.outline():
            canvas.darken(corners, 0)
            canvas.fill(corners, self.colour, BUILDING)
        for wing in self.wings:
            if self.roof == "flat":
                self._deck(canvas, wing, rng)
            else:
                self._pitch(canvas, sun, wing)
        if self.roof != "flat" and rng.random() < 0.6:
            length, width, u, v = self.wings[0]
            chimney = (u + length * float(rng.uniform(-0.3, 0.3)), v + width * 0.12)
            canvas.darken(sun.throw(self.frame.box(0.8, 0.8, chimney), 1.2), 170)
            canvas.fill(self.frame.box(0.8, 0.8, chimney), shade(self.colour, 0.6))

    def _pitch(self, canvas: Canvas, sun: Sun, wing: tuple[float, float, float, float]) -> None:
        length, width, u, v = wing
        a, b = length / 2, width / 2
        ridge = a - (min(b, a * 0.8) if self.roof == "hip" else 0.0)
        faces = [
            ([(-a, -b), (a, -b), (ridge, 0), (-ridge, 0)], -math.pi / 2),
            ([(a, b), (-a, b), (-ridge, 0), (ridge, 0)], math.pi / 2),
        ]
        if self.roof == "hip":
            faces += [([(a, -b), (a, b), (ridge, 0)], 0.0), ([(-a, b), (-a, -b), (-ridge, 0)], math.pi)]
        for corners, fall in faces:
            points = self.frame.place([(u + p, v + q) for p, q in corners])
            canvas.fill(points, shade(self.colour, sun.light(self.frame.angle + fall, 0.3)))
        canvas.fill(self.frame.box(2 * ridge, 0.3, (u, v)), shade(self.colour, 1.15))

    def _deck(self, canvas: Canvas, wing: tuple[float, float, float, float], rng: np.random.Generator) -> None:
        length, width, u, v = wing
        canvas.fill(self.frame.box(length, width, (u, v)), shade(self.colour, 1.12))
        canvas.fill(self.frame.box(length - 1, width - 1, (u, v)), shade(self.colour, float(rng.uniform(0.88, 1.0))))
        for _ in range(round(length * width / 90)):
            at = (u + float(rng.uniform(-0.4, 0.4)) * length, v + float(rng.uniform(-0.38, 0.38)) * width)
            long, wide = (float(side) for side in rng.uniform(0.8, 2.6, 2))
            canvas.fill(self.frame.box(long, wide, (at[0] + 0.5, at[1] + 0.5)), shade(self.colour, 0.62))
            canvas.fill(self.frame.box(long, wide, at), shade(self.colour, float(rng.choice([0.72, 1.2, 1.25]))))


@dataclass(frozen=True)
class Car:
    """A car or, when long, a van or lorry; its frame's length is the driving direction."""

    frame: ObjectFrame
    length: float
    width: float
    paint: Colour

    def oriented_box(self) -> Points:
        """Return the corners: ``(4, 2)`` pixels."""
        return self.frame.box(self.length, self.width)

    def draw(self, canvas: Canvas, sun: Sun) -> None:
        """Draw shadow, body and windows."""
        corners = self.oriented_box()
        if not canvas.sees(corners, 4):
            return
        a, b = self.length / 2, self.width / 2
        cut = 0.16 * self.width
        body = [(-a, -b + cut), (-a + cut, -b), (a - cut, -b), (a, -b + cut)]
        body += [(u, -v) for u, v in reversed(body)]
        shadow = cv2.convexHull(np.concatenate([corners, sun.throw(corners, 1.4)]).astype(np.float32))
        canvas.darken(shadow[:, 0].astype(float), 200)
        canvas.darken(corners, 0)
        canvas.fill(self.frame.place(body), self.paint, CAR)
        if self.length < 6:
            wide = self.width * 0.78
            canvas.fill(self.frame.box(self.length * 0.14, wide, (self.length * 0.14, 0)), GLASS)
            canvas.fill(self.frame.box(self.length * 0.11, wide, (-self.length * 0.32, 0)), GLASS)
        else:
            canvas.fill(self.frame.box(0.35, self.width, (a - 1.9, 0)), GLASS)


@dataclass(frozen=True)
class Tree:
    """A tree: a crown of several lobes, lighter towards the sun; trunk and radius in pixels, height in metres."""

    x: float
    y: float
    radius: float
    height: float
    colour: Colour

    def oriented_box(self) -> Points:
        """Return the square round the crown: ``(4, 2)`` pixels."""
        r = self.radius
        return np.array([(self.x - r, self.y - r), (self.x + r, self.y - r), (self.x + r, self.y + r),
                         (self.x - r, self.y + r)])  # fmt: skip

    def cast(self, canvas: Canvas, sun: Sun) -> None:
        """Draw the shadow on whatever is below."""
        for share in (0.55, 0.8):
            at = sun.throw(np.array([self.x, self.y]), self.height * share)
            canvas.darken_disc(at, self.radius * (1.15 - 0.3 * share), 225)

    def draw(self, canvas: Canvas, sun: Sun, rng: np.random.Generator) -> None:
        """Draw the crown."""
        centre = np.array([self.x, self.y])
        count = 5 + int(self.radius > 5) * 3
        turns = rng.uniform(0, 2 * math.pi) + np.arange(count) * 2 * math.pi / count
        rim = centre + np.stack([np.cos(turns), np.sin(turns)], 1) * self.radius * rng.uniform(0.5, 0.66, (count, 1))
        sizes = self.radius * rng.uniform(0.34, 0.46, count)
        canvas.darken_disc(centre, self.radius * 0.8, 0)
        canvas.disc(centre, self.radius * 0.72, shade(self.colour, 0.78), TREE)
        for at, size in zip(rim, sizes, strict=True):
            canvas.darken_disc(at, size, 0)
            canvas.disc(at, size, shade(self.colour, 0.74), TREE)
        towards = np.array([sun.x, sun.y]) * self.radius
        for at, size in zip(rim, sizes, strict=True):
            canvas.disc(at * 0.72 + centre * 0.28 + towards * 0.16, size * 0.72, shade(self.colour, 1.02))
        canvas.disc(centre + towards * 0.3, self.radius * 0.34, shade(self.colour, 1.25))
