"""The end of a run: instances, legend, manifest and account are put together from the journal, always in one order."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO, cast

from geodistill.data.findings import label_notes
from geodistill.data.manifest import Manifest, Row
from geodistill.data.mask_files import legend_text
from geodistill.data.measure import measure
from geodistill.data.splits import LEFT_OUT, SplitPlan, divide, source_split
from geodistill.data.statistics import SPLITS
from geodistill.errors import DataError, GeodistillWarning
from geodistill.files import atomic_path, json_text, write_json, write_text
from geodistill.label.accounts import Account, Accounts, ManifestCounts, ReviewCounts
from geodistill.label.boxes import Annotations, ImageBoxes
from geodistill.label.config import LabelSettings
from geodistill.label.output_folder import ACCOUNT, FOLDERS, INSTANCES, LEGEND, MANIFEST, Journal, remove_files
from geodistill.label.pixels import unlabelled_colour
from geodistill.label.tile_records import FileSums, TileFiles, TileRecord, altered_files, file_sums
from geodistill.label.tiles import TileId
from geodistill.raster import Window
from geodistill.spec import IGNORE_INDEX, Legend

FORMAT_VERSION = 2

INFO = "Masks of objects made from their boxes by 'geodistill label build'"

_WHOLE_SET = (ACCOUNT, INSTANCES, LEGEND, MANIFEST)


@dataclass(frozen=True)
class LabelRun:
    """A run whose tiles are all done: so many were planned, and some images could not be opened, for reasons by key.

    Review is what people decided, counted; a manifest that is kept is a person's work, and none is written.
    """

    out: Path
    settings: LabelSettings
    legend: Legend
    annotations: Annotations
    tiles: int
    unopened: Mapping[str, str]
    review: ReviewCounts | None = None
    keeps_manifest: bool = False
    moves_with: Path | None = None


@dataclass(frozen=True)
class _WrittenTile:
    """A tile that has files, as the manifest takes it."""

    key: str
    bands: tuple[str, ...]
    row: Row


def finished_sums(out: Path) -> FileSums:
    """Return what a complete run says of the files about the whole set."""
    return file_sums(out, _WHOLE_SET)


def is_finished(out: Path, journal: Journal) -> bool:
    """Whether a run is complete, and its files about the whole set are there and as they were written.

    Another manifest may be a person's work, such as other splits: it stays, and a warning tells of it.
    """
    if journal.finished is None:
        return False
    altered = altered_files(out, dict.fromkeys(_WHOLE_SET, ()) | journal.finished)
    if altered == [MANIFEST] and keeps_manifest(out, journal):
        return True
    if altered:
        text = f"{out / altered[0]} is not as it was written and is made again"
        warnings.warn(text, GeodistillWarning, stacklevel=2)
    return not altered


def keeps_manifest(out: Path, journal: Journal) -> bool:
    """Whether the manifest is there and another than was written, so that it stays; a warning tells of it."""
    known = {name: sums for name, sums in journal.known.items() if name == MANIFEST}
    if not altered_files(out, known) or not (out / MANIFEST).is_file():
        return False
    warnings.warn(
        f"{out / MANIFEST} is not as it was written and stays; to have it made again, remove it first",
        GeodistillWarning,
        stacklevel=2,
    )
    return True


def assemble(run: LabelRun, journal: Journal, *, progress: bool = False) -> Account:
    """Write the files that are about the whole set; the account comes last and says that the run is complete.

    Where not one box gave a label there is no set: the account alone is written, and no file stays that looks like one.

    Raises:
        AccountingError: An image, a tile or a box is missing.
        OutputError: A file cannot be written.
    """
    accounts = Accounts()
    tiles = _counted(run, journal, accounts)
    written = _write_instances(run, tiles)
    accounts.check(run.annotations.images, run.tiles)
    manifest: ManifestCounts = {}
    if accounts.boxes()["labelled"]:
        write_legend(run.out / LEGEND, run.legend)
        manifest = _write_manifest(run, written, progress)
    else:
        remove_all(run, journal)
    account: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        **accounts.to_dict(),
        "annotations_without_image": {
            "count": len(run.annotations.unmatched),
            "first": list(run.annotations.unmatched[:5]),
        },
        **({} if run.review is None else {"review": run.review}),
        "manifest": manifest,
        "legend": run.legend.to_dict(),
        "settings": run.settings.to_dict(),
    }
    write_json(run.out / ACCOUNT, account)
    return cast(Account, account)


def _counted(run: LabelRun, journal: Journal, accounts: Accounts) -> Iterator[tuple[ImageBoxes, Window, TileFiles]]:
    """Yield the tiles with files of images that count, in order; files of failed images are removed."""
    by_image: dict[str, list[TileId]] = {
        key: list(names) for key, names in groupby(journal.tiles(), key=lambda t: t[0])
    }
    for image in run.annotations.images:
        records = [journal.read(tile) for tile in by_image.get(image.key, ())]
        if accounts.add(image, records, run.unopened.get(image.key, "") or _changed_meanwhile(image, records)):
            yield from ((image, one.window, one.files) for one in records if one.files is not None)
        else:
            for record in records:
                remove_files(run.out, record)


def _changed_meanwhile(image: ImageBoxes, records: Sequence[TileRecord]) -> str:
    """Say that an image's tiles are not of one state of it."""
    stamps = [record.stamp for record in records if record.stamp is not None]
    return "" if all(stamp == stamps[0] for stamp in stamps) else f"{image.image} changed while it was labelled"


