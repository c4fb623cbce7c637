"""What stands in a folder, and the sections that show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geodistill.data.manifest import Manifest
from geodistill.description import DESCRIPTION, WEIGHTS, find_segmenter
from geodistill.errors import DataError
from geodistill.evaluation.comparison import compare
from geodistill.evaluation.results import KIND as EVALUATION
from geodistill.folders import read_marker, results_within
from geodistill.report.balance import balance_section
from geodistill.report.cost import cost_section
from geodistill.report.evaluated import Evaluation, read_evaluation
from geodistill.report.image_section import images_section
from geodistill.report.learning import learning_section
from geodistill.report.origin import origin_section
from geodistill.report.page import Page, Section
from geodistill.report.reliability_chart import confidence_section
from geodistill.report.report_options import ReportOptions
from geodistill.report.score_sections import confusion_section, scores_section
from geodistill.report.story import key_figures, model_sentence, score_sentence, training_sentences
from geodistill.report.trained import Training, read_training
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend


@dataclass(frozen=True)
class Contents:
    """What a folder holds, and what belongs to it.

    Attributes:
        folder: The folder.
        training: The run of training.
        segmenter: The trained model.
        evaluations: What it scored, one or several times.
        manifest: The data set.
        missing: What is named and not at hand, one sentence each.
    """

    folder: Path
    training: Training | None
    segmenter: Segmenter | None
    evaluations: tuple[Evaluation, ...]
    manifest: Manifest | None
    missing: tuple[str, ...]

    def files(self) -> list[Path]:
        """Return files that a page must not replace."""
        files = [] if self.manifest is None or self.manifest.path is None else [self.manifest.path]
        return [*files, *(self.folder / name for name in (DESCRIPTION, WEIGHTS, "recipe.yaml", "metrics.json"))]

    def page(self, options: ReportOptions) -> Page:
        """Return the page that shows it."""
        first = self.evaluations[0] if self.evaluations else None
        lead = [] if self.segmenter is None else [model_sentence(self.segmenter, self.training)]
        lead += [] if self.training is None else training_sentences(self.training, self.manifest)
        lead += [score_sentence(evaluation) for evaluation in self.evaluations]
        if not self.evaluations:
            lead.append("It was not evaluated yet: 'geodistill evaluate' leaves its scores where this page finds them.")
        legend = None if self.segmenter is None else self.segmenter.spec.legend
        legend = first.legend if first is not None else legend
        sections = self._sections(options, legend)
        title = options.title or self._name()
        return Page(title, [*lead, *self.missing], key_figures(self.segmenter, first), sections, legend)

    def _name(self) -> str:
        """Return what the page is about: the folder; of an evaluation the model, and the split."""
        if len(self.evaluations) != 1 or self.evaluations[0].folder != self.folder:
            return self.folder.resolve().name
        return f"{Path(self.evaluations[0].model).name}, {self.evaluations[0].split}"

    def _sections(self, options: ReportOptions, legend: Legend | None) -> list[Section]:
        sections = []
        for number, evaluation in enumerate(self.evaluations):
            name, title = (
                ("scores", "Scores") if not number else (f"scores-{number + 1}", f"Scores, {evaluation.split}")
            )
            sections.append(scores_section(evaluation, name, title, legend))
        if self.evaluations:
            sections += _evaluation_sections(self.evaluations[0])
        if options.speed and self.segmenter is not None:
            model = self.training.folder if self.training is not None else self.folder
            loaded = {model: self.segmenter}
            sections.append(cost_section(compare([model, *options.beside], device=options.device, loaded=loaded)))
        if self.training is not None:
            sections.append(learning_section(self.training))
        if self.manifest is not None:
            sections.append(balance_section(self.manifest, legend))
        return [*sections, origin_section(self.training, self.segmenter, self.evaluations)]


def _evaluation_sections(evaluation: Evaluation) -> list[Section]:
    sections = [confusion_section(evaluation)]
    if evaluation.shown:
        sections.append(images_section(evaluation))
    if evaluation.calibration is not None:
        sections.append(confidence_section(evaluation.calibration))
    return sections


def find_contents(folder: Path) -> Contents:
    """Read what a folder holds: a run with the evaluations in it, an evaluation with its run, or a Segmenter.

    Raises:
        DataError: It holds none of these, or was altered.
        ArtifactError: The model was altered.
    """
    run, evaluations = folder, list[Evaluation]()
    if (folder / "metrics.json").is_file():
        evaluations = [read_evaluation(folder)]
        run = Path(evaluations[0].model)
    elif (folder / "recipe.yaml").is_file():
        inside = [folder / name for name in results_within(folder)]
        marked = [(place, read_marker(place)) for place in inside]
        evaluations = [read_evaluation(place) for place, marker in marked if marker and marker[0] == EVALUATION]
    elif not (folder / DESCRIPTION).is_file():
        raise DataError(
            f"{folder} holds nothing that a report is made of",
            "a run of 'geodistill fit', a Segmenter, or results of 'geodistill evaluate'",
        )
    training = read_training(run) if (run / "recipe.yaml").is_file() else None
    segmenter = None if training is None else training.segmenter
    if segmenter is None and (run / DESCRIPTION).is_file():
        segmenter = Segmenter.load(find_segmenter(run))
    missing = [] if training or segmenter else [f"The model {run} is not at hand, so that only its scores are shown."]
    name = str((training and training.key("data.manifest")) or (evaluations[0].manifest if evaluations else ""))
    manifest = Manifest.load(name) if name and Path(name).is_file() else None
    if name and manifest is None:
        missing.append(f"The manifest {name} is not at hand, so that the balance of its classes is not shown.")
    if segmenter is not None and any(each.fingerprint not in ("", segmenter.fingerprint()) for each in evaluations):
        missing.append("An evaluation here is of other weights than the model has now.")
    return Contents(folder, training, segmenter, tuple(evaluations), manifest, tuple(missing))
