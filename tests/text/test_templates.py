from __future__ import annotations

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.errors import UnknownNameError
from geodistill.text.climate import ZONES
from geodistill.text.features import MOST_TOKENS, token_count
from geodistill.text.templates import KINDS, PLAIN, Setting, knowledge, question, rounded, write_prompt
from geodistill.text.text_encoders import WordEncoder

OPENEARTHMAP = ["bareland", "rangeland", "developed space", "road", "tree", "water", "agriculture", "building"]
CATALOGUE = sorted({name for found in CATALOG.values() if found.legend for name in found.legend.names})


def test_the_table_knows_every_zone_and_every_class_of_the_catalogue() -> None:
    table = knowledge()
    assert set(table.zones) == set(ZONES)
    assert len(CATALOGUE) > 80
    assert [name for name in CATALOGUE if table.known(name) is None] == []
    materials = {"trees", "grass", "soil", "water", "roofs", "roads"}
    assert all(set(words) == materials for words in table.zones.values())
    assert set(table.materials.values()) <= materials
    assert set(table.aliases.values()) <= set(table.classes)


def test_prompts_of_different_zones_differ_and_of_equal_settings_do_not() -> None:
    ids = {write_prompt(Setting(zone), OPENEARTHMAP).id for zone in ZONES}
    assert len(ids) == len(ZONES)
    assert write_prompt(Setting("Cfb"), OPENEARTHMAP) == write_prompt(Setting("Cfb"), OPENEARTHMAP)


@pytest.mark.parametrize("zone", ZONES)
def test_a_prompt_of_nine_classes_fits_the_papers_length(zone: str) -> None:
    prompt = write_prompt(Setting(zone, "winter"), ["background", *OPENEARTHMAP])
    assert token_count(WordEncoder(), prompt) <= MOST_TOKENS


def test_the_four_kinds() -> None:
    texts = {kind: write_prompt(Setting("BWh", "summer"), ["building", "tree"], kind).text for kind in KINDS}
    assert texts["none"] == ""
    assert texts["plain"] == PLAIN
    assert "flat pale concrete" in texts["climate"]
    assert "flat pale concrete" not in texts["no-climate"]
    assert "summer" not in texts["no-climate"]
    assert len({write_prompt(Setting(zone), ["tree"], "no-climate").id for zone in ZONES}) == 1
    with pytest.raises(UnknownNameError, match="no-climate"):
        write_prompt(Setting(), ["tree"], "climte")


def test_a_class_nobody_wrote_about_is_named_and_marked() -> None:
    prompt = write_prompt(Setting("Cfb"), ["frobnicator", "tree"])
    assert [part.source for part in prompt.parts] == ["built-in (name only)", "built-in"]
    assert prompt.parts[0].text == "frobnicator."


def test_season_speaks_where_it_changes_the_look() -> None:
    text = write_prompt(Setting("Dfb", "winter"), ["tree", "building"]).text
    assert text.count("winter") == 1


def test_questions_name_what_is_known_and_round_it() -> None:
    asked = question(Setting("Cfb", "autumn", 0.0746, 1190.0), "tree")
    for words in ("'tree'", "0.07 m per pixel", "temperate oceanic", "Cfb", "autumn", "1000 m above the sea"):
        assert words in asked
    assert question(Setting(), "tree").count(" in ") == 0
    assert [rounded(v) for v in (0.0746, 0.26, 30.0, 0.0)] == [0.07, 0.3, 30.0, 0.0]


def test_a_writer_is_asked_once_a_class() -> None:
    asked: list[str] = []

    def writer(text: str) -> str:
        asked.append(text)
        return "Grey and square."

    prompt = write_prompt(Setting("Cfb"), ["building", "road"], writer=writer, author="model-x")
    assert len(asked) == 2
    assert prompt.text == "building: Grey and square. road: Grey and square."
    assert {part.source for part in prompt.parts} == {"model-x"}
    with pytest.raises(UnknownNameError, match="climate zone"):
        write_prompt(Setting("Zzz"), ["tree"])