def remove_all(run: LabelRun, journal: Journal) -> None:
    """Remove the files of all tiles, the folders that are empty then, and what is about the whole set."""
    for tile in journal.tiles():
        remove_files(run.out, journal.read(tile))
    for name in (ACCOUNT, INSTANCES, LEGEND, *(() if run.keeps_manifest else (MANIFEST,))):
        (run.out / name).unlink(missing_ok=True)
    for name in FOLDERS:
        for folder, _, _ in os.walk(run.out / name, topdown=False):
            with suppress(OSError):  # it holds what is not ours
                Path(folder).rmdir()


def _write_instances(run: LabelRun, tiles: Iterator[tuple[ImageBoxes, Window, TileFiles]]) -> list[_WrittenTile]:
    """Write the COCO file piece by piece, since a large set's would not fit into memory; gather manifest rows.

    Ids begin at 1, since many readers take 0 for background; what stands in the masks is each class's ``mask_value``.
    """
    written: list[_WrittenTile] = []
    images: list[dict[str, Any]] = []
    with atomic_path(run.out / INSTANCES) as part, part.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        number = 0
        for image, window, files in tiles:
            images.append(_coco_image(len(images) + 1, image, window, files, run.settings.images))
            for instance in files.instances:
                number += 1
                ids = {"id": number, "image_id": len(images), "category_id": category_id(instance["mask_value"])}
                _item(file, number, ids | instance)
            row = _row(run.out, image, window, files)
            written.append(_WrittenTile(image.key, files.bands, replace(row, gsd=row.gsd or image.gsd)))
        file.write('\n],\n"images": [')
        for position, entry in enumerate(images, 1):
            _item(file, position, entry)
        file.write('\n],\n"categories": [')
        for value, (name, colour) in enumerate(zip(run.legend.names, run.legend.colours, strict=True)):
            entry = {"id": category_id(value), "name": name, "mask_value": value, "color": list(colour)}
            _item(file, value + 1, entry)
        info = {"description": INFO, "version": str(FORMAT_VERSION)}
        file.write(f'\n],\n"licenses": [],\n"info": {json_text(info)}}}\n')
    return written


def category_id(value: int) -> int:
    """Return the COCO id of a class by its value in the masks."""
    return value + 1


def _item(file: TextIO, position: int, entry: dict[str, Any]) -> None:
    file.write(("\n" if position == 1 else ",\n") + json_text(entry))


def _coco_image(number: int, image: ImageBoxes, window: Window, files: TileFiles, images: Path) -> dict[str, Any]:
    source = _below(image.image, images)
    return {
        "id": number,
        "file_name": files.image or source,
        "width": window.width,
        "height": window.height,
        "mask": files.masks[0],
        "source": source,
        "source_row": window.row,
        "source_col": window.col,
    }


def _below(path: Path, images: Path) -> str:
    """Return an image's path relative to the folder of images, with forward slashes; its name where that is a file."""
    root = Path(os.path.abspath(images))  # noqa: PTH100 - linked folders keep the name they were given by
    return path.relative_to(root).as_posix() if path != root and path.is_relative_to(root) else path.name


def _row(out: Path, image: ImageBoxes, window: Window, files: TileFiles) -> Row:
    source = out / files.image if files.image else image.image.absolute()
    whole = Window(0, 0, window.height, window.width)
    return Row(source, out / files.masks[0], "", whole, **asdict(files.place))


def write_legend(path: Path, legend: Legend) -> None:
    """Write what ``data scan --legend`` reads, for index and colour masks alike."""
    write_text(path, legend_text(legend, [IGNORE_INDEX, unlabelled_colour(legend)]))


