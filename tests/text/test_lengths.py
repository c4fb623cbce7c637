"""The shipped texts in tokens of the shipped encoder, whose vocabulary the stored pieces of each word stand for."""

from __future__ import annotations

import pytest

from bert_lengths import STORED, StoredBert
from geodistill.data.catalog.declarations import CATALOG
from geodistill.text.climate import ZONES
from geodistill.text.features import MOST_TOKENS, token_count
from geodistill.text.places import Setting
from geodistill.text.templates import KINDS, write_prompt
from geodistill.training.recipe import list_recipes, load_recipe

SETS = ("openearthmap", "potsdam", "vaihingen", "loveda")
SEASONS = (None, "spring", "summer", "autumn", "winter")
SHORTEST_AND_LONGEST = {
    "openearthmap": (209, 236),
    "potsdam": (142, 163),
    "vaihingen": (142, 163),
    "loveda": (150, 169),
}


def counts(name: str, season: str | None = None, merged: bool = True) -> list[int]:
    legend = CATALOG[name].legend
    assert legend is not None
    prompts = [write_prompt(Setting(zone, season), legend.names) for zone in ZONES]
    return [token_count(StoredBert(), prompt, merged) for prompt in prompts]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SETS)
def test_every_zones_prompt_fits_in_every_season(name: str) -> None:
    assert (min(counts(name)), max(counts(name))) == SHORTEST_AND_LONGEST[name]
    for season in SEASONS:
        assert max(counts(name, season)) <= MOST_TOKENS


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prompt_fits(name: str, kind: str) -> None:
    legend = CATALOG[name].legend
    assert legend is not None
    assert token_count(StoredBert(), write_prompt(Setting(), legend.names, kind)) <= MOST_TOKENS  # type: ignore[arg-type]


def test_read_class_by_class_the_longest_is_not_within_the_papers_length() -> None:
    assert max(counts("openearthmap", merged=False)) == 252 > MOST_TOKENS


def test_the_stored_pieces_are_those_of_the_encoder_that_the_recipes_name() -> None:
    named = [load_recipe(name).text.encoder for name in list_recipes() if name.startswith("metasegnet-")]  # type: ignore[attr-defined]
    assert set(named) == {STORED["of"], "words"}
