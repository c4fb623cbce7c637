"""``data scan --dataset``: a benchmark set in its official layout becomes a manifest with its official split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geodistill.data.catalog.benchmark import Benchmark, Layout, pattern
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.first_bands import with_first_bands
from geodistill.data.catalog.unpack import unpack_all
from geodistill.data.manifest import Manifest
from geodistill.data.measure import measure
from geodistill.data.scan import ScanReport, groups_by_split, manifest_path, open_all
from geodistill.data.statistics import SPLITS
from geodistill.errors import DataError, RecipeError, check_name, output_errors
from geodistill.reading import read_text

SHOWN = 5

IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp")
"""What lists may write behind an image's name."""


@dataclass(frozen=True)
class SetFiles:
    """A set's files, in the layout they were found in.

    Attributes:
        pairs: Id, image, mask (``None`` where withheld) and split, by id.
        missing: One line for each listed image or mask that is not there.
        unlisted: Images in no split.
    """

    pairs: tuple[tuple[str, Path, Path | None, str], ...]
    missing: tuple[str, ...]
    unlisted: tuple[Path, ...]
    layout: Layout


def find_set(benchmark: Benchmark, root: Path, layout: str | None = None, split: str | None = None) -> SetFiles:
    """Find a set below the folder it was unpacked into, in the layout that its publisher distributes.

    Layout and split are variants of the declaration, such as ``eroded`` and ``val-2_10``; the first where not given.

    Raises:
        DataError: The root is missing, holds nothing of this set, or two files have one id.
        RecipeError: A detection set, which has no masks.
        UnknownNameError: There is no such variant.
    """
    if benchmark.kind == "boxes":
        raise RecipeError(
            f"{benchmark.name} is a detection set without masks",
            "a set with masks",
            f"make them with 'geodistill label build {benchmark.labels} --images ... --boxes ... --out ...'",
        )
    chosen = benchmark.layouts[_variant("layout", layout, benchmark.layouts)]
    files = list_files(root)
    images, masks = _matching(chosen.images, chosen.key, files, root), _matching(chosen.masks, chosen.key, files, root)
    if not images:
        raise DataError(f"{root} holds no image of {benchmark.name}", f"files such as {chosen.images[0]}")
    splits, listed = _splits(benchmark, chosen, split, root, images)
    missing, pairs = [], []
    for key, name in splits.items():
        image, mask = images.get(key, (None, ""))[0], masks.get(key, (None, ""))[0]
        if image is None:
            missing.append(f"image {_example(chosen.images[0], key)} ({name})")
        elif mask is None and name not in benchmark.unlabelled:
            missing.append(f"mask of {image.relative_to(root)} ({name}), such as {chosen.masks[0]}")
        else:
            pairs.append((key, image, mask, name))
    unlisted = () if not listed else tuple(images[key][0] for key in sorted(set(images) - set(splits)))
    return SetFiles(tuple(sorted(pairs, key=lambda pair: pair[0])), tuple(missing), unlisted, chosen)


def list_files(root: Path) -> list[str]:
    """Return every file below a folder, as relative paths with forward slashes, sorted.

    Links behind a link are followed 20 times to one folder: folders that all link to each other have no end of paths.

    Raises:
        DataError: There is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}", "the folder that the set was unpacked into")
    paths, followed = list[str](), Counter[Path]()
    chains: dict[Path, tuple[Path, ...]] = {root: (root.resolve(),)}
    for place, below, names in os.walk(root, followlinks=True):
        # A link back to a folder that it lies in, as in a root that zips are unpacked within, leads in a circle.
        chain = chains.pop(folder := Path(place))
        real = {name: (chain[-1] / name).resolve() for name in below}
        behind = chain[-1] != root.resolve() / folder.relative_to(root)
        links = {name for name in below if behind and (folder / name).is_symlink()}
        below[:] = sorted(n for n in below if real[n] not in chain and (n not in links or followed[real[n]] < 20))
        followed.update(real[name] for name in links.intersection(below))
        chains |= {folder / name: (*chain, real[name]) for name in below}
        paths += [(folder / name).relative_to(root).as_posix() for name in names]
    return sorted(paths)


def recognise(benchmarks: Iterable[Benchmark], root: Path) -> list[str]:
    """Name the sets whose images and masks a folder holds, those with most pairs first."""
    files = list_files(root)
    counts: dict[str, int] = {}
    for benchmark in benchmarks:
        for layout in benchmark.layouts.values():
            images = _matching(layout.images, layout.key, files, root, strict=False)
            masks = _matching(layout.masks, layout.key, files, root, strict=False)
            pairs = len(set(images) & set(masks))
            counts[benchmark.name] = max(counts.get(benchmark.name, 0), pairs)
    return [name for name in sorted(counts, key=lambda name: -counts[name]) if counts[name]]


def missing_error(benchmark: Benchmark, root: Path, missing: Sequence[str]) -> DataError:
    """Say which files of a set are not there."""
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return DataError(
        f"{len(missing)} files of {benchmark.name} are missing below {root}: {'; '.join(missing[:SHOWN])}{more}",
        "the whole set",
        f"download it from {benchmark.source}, or go on without them with --partial",
    )


def _variant(kind: str, name: str | None, known: Mapping[str, object]) -> str:
    if name is None:
        return next(iter(known))
    check_name(kind, name, known)
    return name


def _matching(
    patterns: Sequence[str], key: str, files: Sequence[str], root: Path, strict: bool = True
) -> dict[str, tuple[Path, str]]:
    """Match files to a layout's patterns; give path and split field by id."""
    matched: dict[str, tuple[Path, str]] = {}
    left = list(files)
    for text in patterns:
        compiled = pattern(text)
        here: dict[str, tuple[Path, str]] = {}
        others = []
        for name in left:
            match = compiled.match(name)
            if match is None:
                others.append(name)
                continue
            fields = match.groupdict()
            identity = key.format(**fields)
            if identity in matched:
                continue
            if identity in here and strict:
                raise DataError(
                    f"{here[identity][0].relative_to(root)} and {name} below {root} are both {identity}", "one of them"
                )
            here[identity] = (root / name, fields.get("part", ""))
        matched |= here
        left = others
    return matched


