"""The registry: names, columns, every row of every table against its recipe, and rows that can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import UnknownNameError
from geodistill.label.segmenters.promptable import COMBINATIONS
from geodistill.methods.schema import Recipe
from geodistill.nn.encoders import parse_name
from geodistill.papers.registry import PAPERS, all_tables, find_table, prompt_figures
from geodistill.papers.reproduce.planner import Planner
from geodistill.papers.reproduce.row_recipe import SHARED, load_row, row_flags, value_of, why_open
from geodistill.papers.table import PaperRow, Step, Table
from geodistill.training.recipe import list_recipes, recipe_dict

TABLES = list(all_tables().values())
ROWS = {f"{table.name} {label}": row for table in TABLES for label, row in table.rows.items()}
RUNS = [
    (f"{name} {step.recipe}", step, like)
    for name, row in ROWS.items()
    for step, like in [*((s, None) for s in row.before), (Step(row.recipe, row.overrides), row.like)]
    if step.recipe
]
PLANNER = Planner("full", dict.fromkeys(CATALOG, ""))


def test_every_paper_has_its_tables() -> None:
    numbers: dict[str, list[str]] = {}
    for table in TABLES:
        numbers.setdefault(table.paper, []).append(table.number)
    assert list(numbers) == list(PAPERS)
    assert numbers.pop("ours") == ["kda-phase-1", "metasegnet-parts", "metasegnet-zone", "samrs-upernet"]
    assert numbers == {
        "samrs": ["1", "2", "3", "4", "5", "6"],
        "ktda": ["I", "II", "III", "IV", "V", "VI"],
        "kda": ["I", "II", "III", "IV"],
        "maflnet": ["1", "2", "3"],
        "metasegnet": ["I", "II", "III", "IV", "V", "VI"],
    }


@pytest.mark.parametrize("name", ["ktda/2", "ktda/II", "KTDA/ii", " ktda/2 "])
def test_a_number_may_be_roman_or_arabic(name: str) -> None:
    assert find_table(name) is find_table("ktda/II")


def test_arabic_tables_take_roman_numbers_too() -> None:
    assert find_table("maflnet/III").name == "maflnet/3"
    assert find_table("samrs/4").dataset == "isaid"
    assert find_table("ours/kda-phase-1").paper == "ours"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ktda", "unknown table 'ktda'; expected a known table, such as ktda/"),
        ("ktda/11", "unknown table 'ktda/11'"),
        ("ktda/0", "unknown table 'ktda/0'"),
        ("kda/V", "unknown table 'kda/V'"),
        ("ktdb/2", "unknown paper 'ktdb'; expected a known paper, such as ktda"),
        ("", "unknown paper ''"),
    ],
)
def test_a_bad_name_lists_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match="reproduce --list") as caught:
        find_table(name)
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "like"), RUNS, ids=[run[0] for run in RUNS])
def test_every_run_is_a_shipped_recipe_with_known_keys(name: str, step: Step, like: Step | None) -> None:
    loaded = load_row(step.recipe, tuple(row_flags(step, like)))
    for key, value in step.overrides.items():
        found = value_of(loaded, key)
        wanted = value["printed"] if isinstance(value, dict) else value
        assert (list(found) if isinstance(found, tuple) else found) == wanted
    parse_name(loaded.network.encoder)  # is known
    if loaded.teacher is not None and loaded.teacher.segmenter is None:
        parse_name(loaded.teacher.encoder)


def test_a_row_is_open_with_a_reason_or_can_be_run() -> None:
    for name, row in ROWS.items():
        assert sum(map(bool, (row.open, row.recipe, row.prompt))) == 1, name
        assert row.figures or name.startswith("ours/")
        if row.recipe:
            assert {row.recipe, *(step.recipe for step in row.before)} <= set(list_recipes())
            assert why_open(row, read=False) == ""


def test_tables_are_of_sets_in_the_catalogue_and_means_over_their_classes() -> None:
    for table in TABLES:
        benchmark = CATALOG[table.dataset]
        assert table.split is None or table.split in benchmark.splits
        other = CATALOG[table.scored_set].legend if table.scored_set else None
        assert other is None or set(table.class_map.values()) <= set(other.names)
        assert not table.classes or (benchmark.legend is not None and set(table.classes) <= set(benchmark.legend.names))
        for column in table.columns:
            of_class = column.metric.partition(":")[2]
            assert not of_class or (benchmark.legend is not None and of_class in benchmark.legend.names)
        assert all(one in CATALOG for row in table.rows.values() for step in row.before for one in step.sets)


def test_prompts_are_the_combinations_that_ablate_compares() -> None:
    assert [row.prompt for row in find_table("samrs/1").rows.values()] != []
    assert set(prompt_figures()) == {"+".join(prompt) for prompt in COMBINATIONS}
    assert prompt_figures()["hbox"] == (89.97, 79.40)


def test_sep_rows_differ_from_their_twins_in_the_pre_training_alone() -> None:
    rows = find_table("samrs/4").rows
    alone, after = rows["UNet, IMP, ResNet-50"], rows["UNet, IMP+SEP, ResNet-50"]
    assert {k: v for k, v in alone.overrides.items() if k != "network.encoder_weights"} == after.overrides
    (step,) = after.before
    assert (step.recipe, step.into, step.part, step.sets) == ("sep", "init", "segmenter", ("sota", "sior", "fast"))
    assert step.overrides["network.encoder_weights"] == alone.overrides["network.encoder_weights"] == "pretrained"
    assert find_table("samrs/3").rows["UNet, SEP, ResNet-50"].before[0].overrides["network.encoder_weights"] is None
    few = find_table("samrs/6")
    assert [column.overrides for column in few.columns] == [{"data.fraction": p} for p in (0.05, 0.03, 0.01)]
    assert few.rows["UNet, IMP+SEP, ResNet-50"].before == (step,)


def differing(one: Recipe, other: Recipe) -> set[str]:
    """Return the dotted keys in which two recipes differ; an empty value is none."""

    def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, part in value.items():
            flat |= flatten(part, f"{prefix}{key}.") if isinstance(part, dict) else {f"{prefix}{key}": part or None}
        return flat

    first, second = flatten(recipe_dict(one)), flatten(recipe_dict(other))
    return {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_rows_of_a_table_differ_only_in_what_they_declare(table: Table) -> None:
    """Rows of one recipe differ in their own keys; a baseline shares data, optimiser, schedule and trainer too."""
    runs = {label: PLANNER.run(table, row, 0).recipe for label, row in table.rows.items() if row.recipe}
    rows: list[PaperRow] = [table.rows[label] for label in runs]
    for row in rows:
        for other in rows:
            declared = set(row.overrides) | set(other.overrides)
            undeclared = differing(runs[row.label], runs[other.label]) - declared
            if row.recipe != other.recipe:  # another network's own keys, but nothing that is shared
                undeclared = {key for key in undeclared if key.split(".")[0] in SHARED}
            assert undeclared == set(), f"{row.label}, {other.label}"


def test_baselines_begin_with_weights_of_imagenet_whose_name_is_exact() -> None:
    for name, row in ROWS.items():
        if row.like is not None:
            encoder = row.overrides["network.encoder"]
            assert row.overrides["network.encoder_weights"] == "pretrained", name
            assert "." in encoder or encoder.startswith(("mit_b", "vit_base_patch14_dinov2")), name


def test_method_and_baselines_have_one_augmentation() -> None:
    """The audit's own example: zoom, turns and colour of a baseline beside the method's."""
    for table, method, baseline in (
        ("ktda/V", "Ours", "FCN"),
        ("kda/II", "KDA(Ours)", "SegFormer"),
        ("maflnet/2", "MAFLNet-S", "PSPNet"),
        ("metasegnet/I", "MetaSegNet (Ours)", "UNet"),
    ):
        found = find_table(table)
        own, other = (PLANNER.run(found, found.rows[label], 0).recipe for label in (method, baseline))
        assert own.data.augmentation() == other.data.augmentation()
        assert (own.data.batch_size, own.data.crop) == (other.data.batch_size, other.data.crop)
        assert (own.optimizer, own.schedule, own.trainer) == (other.optimizer, other.schedule, other.trainer)
