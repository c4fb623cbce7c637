"""Whether a model states a coverage of class sets, and which classes of a pixel are in its set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geodistill.description import find_segmenter, is_graph, load_description
from geodistill.errors import RecipeError
from geodistill.segmenter import Segmenter


def check_class_sets(model: Segmenter | Path | str, coverage: float) -> None:
    """Make sure that a model states a coverage, before any work is done.

    Raises:
        RecipeError: It does not.
    """
    if isinstance(model, Segmenter):
        stated: Mapping[str, float] = model.class_sets
    else:
        stated = {} if is_graph(model) else load_description(find_segmenter(model)).get("class_sets", {})
    least_probability(stated, coverage)


def least_probability(stated: Mapping[str, float], coverage: float) -> float:
    """Return the probability from which on a class is in the set.

    Args:
        stated: It by coverage, see `Segmenter.class_sets`.
        coverage: Share of the pixels whose set is to hold the true class.

    Raises:
        RecipeError: The coverage is not among them.
    """
    if f"{coverage:g}" not in stated:
        expected = f"one of {', '.join(stated)}" if stated else "a model fitted with trainer.calibrate on enough images"
        raise RecipeError(f"class sets of coverage {coverage:g} from this model", expected)
    return stated[f"{coverage:g}"]