def _write_manifest(run: LabelRun, written: Sequence[_WrittenTile], progress: bool) -> ManifestCounts:
    """Write the manifest with splits and statistics, and tell how many images are in each split.

    Where a person's manifest is kept, these are its splits; nothing where it cannot be read.
    """
    if not written:
        return {}
    if run.keeps_manifest:
        with suppress(DataError):
            return _manifest_counts(Manifest.load(run.out / MANIFEST))
        return {}
    kinds = Counter(one.bands for one in written)
    bands = min(kinds, key=lambda names: (-kinds[names], names))
    rows = [(one.key, one.row) for one in written if len(one.bands) == len(bands)]
    divided = _divided(rows, run.annotations, run.settings)
    left_out = sum(split == LEFT_OUT for _, split, _ in divided)
    divided = [one for one in divided if one[1] != LEFT_OUT]
    entries = tuple(replace(row, split=split, group=group) for row, split, group in divided)
    legend = replace(run.legend, ignore_colours=(unlabelled_colour(run.legend),))
    manifest = Manifest(entries, bands, legend)
    manifest = manifest.with_statistics(measure(manifest, progress=progress)).save(run.out / MANIFEST, run.moves_with)
    return _manifest_counts(manifest, len(written) - len(rows), left_out)


def _manifest_counts(manifest: Manifest, other_bands: int = 0, in_no_list: int = 0) -> ManifestCounts:
    counts = Counter(entry.split for entry in manifest.entries)
    return {
        "splits": {split: counts[split] for split in SPLITS if counts[split]},
        "other_bands_left_out": other_bands,
        "in_no_list": in_no_list,
        "problems": list(manifest.problems),
        "notes": label_notes(manifest),
    }


def split_plan(settings: LabelSettings) -> SplitPlan:
    """Return how source images are divided among train, val and test.

    Raises:
        DataError: The shares or the pattern of groups make no sense.
    """
    if settings.lists is not None:
        return SplitPlan("lists", lists=settings.lists, seed=settings.seed)
    if settings.split == "source" and sum(settings.fractions[:2]) <= 0:
        raise DataError(f"split fractions {settings.fractions} beside folders of the source", "a share of train or val")
    return SplitPlan("group", settings.fractions, group_regex=settings.group_regex or "(?s).+", seed=settings.seed)


def check_division(annotations: Annotations, settings: LabelSettings) -> None:
    """Divide the images that may be labelled before any is, so that what cannot be divided is refused by then.

    Raises:
        DataError: A name of a list fits no image or several, no list names one to label, or groups lack.
    """
    images = [one for one in annotations.images if one.width and (one.boxes or settings.keeps_empty)]
    divided = _divided([(one.key, _whole(one)) for one in images], annotations, settings)
    if settings.lists is not None and all(split == LEFT_OUT for _, split, _ in divided):
        raise DataError(f"no list in {settings.lists} names an image with boxes", "one such image at least")


def _whole(image: ImageBoxes) -> Row:
    return Row(image.image, None, "", Window(0, 0, image.height, image.width))


def _divided(
    rows: Sequence[tuple[str, Row]], annotations: Annotations, settings: LabelSettings
) -> list[tuple[Row, str, str]]:
    """Return each tile, given with its image's key, with split and group; tiles of one image are never parted."""
    images, plan = annotations.images, split_plan(settings)
    if settings.lists is not None:  # of all images, since a list may name one without labels
        listed = divide([(f"{one.key}{one.image.suffix}", _whole(one)) for one in images], plan)
        splits = {one.key: split for one, (_, split, _) in zip(images, listed, strict=True)}
        return [(row, splits[key], key) for key, row in rows]
    by_source = settings.split == "source"
    known = {key: split for key in {key for key, _ in rows} if by_source and (split := source_split(key))}
    if known:  # what the source's authors test on, their folders say; no other image joins it
        train, val, _ = settings.fractions
        plan = replace(plan, fractions=(train / (train + val), val / (train + val), 0.0))
    unknown = [(key, row) for key, row in rows if key not in known]
    wished = sum(fraction > 0 for fraction in plan.fractions)
    if not unknown or (settings.group_regex is None and len({key for key, _ in unknown}) < wished):
        divided = [(row, "train", key) for key, row in unknown]  # too few images to part
    else:
        divided = divide(unknown, plan)
    of_row = {id(row): (split, group) for row, split, group in divided}
    return [(row, *of_row.get(id(row), (known.get(key, ""), key))) for key, row in rows]
