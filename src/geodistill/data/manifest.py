"""The manifest: a Parquet table that names every image, its mask and its split, with the legend and statistics."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geodistill.data.statistics import SPLITS, Statistics
from geodistill.errors import DataError, first_line, shown
from geodistill.files import atomic_path
from geodistill.raster import Window
from geodistill.reading import TABLE_ROWS, bounded, parse_object
from geodistill.spec import Legend, Spec

FORMAT_VERSION = 1

_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("image", "mask", "split", "group")]
    + [(name, pa.float64()) for name in ("lon", "lat", "gsd")]
    + [("date", pa.string())]
    + [(name, pa.int64()) for name in ("row", "col", "height", "width")]
)

LONGEST = 2**31
"""Rows and columns of an image are fewer, in any format that GDAL reads."""


@dataclass(frozen=True, slots=True)
class Row:
    """One image, or one area of an image.

    Attributes:
        image: Image file.
        mask: Mask file of the same size, or ``None`` for an unlabelled image.
        split: One of `SPLITS`.
        window: The area that belongs to this row: the whole image, or a part of a large scene. Readers never look
            beyond it. Height and width 0 mark a file that could not be opened when it was scanned.
        group: Name of the scene, region or block it belongs to; empty where none was asked for.
        lon: Longitude of the centre in degrees, or ``None``.
        lat: Latitude of the centre in degrees, or ``None``.
        gsd: Ground sampling distance in metres per pixel, or ``None``.
        date: Day of acquisition as ``YYYY-MM-DD``, or ``None``.
    """

    image: Path
    mask: Path | None
    split: str
    window: Window
    group: str = ""
    lon: float | None = None
    lat: float | None = None
    gsd: float | None = None
    date: str | None = None

    @property
    def key(self) -> str:
        """Names the row in messages and results: the file, and the window's origin where it is not at 0, 0."""
        origin = f"@{self.window.row},{self.window.col}" if self.window.row or self.window.col else ""
        return f"{self.image}{origin}"

    @property
    def place(self) -> str:
        """Names what the row's pixels belong together with: its group, or itself where it has none."""
        return self.group or self.key


