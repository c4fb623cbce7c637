"""Which mask belongs to which image: folder names and file-name endings as data sets use them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from geodistill.errors import DataError, counted
from geodistill.files import files_below
from geodistill.raster import IMAGE_SUFFIXES

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "images_png", "img_dir", "top", "sat")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "masks_png", "ann_dir", "annotations", "gts", "gt")
MASK_ENDINGS = (
    "",
    "_mask",
    "_masks",
    "_label",
    "_labels",
    "_gt",
    "_seg",
    "_noBoundary",
    "-mask",
    "-label",
    ".mask",
    ".label",
)
"""A mask is named as its image plus one of these, with any raster suffix."""
IMAGE_ENDINGS = ("", "_image", "_img", "_sat", "_RGB", "_RGBIR", "_IRRG", "-image")
"""One of these may end an image's name without being part of its mask's name."""


@dataclass
class PairedFiles:
    """What was found in the folders.

    Attributes:
        pairs: Image files with their mask, or with ``None`` where an image has none; sorted.
        masks_without_image: Mask files that belong to no image.
        base: The folder that all names are given relative to in groups and lists.
    """

    pairs: list[tuple[Path, Path | None]] = field(default_factory=list)
    masks_without_image: list[Path] = field(default_factory=list)
    base: Path = field(default_factory=Path)

    def name(self, image: Path) -> str:
        """Return an image's path relative to `base`, with forward slashes."""
        return image.relative_to(self.base).as_posix()


def find_pairs(
    images: Sequence[Path], masks: Sequence[Path] = (), include: str = "*", *, beside: bool = True
) -> PairedFiles:
    """Find images and pair them with masks by name.

    With ``masks``, each place of ``images`` (a folder, searched with its subfolders, or one file) is paired with
    the place of ``masks`` at the same position. Without, each place of ``images`` is searched for folders named as
    in `IMAGE_FOLDERS` with one named as in `MASK_FOLDERS` beside it, at any depth; where there is none, masks are
    looked for among the images, by `MASK_ENDINGS`; and where there are none either, beside the place itself (unless
    told not to look ``beside``). Only images whose file name matches ``include`` are taken.

    Raises:
        DataError: A place is missing, holds no image, or two files compete for one name.
    """
    for place in (*images, *masks):
        if not place.exists():
            raise DataError(f"no folder {place}", "an existing folder or file")
    if masks and len(masks) != len(images):
        raise DataError(f"{len(images)} image places and {len(masks)} mask places", "as many of each")
    # Absolute without resolving links: a linked folder keeps the name that groups and lists use.
    images, masks = ([Path(os.path.abspath(p)) for p in places] for places in (images, masks))  # noqa: PTH100
    places: list[tuple[Path, Path | None]] = []
    places += zip(images, masks, strict=True) if masks else (p for root in images for p in _nests(root, beside))
    folders = [p if p.is_dir() else p.parent for p in (*images, *masks)]
    layout = PairedFiles(base=Path(os.path.commonpath(folders)))
    for image_place, mask_place in places:
        pairs, candidates = _pair_place(image_place, mask_place)
        taken = {mask for _, mask in pairs if mask}
        layout.pairs += [pair for pair in pairs if fnmatch(pair[0].name, include)]
        layout.masks_without_image += [m for m in candidates if m not in taken]
    layout.pairs.sort(key=lambda pair: pair[0])
    if not layout.pairs:
        named = ", ".join(str(p) for p in images)
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise DataError(f"no image in {named}" + ("" if include == "*" else f" matches {include!r}"), f"files {kinds}")
    return layout


def no_pair_error(layout: PairedFiles, images: Sequence[Path]) -> DataError:
    """Say that no image has a mask, and which names were tried."""
    example = layout.pairs[0][0]
    tried = f"{example.stem}.* or {example.stem} with the ending {', '.join(filter(None, MASK_ENDINGS))}"
    left = (
        f"; {counted(len(layout.masks_without_image), 'mask')} without an image" if layout.masks_without_image else ""
    )
    offers = [offer for place in images for offer in _offers(Path(os.path.abspath(place)))]  # noqa: PTH100
    return DataError(
        f"no pair found: {counted(len(layout.pairs), 'image')} such as {example}, none with a mask{left}",
        f"a mask named {tried}, among the images or in one folder {', '.join(MASK_FOLDERS)} beside theirs",
        f"name the folders, {' or '.join(offers[:3])}" if offers else "give the folder of masks, or scan as unlabelled",
    )


def image_files(place: Path) -> list[Path]:
    """Return the images below a folder, hidden ones left out; of a file, that file."""
    return files_below(place, IMAGE_SUFFIXES)


def find_mask_places(images: Sequence[Path]) -> list[Path]:
    """Return the folders of masks that `find_pairs` takes for places of images where none are named."""
    roots = [Path(os.path.abspath(place)) for place in images if place.is_dir()]  # noqa: PTH100 - as find_pairs does
    return [masks for root in roots for _, masks in _nests(root, beside=True) if masks is not None]


def find_labelled(folder: Path) -> list[tuple[Path, Path | None, list[Path]]]:
    """Return the places that `find_pairs` sees in a folder, that of their masks, and their images that have one.

    Raises:
        DataError: Two files compete for one name.
    """
    places = _nests(Path(os.path.abspath(folder)), beside=True)  # noqa: PTH100 - as find_pairs does
    return [(images, masks, [i for i, mask in _pair_place(images, masks)[0] if mask]) for images, masks in places]


