"""Parameters and operations of every row that builds, under both settings, beside those that papers print.

They are kept in ``papers/tables/built.yaml``, so that a list needs no network; ``python -m
geodistill.papers.reproduce.row_costs`` counts them anew, and a test holds the file to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from geodistill.data.catalog.declarations import CATALOG
from geodistill.methods.schema import Recipe
from geodistill.papers.registry import all_tables
from geodistill.papers.reproduce.row_recipe import SHARED, Settings, load_row, row_flags, why_open
from geodistill.papers.table import PaperRow, Step, Table
from geodistill.reading import parse_yaml
from geodistill.spec import Legend, Spec
from geodistill.training.recipe import recipe_dict

if TYPE_CHECKING:
    from torch import nn

FILE = "built.yaml"


@dataclass(frozen=True)
class RowCost:
    """What a row's network costs at inference, on an image that it sees at its table's size.

    Attributes:
        parameters: In millions.
        decoder_parameters: In millions, of all but the encoder.
        gflops: Operations in G, two for a multiply-add, of convolutions, linear layers and attention.
    """

    parameters: float
    decoder_parameters: float
    gflops: float

    def to_dict(self) -> dict[str, float]:
        """Return a JSON-ready form."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.parameters:.2f} M, {self.gflops:.1f} G"


@cache
def built_costs() -> dict[tuple[str, str], dict[str, RowCost]]:
    """Return the costs of every row that builds, by table and label, then by settings."""
    text = (resources.files("geodistill.papers") / "tables" / FILE).read_text(encoding="utf-8")
    tables: dict[str, dict[str, dict[str, list[float]]]] = parse_yaml(text, FILE)
    return {
        (table, label): {settings: RowCost(*figures) for settings, figures in costs.items()}
        for table, rows in tables.items()
        for label, costs in rows.items()
    }


def count_costs(table: Table, row: PaperRow, settings: Settings) -> RowCost:
    """Build a row's network without weights or memory and count.

    Raises:
        GeodistillError: It cannot be built.
    """
    recipe = load_row(row.recipe, tuple(row_flags(Step(row.recipe, row.overrides), row.like, settings)))
    benchmark = CATALOG[table.dataset]
    legend = Legend(tuple(f"class {number}" for number in range(len(benchmark.legend or table.classes) or 2)))
    spec = Spec(legend, tuple(f"band {number}" for number in range(len(benchmark.bands))))
    decides = {key: value for key, value in recipe_dict(recipe).items() if key not in (*SHARED, "losses")}
    name, arguments = _described(_Described(_written(decides), spec, recipe))
    arguments = arguments | {"encoder_weights": None}
    return _counted(_Blank(name, _written(arguments), spec, image_size(table.size, arguments), arguments))


def image_size(visible: int, arguments: Mapping[str, Any]) -> int:
    """Return the side of the image that a network of these arguments sees at so many pixels."""
    return round(visible / float(arguments.get("scale", 1.0)))


def millions(network: nn.Module) -> tuple[float, float]:
    """Return a network's parameters in millions: all, and those outside its encoder."""
    whole = sum(p.numel() for p in network.parameters())
    encoder = sum(p.numel() for name, p in network.named_parameters() if name.startswith("encoder."))
    return whole / 1e6, (whole - encoder) / 1e6


@dataclass(frozen=True)
class _Described:
    """A recipe, compared with others by what decides its network alone: many rows differ in other keys."""

    decides: str
    spec: Spec
    recipe: Recipe = field(compare=False)


@dataclass(frozen=True)
class _Blank:
    """A network at inference on an image of a size, compared with others by its arguments as they are written."""

    name: str
    written: str
    spec: Spec
    size: int
    arguments: dict[str, Any] = field(compare=False)


def _written(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


@cache
def _described(of: _Described) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of a recipe's network at inference."""
    from geodistill.training.inspect import blank_method

    method = blank_method(of.recipe, of.spec)
    return method.name, method.arguments


@cache
def _counted(blank: _Blank) -> RowCost:
    from geodistill.training.inspect import blank_network, count_flops

    network = blank_network(blank.name, blank.arguments, blank.spec)
    whole, decoder = millions(network)
    flops = count_flops(network, blank.spec.channels, blank.size)
    return RowCost(round(whole, 4), round(decoder, 4), round(flops / 1e9, 3))


def all_costs() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Count every row that builds, in the form of the file."""
    tables: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, table in all_tables().items():
        rows: dict[str, dict[str, list[float]]] = {}
        for label, row in table.rows.items():
            if row.recipe and not why_open(row):
                costs: dict[Settings, RowCost] = {how: count_costs(table, row, how) for how in get_args(Settings)}
                rows[label] = {how: list(asdict(cost).values()) for how, cost in costs.items()}
                print(f"{name} {label}: {costs['printed']}", file=sys.stderr)
        tables |= {name: rows} if rows else {}
    return tables


def write_costs(path: Path) -> None:
    """Write the file: of each row ``[M parameters, M of the decoder, G operations]`` by settings."""
    lines = ["# Made by python -m geodistill.papers.reproduce.row_costs; as attributes of RowCost."]
    for name, rows in all_costs().items():
        lines += [f"{name}:", *(f"  {json.dumps(label)}: {json.dumps(costs)}" for label, costs in rows.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_costs(Path(str(resources.files("geodistill.papers"))) / "tables" / FILE)
