"""Estimates as rows of figures and as a text to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.assess.estimators import Estimated, SampleEstimates
from geodistill.writing import aligned, json_number, share_decimals

HECTARE = 10_000.0


def estimate_rows(
    names: Sequence[str], estimates: SampleEstimates, area: float, mapped: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return for each class: name, areas in the unit of ``area``, accuracies, each with its standard error."""
    rows = []
    for index, name in enumerate(names):
        figures = {"area": (estimates.area, area), "user": (estimates.user, 1.0), "producer": (estimates.producer, 1.0)}
        row: dict[str, Any] = {"name": name, "mapped_area": json_number(mapped[index])}
        for key, (figure, factor) in figures.items():
            value, margin = figure.value[index] * factor, figure.margin[index] * factor
            row[key], row[f"{key}_se"] = json_number(value), json_number(figure.error[index] * factor)
            row[f"{key}_low"] = json_number(np.clip(value - margin, 0, factor))
            row[f"{key}_high"] = json_number(np.clip(value + margin, 0, factor))
        rows.append(row)
    return rows


def estimate_text(
    names: Sequence[str], estimates: SampleEstimates, area: float, unit: str, mapped: NDArray[np.float64]
) -> str:
    """Return a table of the classes, the overall accuracy, and the error matrix; intervals are of 95 %."""
    factor, shown = (1 / HECTARE, "ha") if unit == "m2" else (1.0, "pixels")
    heads = ["class", f"mapped {shown}", f"area {shown} ± 95 %", "user's ± 95 %", "producer's ± 95 %"]
    rows = []
    for index, name in enumerate(names):
        on_map = "-" if math.isnan(mapped[index]) else f"{mapped[index] * factor:,.{share_decimals(area * factor)}f}"
        cells = [name, on_map, _with_margin(estimates.area, index, area * factor, share_decimals(area * factor))]
        cells += [_with_margin(figure, index, 1.0, 3) for figure in (estimates.user, estimates.producer)]
        rows.append(cells)
    overall = f"overall accuracy {float(estimates.overall.value):.3f} ± {float(estimates.overall.margin):.3f}"
    total = int(estimates.counts.sum())
    counts = [[name, *map(str, row)] for name, row in zip(names, estimates.counts.tolist(), strict=True)]
    matrix = aligned([["map \\ reference", *names], *counts])
    return "\n".join([*aligned([heads, *rows]), "", f"{overall}, from {total} points", "", *matrix])


def _with_margin(figure: Estimated, index: int, factor: float, decimals: int) -> str:
    value, margin = figure.value[index] * factor, figure.margin[index] * factor
    return "-" if math.isnan(value) else f"{value:,.{decimals}f} ± {margin:,.{decimals}f}"
