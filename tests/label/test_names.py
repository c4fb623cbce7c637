from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from geodistill.label.build_labels import build
from geodistill.label.tiles import ENDS, TILE_ENDS, flat_names, output_names

PLAIN = ["a", "town/a", "Zürich", "a b", "x.y", "-rf", "~root", "コード/1", "a" * 251, "CONTROL", "nul-1"]
ODD = ["CON", "aux.x", "a:b", "a\\b", "tab\there", "what?", "dots./a", "b" * 252, "\udcff", "com1", "x/LPT9"]


def test_plain_names_stay() -> None:
    assert output_names(PLAIN, ENDS) == {name: name for name in PLAIN}


@pytest.mark.parametrize("besides", [ENDS, TILE_ENDS])
def test_odd_names_become_names_for_every_system(besides: int) -> None:
    named = output_names([*ODD, "A", "a", "e\u0301", "é"], besides)
    assert len({name.casefold() for name in named.values()}) == len(named)
    for key, name in named.items():
        assert name != key
        for part in name.split("/"):
            assert len(part.encode()) <= 255 - besides
            assert not re.search(r'[<>:"|?*\\\x00-\x1f]', part)
            assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part)
        assert not any(part.endswith((".", " ")) for part in name.split("/")[:-1])


def test_names_do_not_depend_on_order() -> None:
    keys = [*ODD, "A", "a"]
    assert output_names(keys, ENDS) == output_names(keys[::-1], ENDS)


@settings(max_examples=60)
@given(st.sets(st.text("aA./é_", min_size=1, max_size=4).filter(lambda t: all(p.strip(".") for p in t.split("/")))))
def test_no_two_keys_have_one_name(keys: set[str]) -> None:
    for names in (output_names(keys, ENDS), flat_names(keys, ENDS)):
        assert len({name.casefold() for name in names.values()}) == len(keys)
    assert not any("/" in name for name in flat_names(keys, ENDS).values())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize(
    "name", ["CON", "a" * 251, "b" * 249, "a:b", "é" * 125], ids=["con", "251", "249", "colon", "é"]
)
@pytest.mark.parametrize("tile", [None, 48])
def test_images_of_odd_names_are_labelled(name: str, tile: int | None, tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 2)
    (source / "images/scene_0.png").rename(source / f"images/{name}.png")
    data = read_coco(source)
    data["images"][0]["file_name"] = f"{name}.png"
    write_boxes(source, data)
    account = build(settings_of(source, tile=tile), tmp_path / "out")
    assert account["boxes"]["labelled"] == account["boxes"]["in"] == 4
    for path in (tmp_path / "out").rglob("*.png"):
        assert ":" not in path.name
        assert not path.name.upper().startswith("CON.")
    assert build(settings_of(source, tile=tile), tmp_path / "out", resume=True) == account
