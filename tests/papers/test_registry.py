"""The registry: names, columns, and every row of every table against its recipe."""

from __future__ import annotations

from typing import Any

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import UnknownNameError
from geodistill.label.segmenters.promptable import COMBINATIONS
from geodistill.nn.encoders import parse_name
from geodistill.papers.registry import PAPERS, all_tables, find_table
from geodistill.papers.reproduce.planner import as_flags, load_row, why_open
from geodistill.papers.samrs_tables import PROMPT_FIGURES
from geodistill.papers.sanity import complaints
from geodistill.training.recipe import list_recipes

ROWS = {f"{table.name} {label}": row for table in all_tables().values() for label, row in table.rows.items()}
RUNS = [
    (f"{name} {recipe}", recipe, overrides)
    for name, row in ROWS.items()
    for recipe, overrides in [*((s.recipe, s.overrides) for s in row.before), (row.recipe, row.overrides)]
    if recipe
]


def test_every_paper_has_its_tables() -> None:
    names = list(all_tables())
    assert names[:6] == [f"samrs/{number}" for number in range(1, 7)]
    assert names[6:12] == [f"ktda/{number}" for number in ("I", "II", "III", "IV", "V", "VI")]
    assert {"kda/II", "kda/VI", "maflnet/1", "maflnet/3", "metasegnet/I", "metasegnet/III"} <= set(names)


def test_every_declared_table_is_described() -> None:
    for module in PAPERS.values():
        assert set(module.ABOUT) == set(module.TABLES)


def test_a_row_is_declared_with_what_its_table_is_of() -> None:
    found = all_tables()
    assert found["metasegnet/I"].rows["MetaSegNet"].recipe == "metasegnet-openearthmap"
    assert found["metasegnet/V"].about.dataset == "openearthmap"


@pytest.mark.parametrize("name", ["ktda/2", "ktda/II", "KTDA/ii", " ktda/2 "])
def test_a_number_may_be_roman_or_arabic(name: str) -> None:
    assert find_table(name) is find_table("ktda/II")


def test_arabic_tables_take_roman_numbers_too() -> None:
    assert find_table("maflnet/III").name == "maflnet/3"
    assert find_table("samrs/4").about.dataset == "isaid"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ktda", "unknown table 'ktda'; expected a known table, such as ktda/"),
        ("ktda/11", "unknown table 'ktda/11'"),
        ("ktda/0", "unknown table 'ktda/0'"),
        ("ktdb/2", "unknown paper 'ktdb'; expected a known paper, such as ktda"),
        ("", "unknown paper ''"),
    ],
)
def test_a_bad_name_lists_the_known_ones(name: str, told: str) -> None:
    with pytest.raises(UnknownNameError, match="reproduce --list") as caught:
        find_table(name)
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "recipe", "overrides"), RUNS, ids=[run[0] for run in RUNS])
def test_every_run_is_a_shipped_recipe_with_known_keys(name: str, recipe: str, overrides: dict[str, Any]) -> None:
    loaded = load_row(recipe, tuple(as_flags(overrides)))
    for key, value in overrides.items():
        found: Any = loaded
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert (list(found) if isinstance(found, tuple) else found) == value
    parse_name(loaded.network.encoder)  # is known
    if loaded.teacher is not None and loaded.teacher.segmenter is None:
        parse_name(loaded.teacher.encoder)


def test_a_row_is_open_with_a_reason_or_can_be_run() -> None:
    for name, row in ROWS.items():
        assert sum(map(bool, (row.open, row.recipe, row.prompt))) == 1, name
        if row.recipe:
            assert {row.recipe, *(step.recipe for step in row.before)} <= set(list_recipes())
            assert why_open(row, read=False) == ""


def test_tables_are_of_sets_in_the_catalogue_and_means_over_their_classes() -> None:
    for table in all_tables().values():
        benchmark = CATALOG[table.about.dataset]
        assert table.about.split is None or table.about.split in benchmark.splits
        other = CATALOG[table.about.scored_set].legend if table.about.scored_set else None
        assert other is None or set(table.about.class_map.values()) <= set(other.names)
        if table.about.classes:
            assert benchmark.legend is not None
            assert set(table.about.classes) <= set(benchmark.legend.names)
        for row in table.rows.values():
            assert all(one in CATALOG for step in row.before for one in step.sets)


def test_columns_are_those_declared_and_those_with_figures() -> None:
    table = find_table("kda/IV")
    assert table.columns == ("iou", "miou", "oa", "decoder_parameters", "gflops")
    assert set(find_table("samrs/2").columns) == {"images", "classes", "instances"}


def test_samrs_prompts_are_the_combinations_that_ablate_compares() -> None:
    rows = find_table("samrs/1").rows
    assert list(rows) == ["+".join(prompt) for prompt in COMBINATIONS]
    known = {label: tuple(row.published.values()) for label, row in rows.items() if row.published}
    assert known == PROMPT_FIGURES


def test_a_printed_figure_that_cannot_be_right_has_a_note() -> None:
    wrong = {name for name, row in ROWS.items() if complaints(row.published)}
    assert {"kda/II KDA", "maflnet/1 teacher"} <= wrong
    assert all(ROWS[name].note for name in wrong)


def test_sep_rows_differ_from_their_twins_in_the_pre_training_alone() -> None:
    rows = find_table("samrs/4").rows
    alone, taught = rows["U-Net ResNet-50 IMP"], rows["U-Net ResNet-50 IMP+SEP"]
    assert {k: v for k, v in alone.overrides.items() if k != "network.encoder_weights"} == taught.overrides
    (step,) = taught.before
    assert (step.recipe, step.into, step.part, step.sets) == ("sep", "init", "segmenter", ("sota", "sior", "fast"))
    assert step.overrides["network.encoder_weights"] == alone.overrides["network.encoder_weights"]
    few = find_table("samrs/6").rows["U-Net ResNet-50 1 % IMP+SEP"]
    assert few.overrides["data.fraction"] == 0.01
    assert few.before == (step,)


def test_notes_stand_at_the_rows_that_they_are_of() -> None:
    potsdam, isaid = find_table("samrs/3").rows, find_table("samrs/4").rows
    assert [label for label, row in potsdam.items() if "another protocol" in row.note] == [
        "UPerNet Swin-T IMP",
        "UPerNet ViT-B MAE",
    ]
    assert {label for label, row in isaid.items() if "did not converge" in row.note} == {
        label for label, row in isaid.items() if row.published
    }
