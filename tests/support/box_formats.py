"""Annotations in every format that can be read, written from the same objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import geopandas
import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from shapely import Polygon

from factories import make_raster
from geodistill.label.boxes import Annotations, rotated

NAN, INF = float("nan"), float("inf")


@lru_cache
def _about_origin(width: float, height: float, angle: float) -> NDArray[np.float64]:
    return rotated(0.0, 0.0, width, height, angle)


@dataclass(frozen=True)
class Thing:
    """An object on an image: centre, sides in pixels, angle in radians."""

    x: float
    y: float
    w: float
    h: float
    angle: float = 0.0
    category: str = "ship"
    difficult: int = 0

    @property
    def corners(self) -> NDArray[np.float64]:
        return np.array((self.x, self.y)) + _about_origin(self.w, self.h, self.angle)

    @property
    def edges(self) -> list[float]:
        return [*self.corners.min(axis=0).tolist(), *self.corners.max(axis=0).tolist()]


@dataclass
class Format:
    """How a format is written, and what it can say.

    Attributes:
        name: As `read_boxes` knows it.
        oriented: Whether it holds oriented boxes.
        difficult: Whether it holds the mark of difficult objects.
        suffix: Of annotation files; one an image, unless ``single``.
        single: Whether one file holds all images.
        broken: A file content that is malformed, and where the message must say so.
        options: Arguments of `read_boxes` that the format needs.
        bounded: Whether what lies on no image is told as unmatched instead of dropped.
    """

    name: str
    suffix: str
    oriented: bool = True
    difficult: bool = True
    single: bool = False
    broken: Sequence[tuple[str, str]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    bounded: bool = False

    @property
    def xml(self) -> bool:
        return self.suffix == ".xml"

    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        raise NotImplementedError

    def write(
        self, folder: Path, images: Mapping[str, tuple[int, int]], things: Mapping[str, Sequence[Thing]]
    ) -> tuple[Path, Path]:
        """Write images (name -> width, height) and the objects of those that have any entry; give both folders."""
        boxes, pictures = folder / "boxes", folder / "images"
        boxes.mkdir(parents=True)
        for at, (stem, (width, height)) in enumerate(images.items()):
            place = from_origin(500_000 + 5_000 * at, 40_000, 0.5, 0.5)
            make_raster(pictures / f"{stem}.tif", pixels=np.zeros((1, height, width), np.uint8), transform=place)
        for stem, found in things.items():
            text = self.text(stem, found, images.get(stem, (100, 100)))
            (boxes / f"{stem}{self.suffix}").write_text(text, encoding="utf-8")
        return boxes, pictures


class Dota(Format):
    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        lines = ["imagesource:GoogleEarth", "gsd:null"] if len(things) % 2 else []
        for thing in things:
            lines.append(f"{' '.join(map(repr, thing.corners.ravel().tolist()))} {thing.category} {thing.difficult}")
        return "\n".join([*lines, ""])


class Voc(Format):
    style = "edges"
    tag = "bndbox"

    def box(self, thing: Thing) -> str:
        if self.style == "edges":
            parts = zip(("xmin", "ymin", "xmax", "ymax"), thing.edges, strict=True)
        elif self.style == "corners":
            corners = ("left_top", "right_top", "right_bottom", "left_bottom")
            names = [f"{axis}_{corner}" for corner in corners for axis in "xy"]
            parts = zip(names, thing.corners.ravel().tolist(), strict=True)
        else:
            values = (thing.x, thing.y, thing.w, thing.h, thing.angle)
            parts = zip(("cx", "cy", "w", "h", "angle"), values, strict=True)
        return "".join(f"<{name}>{value!r}</{name}>" for name, value in parts)

    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        objects = "".join(
            f"<object>\n<name> {escape(t.category)} </name><difficult>{t.difficult}</difficult>"
            f"<{self.tag}>{self.box(t)}</{self.tag}>\n</object>\n"
            for t in things
        )
        return f"<annotation>\n<filename>{escape(stem)}.tif</filename>\n{objects}</annotation>\n"


class VocOriented(Voc):
    style, tag = "corners", "robndbox"


class VocEdgesUnderOtherTag(Voc):
    tag = "robndbox"


class VocAngle(Voc):
    style, tag = "angle", "robndbox"


class Fair1m(Format):
    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        objects = ""
        for t in things:
            ring = [*t.corners.tolist(), t.corners[0].tolist()]
            points = "".join(f"<point>{x!r},{y!r}</point>" for x, y in ring)
            name = f"<possibleresult><name>{escape(t.category.replace('-', ' '))}</name></possibleresult>"
            objects += f"<object><coordinate>pixel</coordinate>{name}<points>{points}</points></object>\n"
        return (
            f"<annotation><source><filename>{escape(stem)}.tif</filename></source>\n"
            f"<objects>{objects}</objects></annotation>"
        )


class Hrsc(Format):
    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        objects = ""
        for t in things:
            left, top, right, bottom = t.edges
            values = {
                "Class_ID": escape(t.category),
                "difficult": t.difficult,
                **dict(zip(("box_xmin", "box_ymin", "box_xmax", "box_ymax"), (left, top, right, bottom), strict=True)),
                **{"mbox_cx": t.x, "mbox_cy": t.y, "mbox_w": t.w, "mbox_h": t.h, "mbox_ang": t.angle},
                "seg_color": "",
            }
            parts = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
            objects += f"<HRSC_Object>{parts}</HRSC_Object>\n"
        return (
            f"<HRSC_Image><Img_FileName>{escape(stem)}</Img_FileName>\n"
            f"<HRSC_Objects>{objects}</HRSC_Objects></HRSC_Image>"
        )


class Yolo(Format):
    def text(self, stem: str, things: Sequence[Thing], size: tuple[int, int]) -> str:
        lines = []
        for t in things:
            shares = [t.x / size[0], t.y / size[1], t.w / size[0], t.h / size[1]]
            if self.oriented:
                shares = (t.corners / size).ravel().tolist()
            lines.append(" ".join([str(self.classes.index(t.category)), *map(repr, shares)]))
        return "\n".join([*lines, ""])

    classes = ("ship", "plane", "Häfen", "unheard-of")


class Single(Format):
    def write(
        self, folder: Path, images: Mapping[str, tuple[int, int]], things: Mapping[str, Sequence[Thing]]
    ) -> tuple[Path, Path]:
        boxes, pictures = super().write(folder, images, {})
        self.write_all(boxes / f"all{self.suffix}", images, things)
        return boxes, pictures

    def write_all(
        self, file: Path, images: Mapping[str, tuple[int, int]], things: Mapping[str, Sequence[Thing]]
    ) -> None:
        raise NotImplementedError


class Coco(Single):
    def write_all(
        self, file: Path, images: Mapping[str, tuple[int, int]], things: Mapping[str, Sequence[Thing]]
    ) -> None:
        names = {t.category for found in things.values() for t in found} - {"unheard-of"}
        categories = {name: at for at, name in enumerate(sorted(names), 3)}
        listed, annotations = [], []
        for at, (stem, found) in enumerate(things.items()):
            listed.append({"id": at, "file_name": f"{stem}.tif"})
            for t in found:
                left, top, right, bottom = t.edges
                bbox = [left, top, right - left, bottom - top]
                annotations.append({"image_id": at, "category_id": categories.get(t.category, 99), "bbox": bbox})
        named = [{"id": at, "name": name} for name, at in categories.items()]
        content = {"images": listed, "annotations": annotations, "categories": named[::-1]}
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


class Geo(Single):
    crs = "EPSG:4326"
    driver = "GeoJSON"

    def write_all(
        self, file: Path, images: Mapping[str, tuple[int, int]], things: Mapping[str, Sequence[Thing]]
    ) -> None:
        rows: list[dict[str, Any]] = []
        for stem, found in things.items():
            place = file.parents[1] / "images" / f"{stem}.tif"
            if not place.exists():
                place = next((file.parents[1] / "images").iterdir())
            with rasterio.open(place) as raster:
                transform = raster.transform
                to_crs = pyproj.Transformer.from_crs(raster.crs.to_wkt(), self.crs, always_xy=True)
            offset = 0 if (file.parents[1] / "images" / f"{stem}.tif").exists() else -1e5  # on no image
            for t in found:
                corners = [to_crs.transform(*(transform @ (x + offset, y))) for x, y in t.corners]
                rows.append({"category": t.category, "difficult": t.difficult, "geometry": Polygon(corners)})
        table = geopandas.GeoDataFrame(
            rows, columns=["category", "difficult", "geometry"], geometry="geometry", crs=self.crs
        )
        options = {"COORDINATE_PRECISION": 15} if self.driver == "GeoJSON" else {}
        table.to_file(file, driver=self.driver, **options)


class GeoPackage(Geo):
    crs = "EPSG:3857"
    driver = "GPKG"


_BROKEN_XML = ("<annotation>\n<object>\n</annotation>", r":3 is malformed")
_BAD_BBOX = '{"image_id": 0, "category_id": 1, "bbox": [1, 2, "x", 4]}'
_BROKEN_JSON = [
    ('{"images": [],\n"annotations": [}', r"\.json is not JSON .*line 2"),
    ('{"images": []}', "no COCO file"),
    ('{"images": [{"id": 0}], "annotations": []}', r"\.json:image 1; expected an image with"),
    ('{"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}]}', r"\.json:object 1; expected an annotation"),
    (
        '{"images": [{"id": 0, "file_name": "a.tif"}], "annotations": [' + _BAD_BBOX + "]}",
        r"\.json:object 1: bbox",
    ),
]
_BROKEN_DOTA = [
    ("1 2 3 4 5 6 7 8 ship 0\r\n1 2 3 4 5 6 7 ship 0\r\n", r"a\.txt:2: 9 fields|a\.txt:2: '1 2 3 4 5 6 7 ship'"),
    ("gsd:1\n\n1 2 3 4 5 6 x 8 ship 0", r"a\.txt:3: '1 2 3 4 5 6 x 8'"),
    ("1 2 3 4 5 6 7 8 ship 5", r"a\.txt:1: difficult '5'"),
    ("1 2 3 4", r"a\.txt:1: 4 fields"),
]
_BROKEN_YOLO = [
    ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1", r"a\.txt:2: 4 fields"),
    ("0 0.5 0.5 0.1 0.1\n\nship 0.5 0.5 0.1 0.1", r"a\.txt:3: class 'ship'"),
    ("0 0.5 half 0.1 0.1", r"a\.txt:1: '0.5 half 0.1 0.1'"),
    ("0 120 130 20 20", r"a\.txt:1: .* are pixels"),
]
_BROKEN_VOC = [
    _BROKEN_XML,
    ("<annotation><object><name>a</name></object></annotation>", r"a\.xml:object 1 has no box"),
    (
        "<annotation><object><name>a</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        r"object 1: '1 \(nothing\)",
    ),
    ("<HRSC_Image/>", "root <HRSC_Image>"),
]
_BROKEN_FAIR1M = [
    _BROKEN_XML,
    ("<annotation/>", "has no <objects>"),
    (
        "<a><objects><object><points><point>1,2</point></points></object></objects></a>",
        r"a\.xml:object 1: points '1,2'",
    ),
]
_BROKEN_HRSC = [
    _BROKEN_XML,
    ("<annotation/>", "root <annotation>"),
    ("<HRSC_Image><HRSC_Object><mbox_cx>3</mbox_cx></HRSC_Object></HRSC_Image>", r"a\.xml:object 1: '3 \(nothing\)"),
]
_BROKEN_GEO = [
    ('{"type": "FeatureCollection",\n"features": [\n}', r"\.geojson is not JSON .*line 3"),
    (
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"category": "a"},'
        ' "geometry": {"type": "Point", "coordinates": [1, 2]}}]}',
        r"\.geojson:object 1 is a Point",
    ),
]

FORMATS: dict[str, Format] = {
    "dota": Dota("dota", ".txt", broken=_BROKEN_DOTA),
    "voc": Voc("voc", ".xml", oriented=False, broken=_BROKEN_VOC),
    "dior-oriented": VocOriented("voc", ".xml", broken=_BROKEN_VOC),
    "dior-edges": VocEdgesUnderOtherTag("voc", ".xml", oriented=False, broken=_BROKEN_VOC),
    "voc-angle": VocAngle("voc", ".xml", broken=_BROKEN_VOC),
    "fair1m": Fair1m("fair1m", ".xml", difficult=False, broken=_BROKEN_FAIR1M),
    "hrsc": Hrsc("hrsc", ".xml", broken=_BROKEN_HRSC, options={"category_field": "Class_ID"}),
    "coco": Coco("coco", ".json", oriented=False, difficult=False, single=True, broken=_BROKEN_JSON),
    "yolo": Yolo("yolo", ".txt", oriented=False, difficult=False, broken=_BROKEN_YOLO),
    "yolo-oriented": Yolo("yolo", ".txt", difficult=False, broken=_BROKEN_YOLO),
    "geojson": Geo("geojson", ".geojson", single=True, broken=_BROKEN_GEO, bounded=True),
    "geopackage": GeoPackage("geojson", ".gpkg", single=True, broken=[("no file", "cannot be read")], bounded=True),
}


def objects_told(found: Annotations) -> int:
    """Count every object that a reader accounts for."""
    return sum(len(image.boxes) + len(image.dropped) for image in found.images)
