"""A map as a section of a page, and its finer tiles in a folder beside the page where they are too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from geodistill.files import atomic_path, check_outputs
from geodistill.inference.geotiff import map_beside
from geodistill.raster.source import source_files
from geodistill.report.map_layers import CutMap, cut_map
from geodistill.report.map_section import MapTiles, map_section, within_budget
from geodistill.report.page import Page, Section
from geodistill.report.report_options import ReportOptions

KIND = "tiles of a report"


def tiles_folder(page: Path) -> Path:
    """Return the folder beside a page that holds the finer tiles of its map."""
    return page.with_name(f"{page.stem}_tiles")


@contextmanager
def open_map(path: Path, options: ReportOptions, page: Path) -> Iterator[tuple[Section, CutMap]]:
    """Cut a map into tiles; yield its section, and write the folder beside the page at the end where one is needed.

    Args:
        path: The map.
        options: Its scene, and how much of it goes into the page.
        page: The page that will show it.

    Raises:
        DataError: The map or the scene cannot be used.
        OutputError: The folder cannot be written, or holds what is not ours.
    """
    beside = tiles_folder(page)
    inputs: list[Path | str] = [
        path,
        map_beside(path, "confidence"),
        *(() if options.scene is None else source_files(options.scene)),
    ]
    check_outputs([page], inputs)
    page.absolute().parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=page.absolute().parent, prefix=f".{page.stem[:40]}.part-") as temporary:
        folder = Path(temporary) / "tiles"
        folder.mkdir()
        cut = cut_map(path, options.scene, folder)
        embedded = within_budget(folder, cut.level, int(options.map_mb * 1e6))
        tiles = MapTiles(folder, cut.layers, cut.level, embedded)
        yield map_section(tiles, cut, beside.name, path.name), cut
        if tiles.beside:
            with atomic_path(beside, KIND) as part:
                folder.rename(part)


def map_page(path: Path, section: Section, cut: CutMap, title: str | None) -> Page:
    """Return the page about a map alone."""
    total = max(sum(cut.counts), 1)
    shares = sorted(zip(cut.counts, cut.legend.names, strict=True), reverse=True)[:3]
    most = ", ".join(f"{name} {100 * count / total:.0f} %" for count, name in shares if count)
    lead = [f"A map of {len(cut.legend)} classes over {cut.grid.width:,} x {cut.grid.height:,} pixels: {most}."]
    return Page(title or path.stem, lead, (), (section,), cut.legend)
