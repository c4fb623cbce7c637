"""What a user can ask of `predict`, checked before any work begins; every default and list of choices stands here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Literal, TypedDict, get_args

from geodistill.backends import BACKENDS as KNOWN_BACKENDS
from geodistill.backends import PRECISIONS as KNOWN_PRECISIONS
from geodistill.description import COVERAGES
from geodistill.errors import RecipeError, check_name
from geodistill.inference.layers import LAYERS
from geodistill.spec import check_scales

BACKENDS = ("auto", *KNOWN_BACKENDS)
PRECISIONS = ("auto", *KNOWN_PRECISIONS)

BLENDS = ("cosine", "none")
"""How overlapping windows become one map: see `axis_weights`."""

AVERAGES = ("none", "flips", "d4")
"""What test-time averaging averages over: the image as it is, 4 mirrors, or 8 mirrors and turns."""

SAMPLES = ("uint8", "float16", "float32")
"""Sample types of probabilities. Float16 is float32 that float16 can hold, which compresses better."""

CONFIDENCES = ("probability", "margin", "entropy")
"""What confidence is, 1 where the network is sure: see `confidence_of`."""

VECTOR_FORMATS = {"gpkg": "GPKG", "parquet": "Parquet", "fgb": "FlatGeobuf", "geojson": "GeoJSON"}
"""Formats of polygons by suffix, with GDAL's names."""

TILE_SETS = ("pmtiles", "mbtiles")
"""Files of map tiles by suffix."""

MAX_OVERLAP = 0.75
"""Beyond it a scene costs more than sixteen times its pixels."""

Gsd = Literal["auto", "native", "model"]
GSDS: tuple[Gsd, ...] = get_args(Gsd)
"""At what ground sampling distance a scene is mapped: at its own (``native``), at the model's, or (``auto``) at its own
unless that differs from the model's by more than `FAR`."""

FAR = 1.5
"""The factor beyond which a scene's ground sampling distance is not the model's."""

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True, kw_only=True)
class SlidingOptions:
    """How windows slide over a scene, and what is made of them.

    Attributes:
        overlap: Smallest share of a window that its neighbour covers too, 0 to 0.75.
        blend: ``cosine`` (of probabilities) or ``none`` (each pixel from the window whose centre is nearest).
        tta: Average over ``none`` (the image as it is), ``flips`` (4 mirrors) or ``d4`` (8 mirrors and turns).
        scales: Factors of the windows' sides that probabilities are averaged over; the model's own where not given.
        confidence: Make a layer of how sure the network is of the chosen class, uint8.
        confidence_as: What that is, among `CONFIDENCES`.
        probabilities: Sample type of a layer with one band per class, among `SAMPLES`; ``None`` for no such layer.
        class_sets: Make a layer of the classes that each pixel may have, which hold the true one of this share of the
            pixels; one of the coverages that the model states, see `Segmenter.class_sets`.
        readers: Threads that read at once; by default 1, or 4 for a source on the network.
        keep_going: Make recorded holes of what cannot be read.

    Raises:
        RecipeError: A number is out of range.
        UnknownNameError: A name is not among the choices.
        ArtifactError: A scale is out of range.
    """

    overlap: float = 0.25
    blend: str = "cosine"
    tta: str = "none"
    scales: tuple[float, ...] | None = None
    confidence: bool = False
    confidence_as: str = "probability"
    probabilities: str | None = None
    class_sets: float | None = None
    readers: int | None = None
    keep_going: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            if isinstance(value := getattr(self, each.name), list):  # as Python writes several
                object.__setattr__(self, each.name, tuple(value))
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise RecipeError(f"overlap {self.overlap}", f"a share from 0 to {MAX_OVERLAP}")
        check_name("blending", self.blend, BLENDS)
        check_name("test-time averaging", self.tta, AVERAGES)
        check_name("kind of confidence", self.confidence_as, CONFIDENCES)
        if self.scales is not None:
            check_scales(self.scales, "a prediction")
        if self.probabilities is not None:
            check_name("sample type of probabilities", self.probabilities, SAMPLES)
        if self.class_sets is not None and self.class_sets not in COVERAGES:
            raise RecipeError(f"class sets of coverage {self.class_sets}", f"one of {', '.join(map(str, COVERAGES))}")
        if self.readers is not None and self.readers < 1:
            raise RecipeError(f"{self.readers} reading threads", "at least 1")

    @property
    def with_confidence(self) -> bool:
        """Whether the layer of confidence is made."""
        return self.confidence


