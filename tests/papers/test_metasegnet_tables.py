"""Shipped MetaSegNet recipes and the tables made of them."""

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.evaluation.classmap import make_class_map
from geodistill.methods.metasegnet.training import MetaSegNetRecipe
from geodistill.papers.metasegnet_tables import ABOUT, TABLES
from geodistill.text.templates import KINDS
from geodistill.training.recipe import load_recipe

ROWS = {
    f"{table} {label}": (table, row)
    for table, rows in TABLES.items()
    for label, row in rows.items()
    if row.recipe.startswith("metasegnet-")
}
STEPS = {"metasegnet-openearthmap": 67500, "metasegnet-potsdam": 17820, "metasegnet-loveda": 56745}


def loaded(table: str, label: str) -> MetaSegNetRecipe:
    row = TABLES[table][label]
    recipe = load_recipe(row.recipe, [f"--{key}={value}" for key, value in row.overrides.items()])
    assert isinstance(recipe, MetaSegNetRecipe)
    return recipe


@pytest.mark.parametrize("label", ROWS)
def test_every_row_is_a_shipped_recipe_with_known_keys(label: str) -> None:
    table, row = ROWS[label]
    recipe = loaded(table, label.partition(" ")[2])
    for key, value in row.overrides.items():
        found: object = recipe
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value
    assert recipe.trainer.max_steps == STEPS[row.recipe]


def test_table_4_switches_the_decoders_parts() -> None:
    switched = {label: (loaded("IV", label).network.align, loaded("IV", label).network.fuse) for label in TABLES["IV"]}
    assert switched == {
        "neither": (False, False),
        "alignment": (True, False),
        "fusion": (False, True),
        "both": (True, True),
    }


def test_table_5_exchanges_the_prompts_and_nothing_else() -> None:
    kinds = {label: loaded("V", label).text.kind for label in TABLES["V"]}
    assert kinds == {"none": "none", "plain": "plain", "non-climate": "no-climate", "climate": "climate"}
    assert set(kinds.values()) == set(KINDS)
    assert {key for row in TABLES["V"].values() for key in row.overrides} == {"text.kind"}


def test_table_6_maps_classes_that_both_sets_have() -> None:
    trained, scored = (CATALOG[name].legend for name in ("openearthmap", "potsdam"))
    mapping = make_class_map(ABOUT["VI"].class_map, trained, scored)
    assert set(mapping.subset) == {"building", "tree"}
    assert {number for number, about in ABOUT.items() if about.class_map} <= set(TABLES)


def test_a_figure_stands_where_one_is_known() -> None:
    known = {label: row.miou for label, (_, row) in ROWS.items() if row.miou is not None}
    assert known == {"I MetaSegNet": 70.4}


def test_the_papers_schedule() -> None:
    for name in STEPS:
        recipe = load_recipe(name)
        assert isinstance(recipe, MetaSegNetRecipe)
        assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.data.batch_size) == (3e-4, 2.5e-4, 2)
        assert (recipe.schedule.kind, recipe.data.crop, recipe.text.tokens) == ("cosine", 1024, 250)
        assert recipe.losses.weights == {"ce": 1.0, "dice": 1.0, "itm": 1.0}
        assert recipe.losses.queue == 16
