"""The shipped recipes as they are: real networks, real texts, the encoder's real lengths; no weights, no hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bert_lengths import StoredBert
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.manifest import Row
from geodistill.methods.metasegnet.training import PRESETS, MetaSegNetRecipe
from geodistill.methods.method import BuildContext
from geodistill.raster import Window
from geodistill.spec import Spec
from geodistill.text import features
from geodistill.text.climate import ZONES
from geodistill.training.build import build_method
from geodistill.training.recipe import list_recipes, load_recipe

SETS = {"metasegnet-openearthmap": "openearthmap", "metasegnet-potsdam": "potsdam", "metasegnet-loveda": "loveda"}
RECIPES = [name for name in list_recipes() if name.startswith("metasegnet-")]
USED = {
    "metasegnet-openearthmap": ["Af", "Cfb"],
    "metasegnet-potsdam": ["Dfb"],
    "metasegnet-loveda": ["Cfa"],
    "metasegnet-folder": ["Af", "Cfb"],
}


class BlankBert(StoredBert):
    longest = 512

    def encode(self, text: str) -> Tensor:
        return torch.zeros(self.tokens(text), 768)


def recipe_of(name: str, *flags: str) -> MetaSegNetRecipe:
    recipe = load_recipe(name, flags)
    assert isinstance(recipe, MetaSegNetRecipe)
    return recipe


@pytest.mark.slow
@pytest.mark.parametrize("seasons", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_built_as_it_is(name: str, seasons: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def blank(encoder: str) -> Any:
        opened.append(encoder)
        return BlankBert()

    monkeypatch.setattr(features, "open_text_encoder", blank)
    legend = CATALOG[SETS.get(name, "openearthmap")].legend
    assert legend is not None
    spec = Spec(legend, ("red", "green", "blue"), (90.0,) * 3, (50.0,) * 3)
    places = {"aachen_3.tif": (6.1, 50.8), "kampala_12.tif": (32.6, 0.35)}
    rows = [Row(Path(file), None, "train", Window(0, 0, 64, 64), lon=x, lat=y) for file, (x, y) in places.items()]
    recipe = recipe_of(name, "--text.seasons", str(seasons).lower())
    recipe = replace(recipe, network=replace(recipe.network, encoder_weights=None))
    with torch.device("meta"):
        method = build_method(recipe, BuildContext(spec, rows=rows))
    assert opened == [recipe.text.encoder]
    assert set(ZONES) <= set(method.arguments["prompts"])
    assert len(method.arguments["prompts"]) == len(ZONES) * (5 if seasons else 1)
    assert method.arguments["text_tokens"] <= 250
    batch: Any = {"source": [row.key for row in rows]}
    keys = [method.arguments["prompts"][row] for row in method.context(batch)["prompt"].tolist()]
    assert set(keys) == set(USED[name])


@pytest.mark.parametrize("name", SETS)
def test_the_papers_training_is_in_the_recipes(name: str) -> None:
    recipe = recipe_of(name)
    data, optimizer = recipe.data, recipe.optimizer
    assert (data.crop, data.batch_size, data.scale) == (1024, 2, (1.0, 1.0))
    assert (data.flips, data.vertical_flips, data.turns) == (True, True, False)
    assert (optimizer.lr, optimizer.weight_decay, recipe.schedule.kind) == (3e-4, 2.5e-4, "cosine")
    assert recipe.trainer.patience == 10


def test_presets_are_whole() -> None:
    assert list(PRESETS) == ["printed", "released"]
    printed = recipe_of("metasegnet-openearthmap", "--preset", "printed")
    assert (printed.losses.smoothing, printed.losses.dice) == (0.0, "pixel")
    assert (printed.losses.contrast, printed.losses.positives) == ("sum", "pair")
    assert printed.network.norm_before is False
    assert printed.optimizer.encoder_lr == printed.optimizer.lr == 3e-4
    released = recipe_of("metasegnet-openearthmap", "--preset", "released")
    assert (released.losses.contrast, released.losses.positives, released.losses.smoothing) == ("mean", "prompt", 0.05)
    assert released.optimizer.encoder_lr == 3e-5
