"""`compare`: students and their teacher, what each costs and what it scores."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geodistill.description import WEIGHTS, find_segmenter
from geodistill.engine import progress_bar
from geodistill.errors import RecipeError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.files import write_text
from geodistill.inference.network import load_on
from geodistill.methods.teacher import OWN_STUDENT
from geodistill.metrics import Scores, places_drawn
from geodistill.segmenter import Segmenter
from geodistill.writing import csv_text, json_number


@dataclass(frozen=True)
class ComparedModel:
    """One model's figures.

    Attributes:
        name: Its directory or hub id, as given.
        teacher: Name of its teacher among the compared; ``None`` for a teacher, and where there is none.
        parameters: Number of parameters.
        file_bytes: Size of its file of weights.
        flops: Floating point operations of one image; a multiply-add is two.
        images_per_second: On this machine.
        miou: 0..1; ``None`` where it was never scored.
        kept: Share of the teacher's mIoU; ``None`` without a teacher, or where the two were not scored on the same
            images.
        interval: Ends of the 95 % interval of `miou` over groups of images, where they were scored here.
    """

    name: str
    teacher: str | None
    parameters: int
    file_bytes: int
    flops: int
    images_per_second: float
    miou: float | None
    kept: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """The figures of all models, each teacher before its students.

    Attributes:
        models: One entry per model.
        size: Side in pixels of the square images that operations are counted and passes timed for.
        batch_size: Images per forward pass.
        device: Where they were timed.
        scored_on: What mIoU is of.
        notes: What could not be compared, and why.
    """

    models: tuple[ComparedModel, ...]
    size: int
    batch_size: int
    device: str
    scored_on: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)

    def __str__(self) -> str:
        """Return an aligned table; ``-`` where there is no figure."""
        width = max(len("model"), *(len(model.name) + 2 for model in self.models))
        heading = f"{'model':<{width}} {'parameters':>12} {'GFLOPs':>9} {'images/s':>9} {'mIoU':>7} {'kept':>8}"
        lines = [heading + ("  95 %" if any(model.interval for model in self.models) else "")]
        for model in self.models:
            miou = "-" if model.miou is None else f"{100 * model.miou:.2f}"
            kept = "-" if model.kept is None else f"{100 * model.kept:.1f} %"
            name = model.name if model.teacher is None else f"  {model.name}"
            lines.append(
                f"{name:<{width}} {model.parameters:>12,} {model.flops / 1e9:>9.2f} {model.images_per_second:>9.2f}"
                f" {miou:>7} {kept:>8}{_ends(model)}"
            )
        lines.append(
            f"{self.size} x {self.size} pixels, {self.batch_size} at a time on {self.device}; {self.scored_on}"
        )
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from geodistill.notebook import html_text

        return html_text(str(self))

    def write_csv(self, path: Path | str) -> None:
        """Write one line per model.

        Raises:
            OutputError: The file cannot be written.
        """
        rows = [list(asdict(self.models[0])), *(list(asdict(model).values()) for model in self.models)]
        for row in rows[1:]:
            row[-1] = "" if row[-1] is None else "{:.4f} to {:.4f}".format(*row[-1])
        write_text(path, csv_text(rows))


def compare(
    models: Sequence[Path | str],
    *,
    teacher: Path | str | None = None,
    manifest: Path | str | None = None,
    split: str = "test",
    size: int | None = None,
    batch_size: int = EvaluateOptions.batch_size,
    repeats: int = 5,
    device: str = "auto",
    loaded: Mapping[Path, Segmenter] | None = None,
) -> Comparison:
    """Compare students with their teacher.

    A student names its teacher in its recipe; where that Segmenter is on this machine it is compared too, named or
    not. Models are timed in turn, so that whatever else the machine does slows all of them alike.

    Args:
        models: Segmenter directories, runs or hub ids.
        teacher: The teacher of all of them, instead of what their recipes say.
        manifest: Score every model on this data set, instead of taking the validation score it was trained with.
        split: The manifest's split.
        size: Side of the square images timed, in pixels; the largest tile of the models where not given.
        batch_size: Batch size (images per forward pass).
        repeats: Timed passes of each model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        loaded: Those that are loaded already, by directory or run.

    Raises:
        ArtifactError: There is no such model, or it is altered.
        DataError: The manifest cannot be scored on.
        RecipeError: A number is out of its range, or there is no such device.
    """
    if min(batch_size, repeats, 1 if size is None else size) < 1 or not models:
        raise RecipeError(f"compare with size {size}, batch {batch_size}, repeats {repeats}", "at least 1 and a model")
    family = Lineage(models, teacher, loaded or {})
    placed = {folder: load_on(segmenter, device) for folder, segmenter in family.segmenters.items()}
    side = size or max(segmenter.tile for segmenter in placed.values())
    rates = images_per_second(list(placed.values()), side, batch_size, repeats)
    options = EvaluateOptions(batch_size=batch_size, device=device)
    here: dict[Path, Scores] = {}
    if manifest is not None:
        here = {folder: evaluate(segmenter, manifest, split, options=options) for folder, segmenter in placed.items()}
    scores = {f: json_number(here[f].miou) if f in here else stored_miou(segmenter) for f, segmenter in placed.items()}
    compared, notes = [], list(family.notes)
    for (folder, segmenter), rate in zip(placed.items(), rates, strict=True):
        above = family.teachers[folder]
        kept, name = None, family.names[folder]
        if above is not None and manifest is None and _data(segmenter) != _data(placed[above]):
            notes.append(f"{name} and {family.names[above]} were validated on different data: name one with --manifest")
        elif above is not None:
            kept = _share(scores[folder], scores[above])
        parameters = sum(p.numel() for p in segmenter.parameters())
        taught_by = None if above is None else family.names[above]
        size_on_disk, operations = (folder / WEIGHTS).stat().st_size, flops(segmenter, side)
        costs = (parameters, size_on_disk, operations, rate)
        interval = here[folder].interval if here else None
        compared.append(ComparedModel(name, taught_by, *costs, scores[folder], kept, interval))
    drawn = {scores.groups for scores in here.values() if scores.interval}
    notes += [f"95 % intervals over {places_drawn(places)}" for places in drawn]
    scored_on = "mIoU of validation in training" if manifest is None else f"mIoU of {split} in {manifest}"
    used = str(next(iter(placed.values())).network.mean.device)
    return Comparison(tuple(compared), side, batch_size, used, scored_on, tuple(notes))


class Lineage:
    """The models to compare and who taught whom; each teacher before its students.

    Args:
        models: Segmenter directories, runs or hub ids.
        teacher: The teacher of all of them, instead of what their recipes say.
        at_hand: Those that are loaded already, by directory or run.

    Attributes:
        segmenters: By directory.
        names: As given, or as a student's recipe names it.
        teachers: Directory of each one's teacher, or ``None``.
        notes: Teachers that are not on this machine.

    Raises:
        ArtifactError: There is no such model, or it is altered.
    """

    def __init__(
        self, models: Sequence[Path | str], teacher: Path | str | None, at_hand: Mapping[Path, Segmenter]
    ) -> None:
        asked = [*([] if teacher is None else [teacher]), *models]
        self.names = {find_segmenter(name).resolve(): str(name) for name in asked}
        self.notes: list[str] = []
        given = {find_segmenter(name).resolve(): segmenter for name, segmenter in at_hand.items()}
        loaded = {folder: given.get(folder) or Segmenter.load(folder) for folder in self.names}
        if teacher is not None:
            shared = find_segmenter(teacher).resolve()
            self.teachers: dict[Path, Path | None] = {f: None if f == shared else shared for f in loaded}
        else:
            self.teachers = {folder: self._named_teacher(folder, segmenter) for folder, segmenter in loaded.items()}
            for folder in {f for f in self.teachers.values() if f is not None} - set(loaded):
                loaded[folder], self.teachers[folder] = Segmenter.load(folder), None
        self.segmenters = {folder: loaded[folder] for folder in self._arranged()}

    def _named_teacher(self, folder: Path, segmenter: Segmenter) -> Path | None:
        """Find the teacher that a student's recipe names."""
        recipe = segmenter.provenance.get("recipe")
        config = recipe.get("teacher") if isinstance(recipe, dict) else None
        named = config.get("segmenter") if isinstance(config, dict) else None
        if isinstance(named, list) and named:
            self.notes.append(
                f"{self.names[folder]} learned from {', '.join(map(str, named))}: name one with --teacher"
            )
        if not isinstance(named, str) or named == OWN_STUDENT:
            return None
        if not Path(named).is_dir():
            self.notes.append(f"{self.names[folder]} learned from {named}, which is not here: name it with --teacher")
            return None
        teacher = find_segmenter(named).resolve()
        self.names.setdefault(teacher, named)
        return teacher

    def _arranged(self) -> list[Path]:
        """Each teacher, followed by its students."""
        order: list[Path] = []
        waiting = [folder for folder, teacher in self.teachers.items() if teacher is None]
        while waiting:
            order.append(waiting.pop(0))
            waiting = [folder for folder, teacher in self.teachers.items() if teacher == order[-1]] + waiting
        return [*order, *(folder for folder in self.teachers if folder not in order)]


