"""The text decides where only the place tells the classes apart, in worlds made for it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import control_text as world


@pytest.fixture(scope="module")
def climate() -> Any:
    """A network that reads the climate's text."""
    return world.train("climate", 0, steps=160, side=32)


def test_the_picture_does_not_tell_the_classes_apart() -> None:
    scenes = world.draw(np.random.default_rng(0), 64)
    red = scenes.images[:, 0] > scenes.images[:, 1]
    building = {
        name: (scenes.masks == 1) & torch.tensor([file == name for file in scenes.files])[:, None, None]
        for name in set(scenes.files)
    }
    shares = {name: float(red[where].float().mean()) for name, where in building.items()}
    assert shares["Cfb.tif"] > 0.98
    assert shares["BWh.tif"] < 0.02


def test_the_sixth_zones_words_are_known_and_its_pair_is_new(tmp_path: Path) -> None:
    *known, new = world.SIX.values()
    assert new not in known
    assert all(new[place] in [pair[place] for pair in known] for place in (0, 1))
    said = world.write_answers(tmp_path / "answers.json").read_text()
    assert all(said.count(f"{things} are {name}.") == 2 for things in ("roofs", "crowns") for name in world.NAMES)
    scenes = world.draw(np.random.default_rng(0), 32, world.SIX, ["Cfb"])
    roof, crown = world.SIX["Cfb"]
    other = ({0, 1, 2} - {roof, crown}).pop()
    for colour, kind in ((roof, 1), (crown, 2), (other, 0)):
        shown = torch.einsum("bchw,c->bhw", scenes.images, torch.from_numpy(world.COLOURS[colour])) > 1.5
        assert float((scenes.masks[shown & scenes.patches] == kind).float().mean()) > 0.95


@pytest.mark.slow
def test_the_text_wins_and_the_answers_turn_with_it(climate: Any) -> None:
    scenes, swap = world.draw(np.random.default_rng(99), 64), dict(itertools.pairwise([*world.TWO, *world.TWO]))
    plain = world.train("plain", 0, steps=160, side=32)
    assert world.right(climate, scenes) - world.right(plain, scenes) >= world.GAIN
    assert world.right(climate, scenes, swap) <= world.TURNED
    assert world.right(plain, scenes, swap) == world.right(plain, scenes)


@pytest.mark.slow
def test_gsd_brings_a_finer_set_of_other_classes_back(climate: Any, tmp_path: Path) -> None:
    scores = world.zero_shot(climate, tmp_path, count=6)
    assert scores["own"] > 50
    assert scores["own, brought back"] == pytest.approx(scores["own"])
    assert world.brought_back(scores)
