"""Parameters and operations of rows: the file has every row that builds, and counting gives its figures."""

from __future__ import annotations

import pytest

from geodistill.papers.registry import all_tables, find_table
from geodistill.papers.reproduce.listing import list_tables
from geodistill.papers.reproduce.row_costs import RowCost, built_costs, count_costs
from geodistill.papers.reproduce.row_recipe import Settings

SOME = [("kda/II", "FCN"), ("kda/II", "KDA(Ours)"), ("ktda/II", "all losses"), ("maflnet/1", "MANet")]


def test_every_row_that_builds_is_in_the_file() -> None:
    rows = {(name, label) for name, table in all_tables().items() for label, row in table.rows.items() if row.recipe}
    assert set(built_costs()) == rows
    assert all(set(costs) == {"printed", "released"} for costs in built_costs().values())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "label"), SOME)
@pytest.mark.parametrize("settings", ["printed", "released"])
def test_counting_gives_what_the_file_says(name: str, label: str, settings: Settings) -> None:
    table = find_table(name)
    assert count_costs(table, table.rows[label], settings) == built_costs()[table.name, label][settings]


@pytest.mark.slow
@pytest.mark.parametrize("tables_of", sorted({name.split("/")[0] for name, _ in built_costs()}))
def test_counting_gives_what_the_file_says_of_every_tenth_row(tables_of: str) -> None:
    """Rows of one network under other keys stand beside each other."""
    tables = all_tables()
    rows = [row for row in built_costs() if row[0].split("/")[0] == tables_of][::10]
    wrong = {
        (*row, settings): str(found)
        for row in rows
        for settings, cost in built_costs()[row].items()
        if (found := count_costs(tables[row[0]], tables[row[0]].rows[row[1]], settings)) != cost  # type: ignore[arg-type]
    }
    assert wrong == {}


def test_the_released_decoder_of_kda_has_the_printed_size() -> None:
    costs = built_costs()["kda/II", "KDA(Ours)"]
    assert costs["released"].decoder_parameters == pytest.approx(0.27, abs=0.005)  # Table IV
    assert costs["printed"].decoder_parameters > 2


def test_the_list_says_both_settings_where_they_differ() -> None:
    (table,) = list_tables(["kda/II"])
    text = table.to_text()
    assert "networks at 224 px" in text
    assert str(built_costs()["kda/II", "KDA(Ours)"]["printed"]) in text
    row = next(row for row in table.to_dict()["rows"] if row["row"] == "FCN")
    assert set(row["built"]["released"]) == set(RowCost(0, 0, 0).to_dict())