@torch.inference_mode()
def images_per_second(segmenters: Sequence[Segmenter], size: int, batch_size: int, repeats: int = 5) -> list[float]:
    """Time models in turn on random images.

    Args:
        segmenters: On their device, ready for inference.
        size: Side of the square images in pixels.
        batch_size: Batch size (images per forward pass).
        repeats: Timed passes of each model, behind one that is not timed.

    Returns:
        Images per second of each: of the median pass.
    """
    inputs = []
    for segmenter in segmenters:
        image = torch.rand(batch_size, segmenter.spec.channels, size, size, device=segmenter.network.mean.device)
        inputs.append(image.contiguous(memory_format=torch.channels_last))
    seconds: list[list[float]] = [[] for _ in segmenters]
    turns = range(repeats + 1)
    for turn in progress_bar(turns, "timing", unit="turn", delay=2, leave=False):
        for index, (segmenter, image) in enumerate(zip(segmenters, inputs, strict=True)):
            start = time.perf_counter()
            segmenter(image)
            if image.is_cuda:
                torch.cuda.synchronize()
            if turn:
                seconds[index].append(time.perf_counter() - start)
    return [batch_size / statistics.median(each) for each in seconds]


def flops(segmenter: Segmenter, size: int) -> int:
    """Count the floating point operations of one square image; a multiply-add is two."""
    with torch.device("meta"):
        copy = Segmenter(segmenter.name, segmenter.arguments, segmenter.spec, segmenter.tile, {})
        image = torch.zeros(1, segmenter.spec.channels, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy(image)
    return int(counter.get_total_flops())


def stored_miou(segmenter: Segmenter) -> float | None:
    """Return the validation mIoU, 0..1, that a Segmenter was saved with."""
    scores = segmenter.provenance.get("scores")
    miou = scores.get("validation_miou") if isinstance(scores, dict) else None
    return json_number(miou) if isinstance(miou, int | float) else None


def _ends(model: ComparedModel) -> str:
    return "" if model.interval is None else f"  {100 * model.interval[0]:.1f} to {100 * model.interval[1]:.1f}"


def _data(segmenter: Segmenter) -> object:
    return segmenter.provenance.get("manifest")


def _share(miou: float | None, best: float | None) -> float | None:
    return miou / best if miou is not None and best else None