@dataclass(frozen=True)
class Manifest:
    """A labelled data set.

    Attributes:
        entries: All rows, in a fixed order.
        bands: One name per band of the images.
        legend: The classes, or ``None`` where no image has a mask.
        ignore_unknown: Whether labels in no legend entry are ignored; if not, reading one is an error.
        statistics: What `geodistill.data.measure.measure` measured, or ``None`` where it has not been run.
        problems: What `data scan` found wrong, one line each; training refuses a manifest with problems.
        path: The file it was loaded from or saved to, for messages.

    Example:
        >>> manifest = gd.Manifest.load("manifest.parquet")
        >>> len(manifest.rows("train")), manifest.legend.names
        (4, ('ground', 'building'))
    """

    entries: tuple[Row, ...]
    bands: tuple[str, ...]
    legend: Legend | None = None
    ignore_unknown: bool = False
    statistics: Statistics | None = None
    problems: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def gsd(self) -> float | None:
        """Median ground sampling distance of the images in metres per pixel, or ``None`` where none has one."""
        gsds = [row.gsd for row in self.entries if row.gsd is not None]
        return float(np.median(gsds)) if gsds else None

    def __str__(self) -> str:
        counts = Counter(row.split for row in self.entries)
        images = ", ".join(f"{counts[name]} {name}" for name in SPLITS if counts[name]) or "no images"
        gsd = "" if self.gsd is None else f", {self.gsd:.3g} m a pixel"
        classes = "" if self.legend is None else f", {len(self.legend)} classes"
        return f"{self.path or 'manifest'}: {images}, {len(self.bands)} bands{gsd}{classes}"

    def _repr_html_(self) -> str:
        """Return what it holds, and the classes, for a notebook."""
        from geodistill.notebook import html_text

        return html_text(str(self)) + ("" if self.legend is None else self.legend._repr_html_())

    def rows(self, split: str | None = None) -> tuple[Row, ...]:
        """Return the rows of a split, or all of them.

        Raises:
            DataError: No split has that name.
        """
        if split is None:
            return self.entries
        if split not in SPLITS:
            raise DataError(f"split {split!r}", f"one of {', '.join(SPLITS)}")
        return tuple(row for row in self.entries if row.split == split)

    def some_rows(self, split: str) -> tuple[Row, ...]:
        """Return the rows of a split, at least one of them.

        Raises:
            DataError: No split has that name, or it is empty.
        """
        rows = self.rows(split)
        if not rows:
            counts = Counter(row.split for row in self.entries)
            present = ", ".join(f"{name} {counts[name]}" for name in SPLITS if counts[name]) or "nothing"
            raise DataError(f"manifest {self.path or ''} has no '{split}' images (it has {present})", f"some '{split}'")
        return rows

    def save(self, path: Path | str, moves_with: Path | None = None) -> Manifest:
        """Write the Parquet file, whole or not at all.

        File paths below its folder, or one above it that ``moves_with`` it and has it by no link, are stored relative.

        Returns:
            The manifest with its `path`.

        Raises:
            OutputError: The place cannot be written.
        """
        path = Path(path)
        folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 - resolve() would follow links out of the folder
        top = Path(os.path.abspath(moves_with or folder))  # noqa: PTH100
        root = top if (top, top.resolve()) in zip(folder.parents, folder.resolve().parents, strict=False) else folder
        columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        for entry in self.entries:
            for name in ("split", "group", "lon", "lat", "gsd", "date"):
                columns[name].append(getattr(entry, name))
            for name in ("row", "col", "height", "width"):
                columns[name].append(getattr(entry.window, name))
            columns["image"].append(_stored(entry.image, folder, root))
            columns["mask"].append("" if entry.mask is None else _stored(entry.mask, folder, root))
        metadata = {
            "format_version": FORMAT_VERSION,
            "bands": list(self.bands),
            "legend": None if self.legend is None else self.legend.to_dict(),
            "ignore_unknown": self.ignore_unknown,
            "statistics": None if self.statistics is None else self.statistics.to_dict(),
            "problems": list(self.problems),
        }
        table = pa.table(columns, schema=_SCHEMA.with_metadata({"geodistill": json.dumps(metadata)}))
        with atomic_path(path) as part:
            pq.write_table(table, part)
        return replace(self, path=path)

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Read a manifest: its file, or the folder with its ``manifest.parquet``.

        Raises:
            DataError: The file is missing, or is not a manifest of this version.
        """
        folder = Path(path).is_dir()
        path = Path(path) / "manifest.parquet" if folder else Path(path)
        if not path.is_file():
            swapped = "; a model comes first, its manifest after it" if folder else ""
            mend = f"write one with 'geodistill data scan'{swapped}"
            raise DataError(f"no manifest {path}", "a Parquet file", mend)
        try:
            with pq.ParquetFile(path) as file:
                table = pa.Table.from_batches(bounded(file.iter_batches(TABLE_ROWS), path), file.schema_arrow)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"manifest {path} cannot be read ({error})", "a file that 'data scan' wrote") from error
        raw = (table.schema.metadata or {}).get(b"geodistill")
        if raw is None or set(_SCHEMA.names) - set(table.column_names):
            raise DataError(f"{path} is a Parquet file of another kind", "a manifest that 'data scan' wrote")
        metadata = parse_object(raw, f"what manifest {path} says of itself")
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            mend = "write it anew with 'geodistill data scan'"
            raise DataError(f"manifest {path} of format {shown(version)}", f"format {FORMAT_VERSION}", mend)
        try:
            described, entries = _described(metadata), _entries(table, Path(os.path.abspath(path.parent)))  # noqa: PTH100
        except DataError as error:
            raise DataError(f"manifest {path}: {error.received}", error.expected, "scan again") from error
        return cls(entries=entries, path=path, **described)

    def with_statistics(self, statistics: Statistics) -> Manifest:
        """Return the manifest with these figures, and with the problems found while measuring added to its own."""
        every = dict.fromkeys((*self.problems, *statistics.problems))
        return replace(self, statistics=statistics, problems=tuple(every))

    def refuse_problems(self) -> None:
        """Raise the first of the problems that the scan wrote down, if any.

        Raises:
            DataError: The manifest has problems.
        """
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise DataError(f"{self.problems[0]}{more}", "", "see 'geodistill data check', mend, and scan again")


def make_spec(manifest: Manifest) -> Spec:
    """Return legend, bands, normalisation and median ground sampling distance, without reading any image.

    Raises:
        DataError: The manifest has no legend or no statistics.
    """
    if manifest.legend is None:
        raise DataError(f"manifest {manifest.path or ''} has no legend", "labelled images", "scan with masks")
    statistics = require_statistics(manifest)
    return Spec(
        legend=manifest.legend,
        bands=manifest.bands,
        mean=statistics.mean,
        # A constant band cannot be scaled; it is centred only.
        std=tuple(value if value > 0 else 1.0 for value in statistics.std),
        gsd=manifest.gsd,
    )


def without_labels(manifest: Manifest) -> Manifest:
    """Return a manifest that is learnt from without labels: every train and unlabelled image, as train images.

    Its legend, which nothing reads, has a single class where there was none.
    """
    rows = [row for row in manifest.entries if row.split in ("train", "unlabelled")]
    entries = tuple(replace(row, mask=None, split="train") for row in rows)
    return replace(manifest, entries=entries, legend=manifest.legend or Legend(("unlabelled",)))


def require_statistics(manifest: Manifest) -> Statistics:
    """Return the manifest's statistics.

    Raises:
        DataError: They have not been measured, or not a single pixel was valid.
    """
    name = f"manifest {manifest.path or ''}".rstrip()
    if manifest.statistics is None:
        raise DataError(f"{name} has no statistics", "measured bands", "run 'geodistill data stats' on it")
    if not manifest.statistics.mean:
        raise DataError(f"{name} has no image with valid pixels", "at least one", "run 'geodistill data check' on it")
    return manifest.statistics


def _stored(path: Path, folder: Path, root: Path) -> str:
    path = Path(os.path.abspath(path))  # noqa: PTH100
    return Path(os.path.relpath(path, folder)).as_posix() if path.is_relative_to(root) else str(path)


def _described(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a manifest says of itself as fields of `Manifest`."""
    kinds = {"bands": list, "legend": dict | None, "ignore_unknown": bool, "statistics": dict | None, "problems": list}
    for key, kind in kinds.items():
        if key not in metadata or not isinstance(metadata[key], kind):
            raise DataError(f"{key} {shown(metadata.get(key, 'missing'))}", f"the {key} that were written")
    for key in ("bands", "problems"):
        if not all(isinstance(value, str) for value in metadata[key]):
            raise DataError(f"{key} {shown(metadata[key])}", "texts")
    bands, legend, statistics = tuple(metadata["bands"]), metadata["legend"], metadata["statistics"]
    if not bands:
        raise DataError("no bands", "at least one")
    return {
        "bands": bands,
        "legend": None if legend is None else Legend.from_dict(legend),
        "ignore_unknown": metadata["ignore_unknown"],
        "statistics": None if statistics is None else Statistics.from_dict(statistics, len(bands)),
        "problems": tuple(metadata["problems"]),
    }