@dataclass(frozen=True, kw_only=True)
class PredictOptions(SlidingOptions):
    """How maps are made: what the user asked for, beside `SlidingOptions`.

    Attributes:
        batch: Batch size (windows per forward pass); ``auto`` measures which is fastest, ``None`` takes what suits the
            device.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...
        backend: What runs the network, among `BACKENDS`; ``auto`` takes the fastest that gives torch's classes.
        precision: Arithmetic of the network, among `PRECISIONS`; ``auto`` takes, with the backend, the fastest that
            gives the classes of fp32, but for one pixel in a thousand, and fp32 where probabilities are written.
        compile: Compile the network with torch first.
        bands: Bands of the scenes to use, each by number from 1 or by name; by default by the model's names where
            the scene has them, else all in their order.
        nodata: Value that means no data, for scenes that do not say so themselves.
        gsd: Ground sampling distance of the maps, among `GSDS`: that of the model, of the scene (``native``), or
            ``auto``, that of the scene unless it differs from the model's by more than a factor of 1.5.
        max_memory: Most bytes that a scene may take beside the network; wider ones are cut in column blocks.
        resume: Continue interrupted maps and leave finished ones as they are.
        blocks: In how many blocks of rows each scene is cut for several workers; by default as many as keep all
            workers busy.
        stac: Write a STAC item beside each map.
        lonlat: Longitude and latitude of the scenes in degrees (MetaSegNet only, as the three that follow).
        zone: A climate zone's code.
        region: A place of a benchmark set, or ``file`` where the file's name is one.
        date: Day of acquisition, ``YYYY-MM-DD``.
        vector: Write polygons beside each map, in one of `VECTOR_FORMATS`, and the map of confidence that they take
            theirs from.
        min_area: Leave smaller polygons out: square metres, or pixels where the map is not georeferenced.
        simplify: Simplification tolerance of polygons in pixels (topology-preserving).
        objects: Names of classes whose objects are written one by one beside the polygons; see `write_objects`.
        right_angles: Names of those whose outlines get right angles.
        local_only: Refuse scenes that are read over the network, or from outside the folder of what names them.
        aoi: A vector file: only what lies in its polygons is mapped.
        preview: Write a picture of each map.
        web_tiles: Write each map's tiles in Web Mercator, in one of `TILE_SETS`, and vector tiles of its polygons and
            objects where they are written.
        unlike: Write where each scene lies outside what the model was trained on.
        zoom: Zoom level at which web maps (XYZ, WMS, WMTS) are read; they ask for ``aoi`` too.

    Raises:
        RecipeError: A number is out of range.
        UnknownNameError: A name is not among the choices.
    """

    batch: int | Literal["auto"] | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    compile: bool = False
    bands: tuple[str, ...] | None = None
    nodata: float | None = None
    gsd: Gsd = "auto"
    max_memory: int | None = None
    resume: bool = False
    blocks: int | None = None
    stac: bool = False
    lonlat: tuple[float, float] | None = None
    zone: str | None = None
    region: str | None = None
    date: str | None = None
    vector: str | None = None
    min_area: float = 0.0
    simplify: float = 0.0
    objects: tuple[str, ...] = ()
    right_angles: tuple[str, ...] = ()
    local_only: bool = False
    aoi: str | None = None
    zoom: int | None = None
    preview: bool = False
    web_tiles: str | None = None
    unlike: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("backend", self.backend, BACKENDS)
        check_name("precision", self.precision, PRECISIONS)
        check_name("ground sampling distance", self.gsd, GSDS)
        if self.web_tiles is not None:
            check_name("tile set", self.web_tiles, TILE_SETS)
        if isinstance(self.batch, int) and self.batch < 1:
            raise RecipeError(f"batch size {self.batch}", "at least 1")
        if self.blocks is not None and self.blocks < 1:
            raise RecipeError(f"{self.blocks} blocks", "at least 1")
        if self.max_memory is not None and self.max_memory < 1:
            raise RecipeError(f"--max-memory {self.max_memory}", "a number of bytes above 0, such as 2GB")
        check_vector(self.vector, self.min_area, self.simplify)
        polygons = {"objects": self.objects, "min_area": self.min_area, "simplify": self.simplify}
        idle = [name for name, value in polygons.items() if value]
        if idle and self.vector is None:
            raise RecipeError(f"{', '.join(idle)} without a vector format", f"one of {', '.join(VECTOR_FORMATS)}")
        if self.right_angles and not self.objects:
            raise RecipeError("right angles without objects", "classes whose objects are written", "name them")

    @property
    def with_confidence(self) -> bool:
        """Whether the map of confidence is made: where it is asked for, and where polygons take theirs from it."""
        return self.confidence or self.vector is not None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers asked for, in the order of `LAYERS`; ``distance`` takes a model with a distance head."""
        return tuple(name for name, kind in LAYERS.items() if kind.option is None or getattr(self, kind.option))


class PredictChoices(TypedDict, total=False):
    """The fields of `PredictOptions` as keyword arguments."""

    overlap: float
    blend: str
    tta: str
    scales: tuple[float, ...] | None
    confidence: bool
    confidence_as: str
    probabilities: str | None
    class_sets: float | None
    readers: int | None
    keep_going: bool
    batch: int | Literal["auto"] | None
    device: str
    backend: str
    precision: str
    compile: bool
    bands: tuple[str, ...] | None
    nodata: float | None
    gsd: Gsd
    max_memory: int | None
    resume: bool
    blocks: int | None
    stac: bool
    lonlat: tuple[float, float] | None
    zone: str | None
    region: str | None
    date: str | None
    vector: str | None
    min_area: float
    simplify: float
    objects: tuple[str, ...]
    right_angles: tuple[str, ...]
    local_only: bool
    aoi: str | None
    zoom: int | None
    preview: bool
    web_tiles: str | None
    unlike: bool


def check_vector(vector: str | None, min_area: float, simplify: float) -> None:
    """Refuse what no polygons can be written by.

    Raises:
        UnknownNameError: There is no such format.
        RecipeError: A number is negative, or none.
    """
    if vector is not None:
        check_name("vector format", vector, VECTOR_FORMATS)
    if not (min_area >= 0 and math.isfinite(simplify) and simplify >= 0):
        raise RecipeError(f"min area {min_area}, simplify {simplify}", "numbers of at least 0")


def parse_bytes(text: str) -> int:
    """Read ``2GB``, ``500M`` or a number of bytes.

    Raises:
        RecipeError: It is not such a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if not match:
        raise RecipeError(f"size {text!r}", "a size such as 2GB or 500M")
    return int(float(match[1]) * _UNITS[match[2].lower()])


@dataclass(frozen=True)
class LocationHint:
    """What the user says of where and when scenes were taken; what is not said comes from the files.

    Attributes:
        lonlat: Longitude and latitude in degrees.
        zone: A climate zone's code.
        region: A place of a benchmark set, or ``file`` where the file's name is one.
        date: ``YYYY-MM-DD``.
    """

    lonlat: tuple[float, float] | None = None
    zone: str | None = None
    region: str | None = None
    date: str | None = None

    def refuse_for_images_alone(self) -> None:
        """Refuse whatever is said, for a model that takes images alone.

        Raises:
            RecipeError: Something is.
        """
        said = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        if said:
            raise RecipeError(f"{', '.join(said)} for a model that takes images alone", "a MetaSegNet", "leave it out")

    @property
    def has_place(self) -> bool:
        """Whether it says where, and not only when."""
        return bool(self.lonlat or self.zone or self.region)
