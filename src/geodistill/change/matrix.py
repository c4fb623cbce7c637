"""The from-to matrix of two maps: how much of each class became what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.writing import aligned, share_decimals


@dataclass(frozen=True)
class ChangeMatrix:
    """Areas by class before and after.

    Attributes:
        names: Class names.
        areas: ``(K, K)`` areas, rows by class before and columns by class after.
        unit: ``m2``, or ``pixels`` where the maps are not georeferenced.
        dismissed: Area of differences that were taken for none: shifts, and patches under the least area. They stand
            on the diagonal.
    """

    names: tuple[str, ...]
    areas: NDArray[np.float64]
    unit: str
    dismissed: float

    @property
    def changed(self) -> float:
        """Area that changed."""
        return float(self.areas.sum() - np.trace(self.areas))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        changes = [
            {"from": self.names[a], "to": self.names[b], "area": float(self.areas[a, b])}
            for a, b in np.argwhere(self.areas > 0).tolist()
            if a != b
        ]
        about = {"unit": self.unit, "area": float(self.areas.sum()), "changed": self.changed}
        matrix = {"classes": list(self.names), "matrix": self.areas.tolist(), "changes": changes}
        return about | {"dismissed": self.dismissed} | matrix

    def rows(self) -> list[list[Any]]:
        """Return the matrix as rows of a table with sums, in its unit."""
        named = [[name, *map(float, row), float(row.sum())] for name, row in zip(self.names, self.areas, strict=True)]
        total = ["sum after", *map(float, self.areas.sum(0)), float(self.areas.sum())]
        return [[f"from \\ to ({self.unit})", *self.names, "sum before"], *named, total]

    def __str__(self) -> str:
        factor, unit = (1e-4, "ha") if self.unit == "m2" else (1.0, "pixels")
        decimals = 0 if unit == "pixels" else share_decimals(self.areas.sum() * factor)
        head, *rows = self.rows()
        shown = [[f"from \\ to ({unit})", *head[1:]]]
        shown += [[str(row[0]), *(f"{value * factor:,.{decimals}f}" for value in row[1:])] for row in rows]
        lines = aligned(shown)
        whole = self.areas.sum()
        share = f" ({self.changed / whole:.2%})" if whole else ""
        lines += ["", f"changed {self.changed * factor:,.{decimals}f} {unit}{share}"]
        if self.dismissed:
            lines.append(f"dismissed as shifts or too small {self.dismissed * factor:,.{decimals}f} {unit}")
        return "\n".join(lines)