def _splits(
    benchmark: Benchmark, layout: Layout, variant: str | None, root: Path, images: Mapping[str, tuple[Path, str]]
) -> tuple[dict[str, str], bool]:
    """Return each id's split, and whether the ids are listed, so that others are left out."""
    if layout.split is not None:
        known, parts = layout.split, {key: part.lower() for key, (_, part) in images.items()}
        if not known.keys() & parts.values():
            places = ", ".join(sorted(set(parts.values()))[:SHOWN])
            raise DataError(f"images of {benchmark.name} below {root} in folders {places}", ", ".join(known))
        return {key: known[part] for key, part in parts.items() if part in known}, False
    if layout.lists is not None and variant is None:
        return _from_lists(layout.lists, root, images, tuple(benchmark.splits)), True
    given = benchmark.splits[_variant("split", variant, benchmark.splits)]
    if callable(given):
        return {key: name for name, ids in given(sorted(images)).items() for key in ids}, False
    return {key: name for name, ids in given.items() for key in ids}, True


def _from_lists(lists: Mapping[str, str], root: Path, keys: Collection[str], variants: Sequence[str]) -> dict[str, str]:
    """Return the split of each id that a list names: the id itself, or the last part of exactly one."""
    known: dict[str, list[str]] = {}
    for key in keys:
        for name in {key, key.rpartition("/")[2]}:
            known.setdefault(name, []).append(key)
    splits: dict[str, str] = {}
    for split, name in lists.items():
        path = next(iter(sorted(root.rglob(name))), None)
        lines = [] if path is None else read_text(path).splitlines()
        for line in filter(None, map(str.strip, lines)):
            listed = _without_suffix(line)
            hits = [listed] if listed in keys else known.get(listed, [listed])
            if len(hits) > 1:
                raise DataError(
                    f"{path} names {line!r}, which fits {len(hits)} images such as {hits[0]}", "exactly one"
                )
            splits[hits[0]] = split
    if not splits:
        mend = f"or divide at random with --split {variants[0]}" if variants else ""
        raise DataError(f"none of {', '.join(lists.values())} below {root}", "the set's own lists of its splits", mend)
    return splits


def _without_suffix(name: str) -> str:
    """Return a name as lists write it without an image's suffix; other points belong to it."""
    stem, point, suffix = name.rpartition(".")
    return stem if point and suffix.lower() in IMAGE_SUFFIXES else name


def _example(text: str, key: str) -> str:
    return text.replace("{path}", key).replace("{tile}", key).replace("{id}", key.rpartition("/")[2]).replace("**/", "")