def _entries(table: pa.Table, folder: Path) -> tuple[Row, ...]:
    """Read the rows of a table, part by part: a set may have millions."""
    at, texts, rows = _Places(folder), dict[str, str](), list[Row]()
    try:
        table = table.select(_SCHEMA.names).cast(_SCHEMA)
        _check_cells(table)
        for batch in table.to_batches(max_chunksize=1 << 14):
            cells = {name: batch[name].to_pylist() for name in _SCHEMA.names}
            windows = map(Window, cells["row"], cells["col"], cells["height"], cells["width"])
            images, masks = map(at, cells["image"]), (at(mask) if mask else None for mask in cells["mask"])
            # Each text once in memory, not once a row.
            splits, groups = (
                (texts.setdefault(text or "", text or "") for text in cells[k]) for k in ("split", "group")
            )
            dates = (text and texts.setdefault(text, text) for text in cells["date"])
            rows += map(Row, images, masks, splits, windows, groups, cells["lon"], cells["lat"], cells["gsd"], dates)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"cells of another type ({first_line(error)})", "those that were written") from error
    return tuple(rows)


def _check_cells(table: pa.Table) -> None:
    """Refuse cells that no manifest has."""
    for name in ("image", "split", "row", "col", "height", "width"):
        if table[name].null_count:
            raise DataError(f"no {name} in row {table[name].is_null().to_pylist().index(True)}", f"a {name} in each")
    if unknown := set(table["split"].unique().to_pylist()) - set(SPLITS):
        raise DataError(f"split {shown(min(unknown))}", f"one of {', '.join(SPLITS)}")
    bounds = {"lon": (-540, 540), "lat": (-90, 90), "gsd": (1e-6, 1e7)}
    bounds |= dict.fromkeys(("row", "col", "height", "width"), (0, LONGEST - 1))
    for name, (low, high) in bounds.items():
        numbers = table[name].drop_null().to_numpy()
        odd_ones = numbers[~((numbers >= low) & (numbers <= high))]
        if odd_ones.size:
            raise DataError(f"{name} {odd_ones[0]}", f"{low:g} to {high:.10g}")


class _Places:
    """Makes paths of stored names, each folder once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._known = folder, dict[str, Path]()

    def __call__(self, stored: str) -> Path:
        above, _, name = stored.rpartition("/")
        if not name or name in (".", ".."):
            return self._folder / stored
        if above not in self._known:
            place = self._folder / (above if above or not stored.startswith("/") else "/")
            self._known[above] = Path(os.path.normpath(place)) if above.startswith("..") else place  # may be a link
        return self._known[above] / name
