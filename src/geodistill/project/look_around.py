"""What a folder holds that a project can be made of: images, masks, boxes, scenes, models."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geodistill.data.layout import IMAGE_FOLDERS, MASK_ENDINGS, MASK_FOLDERS, find_labelled
from geodistill.data.splits import source_split
from geodistill.description import DESCRIPTION
from geodistill.errors import DataError
from geodistill.files import files_below
from geodistill.label.formats.vector_files import SUFFIXES, TEXT_SUFFIXES, usual_column
from geodistill.label.formats.yolo_set import NAME_FILES
from geodistill.project.fingerprints import MEMO, walk_links
from geodistill.project.stage_records import FOLDER
from geodistill.raster import IMAGE_SUFFIXES, Raster

SCENE_PIXELS = 2 << 20
"""Pixels from which an image is taken for a scene to be mapped and not for one to learn from."""

FEWEST = 3
"""Images with masks that a folder has at least, one for each split, to be learnt from."""

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")

_VECTORS = tuple(suffix for suffix in SUFFIXES if suffix not in TEXT_SUFFIXES)

_NO_LABELS = ({"pixels", "area_m2"}, {"stac_version"}, {"rank", "uncertainty", "weak"})
"""Columns of polygons that are no labels: made of a map, the outlines of images, or tiles to label next."""

_BEGINNING = 1 << 16
_LOOKED_AT = 50
"""Files of a folder that are opened at most."""


@dataclass(frozen=True)
class Annotation:
    """Boxes: their file or folder, their format, and the folder of their images.

    Attributes:
        splits: Those that folders of the images are called by, where these are one set.
    """

    boxes: Path
    format: str
    images: Path
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskedImages:
    """Images with masks.

    Attributes:
        images: Their folder.
        masks: That of the masks; ``None`` where these lie among or beside the images below it.
        folders: The folders below `images` that hold an image with a mask.
        count: Images with masks.
    """

    images: Path
    masks: Path | None
    folders: frozenset[Path]
    count: int


@dataclass(frozen=True)
class FolderContents:
    """What was found.

    Attributes:
        masked: Images with masks.
        annotations: Boxes with their images, those of most images first; those of val or test behind them, and last
            polygons that are no text.
        lone: Vector files of one polygon that were passed over: its text may be a class or the name of an area.
        legends: Legend files.
        images: Folders of images without masks and without boxes; where other images lie below, files.
        scenes: Images from `SCENE_PIXELS`.
        models: Directories of Segmenters.
        weights: Other files of weights.
    """

    masked: tuple[MaskedImages, ...]
    annotations: tuple[Annotation, ...]
    lone: tuple[Path, ...]
    legends: tuple[Path, ...]
    images: tuple[Path, ...]
    scenes: tuple[Path, ...]
    models: tuple[Path, ...]
    weights: tuple[Path, ...]


def look_around(root: Path) -> FolderContents:
    """Return what a folder and those within hold; of each folder of images the first are opened for their size.

    Raises:
        DataError: There is no such folder, or nothing in it that a project can be made of.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}", "a folder with images")
    folders = dict(walk_links(root))
    models = [folder for folder, files in folders.items() if DESCRIPTION in files]
    results = [*models, *(folder for folder in folders if (folder / FOLDER / MEMO).is_file())]
    kept = {f: names for f, names in folders.items() if not any(f.is_relative_to(place) for place in results)}
    rasters = {folder: images for folder, names in kept.items() if (images := _images(names))}
    labelled = list(_masked(kept))
    masked = [each for each in labelled if each.count >= FEWEST]
    masks = {each.masks for each in labelled}
    places = {folder: names for folder, names in rasters.items() if masks.isdisjoint((folder, *folder.parents))}
    scenes = [file for folder, names in places.items() for file in _scenes(folder, names)]
    large = set(scenes)
    above = {parent for folder, names in folders.items() if _images(names) for parent in folder.parents}
    counts = {folder: sum(folder / name not in large for name in names) for folder, names in places.items()}
    below = _images_below(counts)
    vectors = {file: _layer(file) for folder, names in kept.items() for file in _vectors(folder, names)}
    classed = {file for file, layer in vectors.items() if _holds_classes(*layer)}
    parts = [each for folder, names in kept.items() for each in _annotations(folder, names, classed, below)]
    annotations = _whole_sets(parts, root, below)
    # Polygons may be anything, boxes are labels.
    loose = {each for each in annotations if each.boxes.suffix.lower() in _VECTORS}
    sizes = {each: sum(below[each.images].values()) for each in annotations}
    # Of splits that are no set, that of train is learnt from.
    held_out = {each for each in annotations if _split_of(each.boxes, root) in ("val", "test")}
    annotations.sort(key=lambda each: (each in loose, each in held_out, -sizes[each]))
    # Images with boxes are looked for in subfolders too, so what lies there is no other set.
    used = {each.images for each in annotations}
    scanned = frozenset[Path]().union(*(each.folders for each in masked))
    small = [f for f, n in counts.items() if n and f not in scanned and used.isdisjoint((f, *f.parents))]
    contents = FolderContents(
        masked=tuple(masked),
        annotations=tuple(annotations),
        lone=tuple(f for f, of in vectors.items() if of[2] == 1 and f not in classed and _holds_classes(*of[:2], 2)),
        legends=tuple(f / n for f, names in kept.items() for n in names if n in ("legend.yaml", "legend.json")),
        images=tuple(place for f in small for place in _unlabelled(f, rasters[f], f in above, large)),
        scenes=tuple(file for file in scenes if not any(file.stem.endswith(end) for end in MASK_ENDINGS if end)),
        models=tuple(models),
        weights=tuple(f / n for f, names in kept.items() for n in names if n.lower().endswith(WEIGHTS)),
    )
    if not (contents.masked or contents.annotations or contents.images or contents.scenes):
        raise DataError(f"no image in {root}", f"files {', '.join(IMAGE_SUFFIXES)}")
    return contents