def scan_set(
    benchmark: Benchmark,
    root: Path | str,
    out: Path | str = "manifest.parquet",
    *,
    layout: str | None = None,
    split: str | None = None,
    partial: bool = False,
    statistics: bool = True,
    progress: bool = False,
) -> ScanReport:
    """Write a manifest of a benchmark set; arguments as of `find_set` and of `geodistill.data.scan.scan`.

    The root is the folder that the set lies in, unpacked or as the official zips (also zips of zips), or one zip; what
    zips hold is unpacked once, beside the manifest. With ``partial`` files that the set lists may be missing. A folder
    that ``label build`` wrote has a manifest already, which is taken with the splits that it says.

    Raises:
        DataError: The root is that of another set, files are missing, a zip is cut short, other zips were unpacked
            beside the manifest, or only one class has pixels while others of the masks are lost.
        RecipeError: A detection set.
        UnknownNameError: There is no such variant.
        OutputError: The manifest cannot be written.
    """
    path = manifest_path(out)
    folder = _unpacked(benchmark, Path(root), path.parent)
    if (folder / "label.json").is_file() and (folder / "manifest.parquet").is_file():
        return _take_built(benchmark, folder, path)
    _refuse_other(benchmark, folder)
    files = find_set(benchmark, folder, layout, split)
    if files.missing and not (partial and files.pairs):
        raise missing_error(benchmark, folder, files.missing)
    names = files.layout.bands or benchmark.bands
    if files.layout.first_bands:
        files = _first_bands(files, len(names), path.parent / f"{benchmark.name}-first-bands")
    splits = {image: name for _, image, _, name in files.pairs}
    opened = open_all([(image, mask) for _, image, mask, _ in files.pairs], lambda p: p.name, progress)
    if len(opened.bands) != len(names):
        raise DataError(
            f"images of {benchmark.name} with {len(opened.bands)} bands",
            f"{len(names)}: {', '.join(names)}",
        )
    entries = tuple(
        replace(row, split=splits[row.image] if row.mask is not None else "unlabelled", gsd=row.gsd or benchmark.gsd)
        for _, row in opened.rows
    )
    legend = benchmark.legend
    nearest = legend is not None and legend.nearest
    manifest = Manifest(entries, names, legend, nearest, problems=tuple(opened.problems))
    if statistics:
        manifest = manifest.with_statistics(measure(manifest, progress=progress))
        _refuse_vanished(benchmark, manifest)
    return ScanReport(
        manifest=manifest.save(path),
        layout_base=folder,
        legend_inferred=False,
        left_out=files.unlisted,
        groups=dict.fromkeys(SPLITS, ()),
        missing=files.missing,
    )


def _take_built(benchmark: Benchmark, folder: Path, path: Path) -> ScanReport:
    """Write the manifest of a folder of ``label build`` elsewhere, where its classes are those of the set."""
    manifest = Manifest.load(folder / "manifest.parquet")
    names = () if manifest.legend is None else manifest.legend.names
    expected = () if benchmark.legend is None else benchmark.legend.names
    if names != expected:
        raise DataError(
            f"{folder}, labelled with the classes {', '.join(names)}",
            f"those of {benchmark.title}: {', '.join(expected)}",
            f"label it with --preset {benchmark.name}, or train on its own manifest with --data.manifests",
        )
    return ScanReport(manifest.save(path), folder, legend_inferred=False, groups=groups_by_split(manifest.entries))


def _first_bands(files: SetFiles, count: int, folder: Path) -> SetFiles:
    """Return a set's files with a copy, in a folder, of each image that has more bands than the layout says."""
    pairs = tuple(
        (key, with_first_bands(image, count, folder / f"{key}.tif"), mask, name)
        for key, image, mask, name in files.pairs
    )
    return replace(files, pairs=pairs)


def _refuse_vanished(benchmark: Benchmark, manifest: Manifest) -> None:
    """Refuse a set whose masks are coded otherwise than published, so that all but one class disappear.

    Raises:
        DataError: They do.
    """
    legend, measured = benchmark.legend, manifest.statistics
    if legend is None or measured is None or len(legend) < 2 or not measured.class_pixels:
        return
    lost = Counter(measured.unknown_labels) + Counter(measured.ignored_labels)
    totals = [sum(counts) for counts in zip(*measured.class_pixels.values(), strict=True)]
    if not lost or sum(total > 0 for total in totals) > 1:
        return
    pixels = sum(totals) + sum(measured.ignored_pixels.values())
    values = ", ".join(f"{label} ({count / pixels:.1%} of the pixels)" for label, count in sorted(lost.items()))
    expected = ", ".join(f"{name} {value}" for name, value in zip(legend.names, legend.values, strict=True))
    raise DataError(
        f"masks of {benchmark.name} in which no class but one has a pixel, and which hold {values}",
        f"the published values: {expected}",
        "recode the masks, or scan the folders with --images and a --legend that names their values",
    )


def _unpacked(benchmark: Benchmark, root: Path, beside: Path) -> Path:
    """Return the folder to look in: the root, or where its zips were unpacked to."""
    files = [root.name] if root.is_file() else list_files(root)
    above = root.parent if root.is_file() else root
    archives = [above / name for name in files if name.lower().endswith(".zip")]
    if not archives:
        return root
    into = beside / f"{benchmark.name}-unpacked"
    unpack_all({archive.relative_to(above).with_suffix("").as_posix(): archive for archive in archives}, into)
    link, place = into / "unpacked-by-hand", root.resolve()
    with output_errors(link):
        if link.is_symlink() and link.readlink() != place:
            link.unlink()
        if len(archives) < len(files) and not link.exists():
            # Some parts were unpacked by hand: they are looked at too, where they are.
            link.symlink_to(place, target_is_directory=True)
    return into


def _refuse_other(benchmark: Benchmark, root: Path) -> None:
    if benchmark.kind == "boxes":
        return
    looks = recognise(CATALOG.values(), root)
    if benchmark.name not in looks and looks:
        title = CATALOG[looks[0]].title
        raise DataError(
            f"{root} looks like {title}", f"{benchmark.title}", f"use --dataset {looks[0]}, or give another --root"
        )
