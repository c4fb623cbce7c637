"""What `fit` left in a folder, read back: recipe, logged curves, and the trained model."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodistill.description import DESCRIPTION, find_segmenter
from geodistill.errors import DataError
from geodistill.reading import ANNOTATION_BYTES, read_text, read_yaml
from geodistill.segmenter import Segmenter

_PART = re.compile(r"from_(\d+)")


@dataclass(frozen=True)
class Curve:
    """A logged value over the steps of training.

    Attributes:
        phase: The phase before the steps on labels that it is of; empty for these.
        name: As it was logged, such as ``train/ce``.
        steps: From 1.
        values: One per step.
    """

    phase: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Training:
    """A run of training.

    Attributes:
        folder: Where it lies.
        recipe: What was trained.
        curves: What was logged, phase by phase.
        segmenter: The trained model; ``None`` for a run that is not finished, or made an encoder alone.
    """

    folder: Path
    recipe: Mapping[str, Any]
    curves: tuple[Curve, ...]
    segmenter: Segmenter | None

    def key(self, dotted: str) -> Any:
        """Return a key of the recipe, such as ``data.manifest``; ``None`` where it is not there."""
        value: Any = self.recipe
        for name in dotted.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def read_training(folder: Path) -> Training:
    """Read the folder of a run.

    Raises:
        DataError: It holds no recipe, or logs that are not as they were written.
        ArtifactError: Its model was altered.
    """
    recipe = read_yaml(folder / "recipe.yaml")
    if not isinstance(recipe, Mapping):
        raise DataError(f"{folder / 'recipe.yaml'} holds no recipe", "the file as fit wrote it")
    phases = sorted(path.parent.name for path in (folder / "logs").glob("*/csv") if path.is_dir())
    curves = [curve for phase in (*phases, "") for curve in read_curves(folder / "logs" / phase / "csv", phase)]
    finished = (folder / "segmenter" / DESCRIPTION).is_file()
    return Training(folder, recipe, tuple(curves), Segmenter.load(find_segmenter(folder)) if finished else None)


def read_curves(logs: Path, phase: str) -> list[Curve]:
    """Read the CSV logs of one phase; of steps that were run twice, after a stop, the last run counts.

    Raises:
        DataError: A log is not as it was written.
    """
    points: dict[str, dict[int, float]] = {}
    parts = sorted((int(match[1]), path) for path in logs.glob("from_*") if (match := _PART.fullmatch(path.name)))
    for start, part in parts:
        file = part / "metrics.csv"
        if not file.is_file():
            continue
        for values in points.values():
            for step in [step for step in values if step > start]:
                del values[step]
        try:
            for row in csv.DictReader(io.StringIO(read_text(file, ANNOTATION_BYTES))):
                step = int(row["step"]) + 1
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        points.setdefault(name, {})[step] = float(value)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise DataError(f"{file} is no log of a run ({error})", "the file as fit wrote it") from error
    ordered = {name: sorted(values.items()) for name, values in points.items() if values}
    return [Curve(phase, name, *map(tuple, zip(*each, strict=True))) for name, each in ordered.items()]