def _nests(root: Path, beside: bool) -> list[tuple[Path, Path | None]]:
    """Find image folders with mask folders beside them; a root without any is one place of both."""
    nests: list[tuple[Path, Path | None]] = []
    for folder in (root, *sorted(f for f in root.rglob("*") if f.is_dir())) if root.is_dir() else ():
        below = {f.name.lower(): f for f in sorted(folder.iterdir()) if f.is_dir()}
        image = next((below[name] for name in IMAGE_FOLDERS if name in below), None)
        mask = next((below[name] for name in MASK_FOLDERS if name in below), None)
        if image is not None and mask is not None:
            nests.append((image, mask))
    # An image folder without masks beside it still counts, so that its images are reported.
    known = {image for image, _ in nests}
    lone = [f for f in sorted(root.rglob("*")) if f.is_dir() and f.name.lower() in IMAGE_FOLDERS and f not in known]
    if nests:
        return nests + [(f, None) for f in lone if not any(f.is_relative_to(k) for k in known)]
    return [(root, _masks_beside(root) if beside else None)]


def _masks_beside(folder: Path) -> Path | None:
    """Return the folder of masks beside one of images that has none of its own.

    Beside a folder that is not called as in `IMAGE_FOLDERS` its masks must be named as its images, in one folder only.
    """
    if not folder.is_dir() or _mask_names(image_files(folder)):
        return None
    if folder.name.lower() in IMAGE_FOLDERS:
        return next(iter(_mask_folders(folder.parent)), None)
    fitting = [masks for masks in _mask_folders(folder.parent) if _fits(folder, masks)]
    return fitting[0] if len(fitting) == 1 else None


def _mask_folders(parent: Path) -> list[Path]:
    """Return the folders of masks in a folder, in the order of `MASK_FOLDERS`."""
    names = [name for name in sorted(os.listdir(parent)) if name.lower() in MASK_FOLDERS]  # noqa: PTH208 - of thousands
    below = {name.lower(): parent / name for name in names if (parent / name).is_dir()}
    return [below[name] for name in MASK_FOLDERS if name in below and image_files(below[name])]


def _fits(images: Path, masks: Path) -> bool:
    """Whether a mask of one folder has the name of an image of the other."""
    if masks.is_relative_to(images) or images.is_relative_to(masks):
        return False
    known = {(_below(mask, masks), mask.stem.lower()) for mask in image_files(masks)}
    return any(key in known for image in image_files(images) for key in _mask_keys(image, images))


def _offers(place: Path) -> list[str]:
    """Return the flags that name folders of images and masks that fit each other, in or beside a place."""
    if not place.is_dir():
        return []
    inside = [folder for folder in sorted(place.iterdir()) if folder.is_dir()]
    pairs = [(place, masks) for masks in _mask_folders(place.parent)]
    pairs += [(folder, masks) for masks in _mask_folders(place) for folder in inside]
    return [f"--images {images} --masks {masks}" for images, masks in pairs if _fits(images, masks)]


def _mask_names(files: Sequence[Path]) -> list[Path]:
    """Return those of all images whose ending makes them the mask of another one in their folder."""
    known = {(file.parent, file.stem.lower()) for file in files}
    endings = [ending.lower() for ending in MASK_ENDINGS if ending]
    masks = []
    for file in files:
        stem = file.stem.lower()
        bases = [stem.removesuffix(ending) for ending in endings if stem.endswith(ending)]
        if any((file.parent, base + ending.lower()) in known for base in bases for ending in IMAGE_ENDINGS):
            masks.append(file)
    return masks


def _pair_place(images: Path, masks: Path | None) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """Return the pairs of one place, and all that may be masks; without a place of masks they lie among the images."""
    files = image_files(images)
    if masks is None:
        candidates = _mask_names(files)
        return _pair(sorted(set(files).difference(candidates)), images, candidates, images), candidates
    candidates = image_files(masks)
    if images.is_file() and masks.is_file():
        return [(images, masks)], candidates
    return _pair(files, images, candidates, masks), candidates


def _pair(
    images: Sequence[Path], image_root: Path, masks: Sequence[Path], mask_root: Path
) -> list[tuple[Path, Path | None]]:
    if not masks:
        return [(image, None) for image in images]
    index: dict[tuple[Path, str], Path] = {}
    for mask in masks:
        key = (_below(mask, mask_root), mask.stem.lower())
        if key in index:
            raise DataError(f"{index[key].name} and {mask.name} in {mask.parent}", "one mask of that name")
        index[key] = mask
    pairs: list[tuple[Path, Path | None]] = []
    users: dict[Path, Path] = {}
    for image in images:
        mask_file = next((index[key] for key in _mask_keys(image, image_root) if key in index), None)
        if mask_file is not None and mask_file in users:
            raise DataError(
                f"{users[mask_file].name} and {image.name} in {image.parent} share the mask {mask_file.name}", "one"
            )
        if mask_file is not None:
            users[mask_file] = image
        pairs.append((image, mask_file))
    return pairs


def _mask_keys(image: Path, root: Path) -> list[tuple[Path, str]]:
    stem, below = image.stem.lower(), _below(image, root)
    bases = [stem.removesuffix(e.lower()) for e in IMAGE_ENDINGS if stem.endswith(e.lower())]
    return [(below, base + ending.lower()) for base in bases for ending in MASK_ENDINGS]


def _below(file: Path, root: Path) -> Path:
    return file.parent.relative_to(root) if root.is_dir() else Path()