def _images(names: Sequence[str]) -> list[str]:
    return [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def _images_below(counts: Mapping[Path, int]) -> dict[Path, dict[Path, int]]:
    """Return for each folder those with images in it, itself among them; looked up, since trees may be of thousands."""
    below: dict[Path, dict[Path, int]] = {}
    for folder, count in counts.items():
        for place in (folder, *folder.parents):
            below.setdefault(place, {})[folder] = count
    return below


def _masked(folders: Iterable[Path]) -> Iterator[MaskedImages]:
    """Yield what `data scan` would take of each folder, those above first; no folder is taken twice."""
    named = {Path(os.path.abspath(folder)): folder for folder in folders}  # noqa: PTH100 - links stay
    taken: set[Path] = set()
    for folder in named:
        for images, masks, files in [] if folder in taken else find_labelled(folder):
            holding = {file.parent for file in files}
            # What lies outside the folders, such as in results, is not taken; two sets of masks are no images.
            places = holding if masks is None else holding | {masks}
            both_masks = masks is not None and images.name.lower() in MASK_FOLDERS
            if not files or both_masks or not taken.isdisjoint(places) or not places <= named.keys():
                continue
            taken |= places
            place = named[images if masks else Path(os.path.commonpath(holding))]
            below = frozenset(named[each] for each in holding)
            yield MaskedImages(place, None if masks is None else named[masks], below, len(files))


def _scenes(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names[:_LOOKED_AT]:
        try:
            with Raster(folder / name) as raster:
                if raster.grid.height * raster.grid.width >= SCENE_PIXELS:
                    yield folder / name
        except DataError:
            continue  # 'data check' will name it


def _unlabelled(folder: Path, names: Sequence[str], others_below: bool, scenes: Collection[Path]) -> list[Path]:
    """Return a folder, or its files where other images lie below it: `scan` would take those too, labelled or not."""
    if not others_below:
        return [folder]
    return [folder / name for name in names if folder / name not in scenes]


def _vectors(folder: Path, names: Sequence[str]) -> list[Path]:
    return [folder / name for name in names if name.lower().endswith(_VECTORS)][:_LOOKED_AT]


def _annotations(
    folder: Path, names: Sequence[str], classed: Collection[Path], below: Mapping[Path, Mapping[Path, int]]
) -> Iterator[Annotation]:
    """Yield the boxes that stand in a folder: a file of COCO or of polygons, or a folder of one file per image."""
    kinds: list[tuple[Path, str]] = []
    for name in names:
        if name.lower().endswith(TEXT_SUFFIXES) and (kind := _format_of(folder / name)):
            kinds.append((folder / name, kind))
    kinds += [(file, "geojson") for file in _vectors(folder, names) if file in classed]
    for suffix in (".xml", ".txt"):
        files = [name for name in names if name.lower().endswith(suffix) and name not in NAME_FILES]
        files = [name for name in files if "readme" not in name.lower()]
        if kind := next(filter(None, (_format_of(folder / name) for name in files[:_LOOKED_AT])), ""):
            kinds.append((folder, kind))
    nearest: Mapping[Path, int] = next((below[place] for place in (folder, *folder.parents) if place in below), {})
    for place, kind in kinds if nearest else ():
        nearness = {each: _nearness(place, each, each == folder, count) for each, count in nearest.items()}
        yield Annotation(place, kind, max(nearest, key=nearness.__getitem__))


def _whole_sets(parts: Sequence[Annotation], root: Path, below: Mapping[Path, Collection[Path]]) -> list[Annotation]:
    """Return annotations with those of train, val and test as one, where nothing else lies in the folders of all."""
    sets: dict[tuple[str, Path], list[Annotation]] = {}
    for part in parts:
        place = part.boxes if part.boxes.is_dir() else part.boxes.parent
        names = place.relative_to(root).parts
        above = next((at for at, name in enumerate(names) if source_split(f"{name}/")), len(names))
        sets.setdefault((part.format, root.joinpath(*names[:above])), []).append(part)
    annotations: list[Annotation] = []
    for (kind, boxes), members in sets.items():
        images = Path(os.path.commonpath([each.images for each in members]))
        splits = [_split_of(each.images, images) for each in members]
        others = set(below[images]) - {each.images for each in members}
        read = set() if members[0].boxes.is_dir() else set(files_below(boxes, (members[0].boxes.suffix.lower(),)))
        whole = all(splits) and len(set(splits)) == len(members) > 1 and not others
        if whole and kind != "geojson" and read <= {each.boxes for each in members}:
            members = [Annotation(boxes, kind, images, tuple(sorted(splits)))]
        annotations += members
    return annotations


@functools.lru_cache(1 << 16)
def _split_of(place: Path, above: Path) -> str:
    """Return the split that the names below a folder say; kept, since each of many boxes asks it of all images."""
    return source_split(f"{place.relative_to(above).as_posix()}/")


def _nearness(boxes: Path, images: Path, among: bool, small: int) -> tuple[bool, bool, bool, bool, int]:
    """Return how near a folder of images is to boxes, nearest largest, by the number of those that are no scenes.

    First one name of a split counts, then whether there are others than scenes, then a usual name, then whether the
    boxes lie among them.
    """
    shared = Path(os.path.commonpath([boxes, images]))
    same_split = _split_of(boxes, shared) == _split_of(images, shared) != ""
    usual = images.name.lower() in IMAGE_FOLDERS
    return same_split, small > 0, usual, among, small


def _format_of(file: Path) -> str:
    """Return the format of annotations by how a file begins; empty where it holds none."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_BEGINNING).decode("utf-8", "replace")
            end = opened.read() if file.suffix.lower() == ".json" and file.stat().st_size < 64 << 20 else b""
    except OSError:
        return ""
    if file.suffix.lower() == ".txt":
        return _format_of_lines(text)
    if file.suffix.lower() == ".xml":
        hrsc, fair1m = "<HRSC" in text, "<points>" in text
        return "hrsc" if hrsc else "fair1m" if fair1m else "voc" if "<bndbox>" in text else ""
    if '"FeatureCollection"' in text:
        return "" if any(all(f'"{name}"' in text for name in names) for names in _NO_LABELS) else "geojson"
    whole = text + end.decode("utf-8", "replace")
    return "coco" if all(f'"{key}"' in whole for key in ("images", "annotations", "categories")) else ""


def _holds_classes(kind: str, texts: Mapping[str, bool], count: int) -> bool:
    """Whether a vector file holds one layer of polygons, with a column that may be their class: what `_layer` returns.

    A lone polygon with any text may as well be a named area, and those with a location the outlines of images.
    """
    described = count > 1 and "location" not in texts and any(texts.values())
    classed = described or usual_column(list(texts)) is not None
    return ("Polygon" in kind or kind == "Unknown") and classed and not any(texts.keys() >= each for each in _NO_LABELS)


def class_columns(file: Path) -> list[str] | None:
    """Return the columns of text of a vector file, of which one may be the class.

    ``None`` where one has a usual name, and for a file that cannot be read.
    """
    kind, texts, _ = _layer(file)
    return [name for name, text in texts.items() if text] if kind and usual_column(list(texts)) is None else None


def _layer(file: Path) -> tuple[str, dict[str, bool], int]:
    """Return the kind of geometry of a file's only layer, of each column whether it holds text, and the features.

    A file that cannot be read or has several layers has no kind and no column.
    """
    import pyarrow as pa
    import pyogrio

    try:
        return _geoparquet(file) if file.suffix.lower() == ".parquet" else _only_layer(file)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pa.ArrowException, OSError, ValueError):
        return "", {}, 0


def _only_layer(file: Path) -> tuple[str, dict[str, bool], int]:
    import pyogrio

    layers = [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]
    if len(layers) != 1:
        return "", {}, 0
    about = pyogrio.read_info(file, layer=layers[0], force_feature_count=True)
    texts = dict(zip(about["fields"], about["dtypes"] == "object", strict=True))
    return str(about["geometry_type"]), texts, int(about["features"])


def _geoparquet(file: Path) -> tuple[str, dict[str, bool], int]:
    """Return as `_layer`; no kind where it is a table of something else."""
    import pyarrow.parquet as pq

    about = pq.read_metadata(file)
    texts = {str(field.name): str(field.type).endswith("string") for field in about.schema.to_arrow_schema()}
    kind = "Polygon" if b"Polygon" in (about.metadata or {}).get(b"geo", b"") else ""
    return kind, texts, int(about.num_rows)


def _format_of_lines(text: str) -> str:
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 5 and all(_is_number(word) for word in words):
            return "yolo"
        if len(words) >= 9 and all(_is_number(word) for word in words[:8]):
            return "dota"
    return ""


def _is_number(word: str) -> bool:
    return word.removeprefix("-").replace(".", "", 1).isdecimal()
