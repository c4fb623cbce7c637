from __future__ import annotations

from pathlib import Path

import pytest

from detection_sets import settings_of
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.label.config import PRESET_NAMES
from geodistill.label.formats.detection import FORMATS
from geodistill.label.postprocess import NO_RULES
from geodistill.label.presets import COLOURS, PRESETS
from geodistill.label.segmenters.promptable import parse_prompt
from geodistill.spec import Legend


@pytest.mark.parametrize(("name", "classes", "tile"), [("sota", 18, 1024), ("sior", 20, None), ("fast", 37, 600)])
def test_presets_are_the_papers(name: str, classes: int, tile: int | None) -> None:
    preset = PRESETS[name]
    assert len(preset.classes) == classes == len(Legend(preset.classes, preset.colours))
    assert preset.format in FORMATS
    assert parse_prompt(preset.prompt) == (("rhbox",) if name == "fast" else ("hbox",))
    assert (preset.tile, preset.order, preset.rules) == (tile, "annotation", NO_RULES)


def test_pixel_values_and_colours_of_some_classes() -> None:
    assert PRESETS["sota"].classes[4] == "plane"
    assert PRESETS["sior"].classes[19] == "windmill"
    assert PRESETS["fast"].classes[29] == "Small-Car"
    assert COLOURS[0] == (0, 127, 255)
    assert COLOURS[36] == (0, 191, 64)
    assert len(set(COLOURS)) == 37
    assert (255, 255, 255) not in COLOURS


def test_their_names_are_known_without_reading_the_catalogue() -> None:
    assert tuple(PRESETS) == PRESET_NAMES


def test_the_share_is_larger_for_larger_tiles() -> None:
    assert (PRESETS["sota"].share, PRESETS["sota"].overlap) == (0.7, 200)
    assert (PRESETS["fast"].share, PRESETS["fast"].overlap) == (0.5, 150)


def test_a_background_comes_first_and_has_a_colour_of_its_own() -> None:
    settings = settings_of(Path("set"), classes=("a", "b"), colours=((0, 0, 0), (1, 1, 1)), background="rest")
    assert settings.legend(()).names == ("rest", "a", "b")
    assert settings.legend(()).colours == ((2, 2, 2), (0, 0, 0), (1, 1, 1))
    with pytest.raises(RecipeError, match="background 'a'"):
        settings_of(Path("set"), classes=("a", "b"), background="a").legend(())
    with pytest.raises(RecipeError, match="no class"):
        settings_of(Path("set")).legend(())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tile": 8}, "tiles of 8"),
        ({"tile": 64, "overlap": 64}, "overlap 64"),
        ({"overlap": 5}, "overlap 5"),
        ({"share": 0.0}, "share 0"),
        ({"bands": (1, 2)}, "one or three"),
        ({"bands": (0,)}, "counted from 1"),
        ({"colours": ((1, 2, 3),)}, "one per class"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        settings_of(Path("set"), **wrong)


@pytest.mark.parametrize("wrong", [{"empty": "some"}, {"order": "random"}, {"prompt": "circle"}])
def test_unknown_choices(wrong: dict[str, str]) -> None:
    with pytest.raises(UnknownNameError):
        settings_of(Path("set"), **wrong)
