"""``data scan --dataset``: a benchmark set in its official layout becomes a manifest with its official split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from geodistill.data.catalog.benchmark import Benchmark
from geodistill.data.catalog.find import find_set, list_files, missing_error, recognise
from geodistill.data.catalog.unpack import unpack
from geodistill.data.manifest import SPLITS, Manifest
from geodistill.data.scan import ScanReport, manifest_path, open_all
from geodistill.data.stats import stats
from geodistill.errors import DataError


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
    """Write a manifest of a benchmark set.

    Args:
        benchmark: The set.
        root: The folder it lies in, unpacked or as the official zips (also zips of zips), or one zip. What zips hold
            is unpacked once, beside the manifest.
        out: The manifest to write; a name without suffix is a folder that gets ``manifest.parquet``.
        layout: Variant of the files.
        split: Variant of the split.
        partial: Go on without files that the set lists and that are not there.
        statistics: Measure the set as well, which reads every file once.
        progress: Show progress bars on a terminal.

    Raises:
        DataError: The root is that of another set, files are missing, or a zip is cut short.
        RecipeError: A detection set.
        UnknownNameError: There is no such variant.
        OutputError: The manifest cannot be written.
    """
    path = manifest_path(out)
    folder = _unpacked(benchmark, Path(root), path.parent)
    _refuse_other(benchmark, folder)
    found = find_set(benchmark, folder, layout, split)
    if found.missing and not partial:
        raise missing_error(benchmark, folder, found.missing)
    splits = {image: name for _, image, _, name in found.pairs}
    names = found.layout.bands or benchmark.bands
    opened = open_all([(image, mask) for _, image, mask, _ in found.pairs], lambda p: p.name, progress)
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
        manifest = manifest.with_statistics(stats(manifest, progress=progress))
    return ScanReport(
        manifest=manifest.save(path),
        layout_base=folder,
        legend_inferred=False,
        left_out=found.unlisted,
        groups=dict.fromkeys(SPLITS, ()),
        missing=found.missing,
    )


def _unpacked(benchmark: Benchmark, root: Path, beside: Path) -> Path:
    """Give the folder to look in: the root, or where its zips were unpacked to."""
    files = [root.name] if root.is_file() else list_files(root)
    above = root.parent if root.is_file() else root
    archives = [above / name for name in files if name.lower().endswith(".zip")]
    if not archives:
        return root
    into = beside / f"{benchmark.name}-unpacked"
    for archive in archives:
        unpack(archive, into / archive.stem)
    if len(archives) < len(files):
        # Some parts were unpacked by hand: they are looked at too, where they are.
        link = into / "unpacked-by-hand"
        if not link.exists():
            link.symlink_to(root.resolve(), target_is_directory=True)
    return into


def _refuse_other(benchmark: Benchmark, root: Path) -> None:
    from geodistill.data.catalog import CATALOG

    if benchmark.kind == "boxes":
        return
    looks = recognise(CATALOG.values(), root)
    if benchmark.name not in looks and looks:
        title = CATALOG[looks[0]].title
        raise DataError(
            f"{root} looks like {title}", f"{benchmark.title}", f"use --dataset {looks[0]}, or give another --root"
        )
