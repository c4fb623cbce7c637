"""Scoring a model on another set's classes: which of its classes stands for which of theirs, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, check_name
from geodistill.reading import read_yaml
from geodistill.spec import IGNORE_INDEX, Legend

OTHER = "(other)"
"""Stands for every class that only one side has. Pixels of it count as wrong where the other side says different."""


@dataclass(frozen=True)
class ClassMap:
    """Two legends brought to their common classes.

    Attributes:
        legend: The common classes, under the set's names, and `OTHER` last.
        prediction: ``(256,)`` uint8: common class of each of the model's.
        truth: ``(256,)`` uint8: common class of each of the set's; `IGNORE_INDEX` stays.
    """

    legend: Legend
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]

    @property
    def subset(self) -> tuple[str, ...]:
        """The common classes, which means are taken over."""
        return self.legend.names[:-1]


def make_class_map(pairs: Mapping[str, str], model: Legend, dataset: Legend) -> ClassMap:
    """Map the model's classes to a set's.

    Args:
        pairs: Class of the set by class of the model; several classes of the model may stand for one of the set.
        model: The model's legend.
        dataset: The set's legend.

    Raises:
        UnknownNameError: A name is in neither legend.
        DataError: No pair, or the set has a class of `OTHER`'s name.
    """
    if not pairs or OTHER in dataset.names:
        raise DataError(f"a class map of {len(pairs)} pairs", f"at least one, and no class named {OTHER}")
    for ours, theirs in pairs.items():
        for kind, name, legend in (("class of the model", ours, model), ("class of the set", theirs, dataset)):
            check_name(kind, name, legend.names)
    common = [name for name in dataset.names if name in pairs.values()]
    colours = [dataset.colours[dataset.names.index(name)] for name in common]
    grey = next((v, v, v) for v in range(128, 256) if (v, v, v) not in colours)
    prediction, truth = (np.full(256, len(common), np.uint8) for _ in range(2))
    prediction[IGNORE_INDEX] = truth[IGNORE_INDEX] = IGNORE_INDEX
    for ours, theirs in pairs.items():
        prediction[model.names.index(ours)] = common.index(theirs)
    for index, name in enumerate(dataset.names):
        if name in common:
            truth[index] = common.index(name)
    return ClassMap(Legend((*common, OTHER), (*colours, grey)), prediction, truth)


def read_pairs(text: str) -> dict[str, str]:
    """Read ``"building=house tree=tree"``, or a YAML file that maps the model's names to the set's.

    Raises:
        DataError: It is neither.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml", ".json"):
        data = read_yaml(path)
        if not isinstance(data, dict):
            raise DataError(f"class map {path}", "a mapping of the model's names to the set's")
        return {str(ours): str(theirs) for ours, theirs in data.items()}
    pairs = {part: part.partition("=") for part in text.split()}
    if bad := [part for part, (ours, _, theirs) in pairs.items() if not ours or not theirs]:
        raise DataError(f"class map part {bad[0]!r}", "model=set, such as 'building=house', or a YAML file")
    return {ours: theirs for ours, _, theirs in pairs.values()}
