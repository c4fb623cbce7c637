"""The page about a folder of runs: what each was trained as and scores, and what each costs."""

from __future__ import annotations

from pathlib import Path

from geodistill.errors import counted
from geodistill.evaluation.comparison import compare
from geodistill.report.contents import Contents, find_contents
from geodistill.report.cost import cost_section
from geodistill.report.evaluated import Evaluation
from geodistill.report.markup import Html, element
from geodistill.report.page import Page, Section, titled_table, wide
from geodistill.report.report_options import ReportOptions
from geodistill.report.score_sections import interval_text, percent
from geodistill.report.story import plain_encoder


def runs_within(folder: Path) -> list[Path]:
    """Return the runs that lie in a folder, by name; none where it is a run itself."""
    if not folder.is_dir() or (folder / "recipe.yaml").is_file():
        return []
    return sorted(entry for entry in folder.iterdir() if (entry / "recipe.yaml").is_file())


def runs_page(folder: Path, runs: list[Path], options: ReportOptions) -> Page:
    """Return the page that sets the runs of a folder beside each other.

    Raises:
        DataError: One of them was altered.
        ArtifactError: The model of one was altered.
    """
    contents = [find_contents(run) for run in runs]
    finished = {each.folder: each.segmenter for each in contents if each.segmenter is not None}
    lead = [f"{counted(len(runs), 'run')} of training in {folder}, {len(finished)} of them finished."]
    sections = [_scores(contents)]
    if options.speed and finished:
        sections.append(cost_section(compare([*finished, *options.beside], device=options.device, loaded=finished)))
    return Page(options.title or folder.resolve().name, lead, (), sections)


def _scores(contents: list[Contents]) -> Section:
    titles = ("run", "method", "network", "steps", "validation", "evaluation", "mIoU", "95 % interval", "pixels right")
    rows, figures = [], []
    for each in contents:
        training, segmenter = each.training, each.segmenter
        assert training is not None
        scores = {} if segmenter is None else segmenter.provenance.get("scores")
        miou = scores.get("validation_miou") if isinstance(scores, dict) else None
        validation = miou if isinstance(miou, int | float) else float("nan")
        encoder = plain_encoder(str(training.key("network.encoder") or ""))
        about = (
            each.folder.name,
            str(training.key("method")),
            encoder,
            str(training.key("trainer.max_steps")),
        )
        for evaluation in each.evaluations or (None,):
            rows.append(_row(about, validation, evaluation))
        figures.append(
            {"run": str(each.folder), "validation_miou": miou}
            | {"evaluations": [_figures(evaluation) for evaluation in each.evaluations]}
        )
    table = titled_table("classes", "Scores in percent", titles, rows)
    return Section("runs", "Runs", wide("Runs", table), {"runs": figures})


def _row(about: tuple[str, str, str, str], validation: float, evaluation: Evaluation | None) -> Html:
    name, *words = about
    cells = [*words, percent(validation)]
    if evaluation is None:
        cells += ["\u2013"] * 4
    else:
        scores = evaluation.scores
        interval = interval_text(evaluation.intervals.get("miou"))
        name_and_split = ", ".join(dict.fromkeys((evaluation.folder.name, evaluation.split)))
        cells += [name_and_split, percent(scores.miou), interval, percent(scores.oa)]
    return element(
        "tr", None, element("th", {"scope": "row"}, name), *(element("td", {"class": "n"}, cell) for cell in cells)
    )


def _figures(evaluation: Evaluation) -> dict[str, object]:
    ends = evaluation.intervals.get("miou")
    return {
        "folder": str(evaluation.folder),
        "split": evaluation.split,
        "miou": evaluation.scores.to_dict()["miou"],
        "interval": None if ends is None else list(ends),
    }
