"""`report`: what stands in a folder becomes one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from geodistill.errors import DataError
from geodistill.evaluation.comparison import Comparison
from geodistill.files import check_outputs, check_suffix, write_text
from geodistill.label.output_folder import ACCOUNT, INSTANCES, LEGEND, MANIFEST
from geodistill.report.contents import find_contents
from geodistill.report.cost import cost_section
from geodistill.report.label_sections import label_page
from geodistill.report.mapped import map_page, open_map
from geodistill.report.page import PAGES, Page
from geodistill.report.report_options import ReportOptions
from geodistill.report.several import runs_page, runs_within


def write_report(source: Path | str, out: Path | str, options: ReportOptions | None = None) -> Path:
    """Write one page about a run or a folder of runs, a Segmenter, an evaluation, a label set or a map.

    It is one file, unless a map in it is larger than ``map_mb``: then finer tiles lie in ``NAME_tiles`` beside it. Of a
    run, evaluations that lie in its folder are shown too; of an evaluation, its run where that is at hand.

    Args:
        source: The folder, or the map's file.
        out: The page, ``.html``; what is there is replaced.
        options: What else it shows.

    Returns:
        The page.

    Raises:
        DataError: The folder is none of these, or was altered.
        ArtifactError: The model was altered.
        OutputError: The page cannot be written, or would replace what it is about.
    """
    options, folder, path = options or ReportOptions(), Path(source), Path(out)
    check_suffix(path, PAGES)
    if folder.is_file():
        with open_map(folder, options, path) as (section, cut):
            return _write(path, map_page(folder, section, cut, options.title))
    if (folder / ACCOUNT).is_file():
        check_outputs([path], [folder / name for name in (ACCOUNT, INSTANCES, MANIFEST, LEGEND)])
        page = label_page(folder, options.title)
    elif runs := runs_within(folder):
        check_outputs([path], [run / "recipe.yaml" for run in runs])
        page = runs_page(folder, runs, options)
    else:
        contents = find_contents(folder)
        check_outputs([path], contents.files())
        page = contents.page(options)
    if options.map is None:
        return _write(path, page)
    with open_map(Path(options.map), options, path) as (section, cut):
        if page.legend is not None and page.legend.names != cut.legend.names:
            raise DataError(
                f"{options.map} has other classes than {source}", "a map of the model that the page is about"
            )
        return _write(path, replace(page, sections=[section, *page.sections], legend=page.legend or cut.legend))


def write_comparison(comparison: Comparison, out: Path | str) -> Path:
    """Write a page of compared models alone.

    Raises:
        OutputError: The page cannot be written.
    """
    check_suffix(out, PAGES)
    section = cost_section(comparison)
    lead = [f"{len(comparison.models)} models, side by side."]
    return _write(Path(out), Page("Models compared", lead, (), (section,)))


def _write(path: Path, page: Page) -> Path:
    write_text(path, page.to_html())
    return path
