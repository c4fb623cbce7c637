"""Shipped MetaSegNet recipes and the tables made of them."""

from geodistill.data.catalog.declarations import CATALOG
from geodistill.evaluation.classmap import make_class_map
from geodistill.methods.metasegnet.training import MetaSegNetRecipe
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.planner import Planner
from geodistill.training.recipe import load_recipe

STEPS = {"metasegnet-openearthmap": 67500, "metasegnet-potsdam": 17820, "metasegnet-loveda": 56745}


def loaded(table: str, label: str) -> MetaSegNetRecipe:
    found = find_table(table)
    recipe = Planner("full", dict.fromkeys(CATALOG, "")).run(found, found.rows[label], 0).recipe
    assert isinstance(recipe, MetaSegNetRecipe)
    return recipe


def test_table_4_switches_the_decoders_parts() -> None:
    rows = {label: loaded("metasegnet/IV", label).network for label in find_table("metasegnet/IV").rows}
    assert {label: (network.align, network.fuse) for label, network in rows.items()} == {
        "Baseline": (False, False),
        "Baseline+Alignment": (True, False),
        "Baseline+Alignment+Fusion": (True, True),
    }


def test_table_5_exchanges_the_prompts_and_its_first_row_is_table_4s() -> None:
    first, *others = (loaded("metasegnet/V", label) for label in find_table("metasegnet/V").rows)
    assert first == loaded("metasegnet/IV", "Baseline")
    assert [recipe.text.kind for recipe in others] == ["plain", "climate"]
    assert loaded("ours/metasegnet-parts", "classes alone").text.kind == "no-climate"


def test_table_6_maps_classes_that_both_sets_have() -> None:
    trained, scored = (CATALOG[name].legend for name in ("openearthmap", "potsdam"))
    assert trained is not None
    assert scored is not None
    mapping = make_class_map(find_table("metasegnet/VI").class_map, trained, scored)
    assert set(mapping.subset) == {"building", "tree"}


def test_the_papers_schedule() -> None:
    for name in STEPS:
        recipe = load_recipe(name)
        assert isinstance(recipe, MetaSegNetRecipe)
        assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.data.batch_size) == (3e-4, 2.5e-4, 2)
        assert (recipe.schedule.kind, recipe.data.crop, recipe.text.tokens) == ("cosine", 1024, 250)
        assert recipe.losses.weights == {"ce": 1.0, "dice": 1.0, "itm": 1.0}
        assert recipe.losses.queue == 16
