"""``geodistill prompts``: scenes, several of them, and manifests; by built-in knowledge and by a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rasterio.transform import from_origin

from built import build_metasegnet
from factories import make_raster
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.methods.metasegnet.text_table import TextConfig
from geodistill.raster import Window
from geodistill.spec import Legend, Spec
from places import ZONES, place_files
from stand_in_llm import SECRET, StandIn

LEGEND = Legend(("building", "tree"))


def told(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    assert main(["prompts", *map(str, command)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    assert main(["prompts", *map(str, command)]) == 2
    return capsys.readouterr().err


def as_json(capsys: pytest.CaptureFixture[str], *command: str | Path) -> Any:
    return json.loads(told(capsys, *command, "--json"))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three images of Potsdam in two seasons, one of Dubai."""
    places = [(13.06, 52.4, "2019-01-05"), (13.06, 52.4, "2019-07-05"), (13.06, 52.4, "2019-07-06"), (55.2, 25.1, None)]
    rows = tuple(
        Row(tmp_path / f"{i}.tif", None, "train", Window(0, 0, 8, 8), lon=lon, lat=lat, date=day, gsd=0.05 + i / 1000)
        for i, (lon, lat, day) in enumerate(places)
    )
    Manifest(rows, ("r", "g", "b"), LEGEND).save(tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


@pytest.mark.slow
def test_one_scene_with_zone_season_text_tokens_and_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", crs="EPSG:32633", transform=from_origin(368000, 5807000, 0.5, 0.5))
    text = told(capsys, path, "--classes", "building", "frobnicator", "--date", "2019-01-05")
    for words in (
        "zone    Cfb (temperate oceanic), from CRS and transform at 13.0",
        "season  winter",
        "gsd     0.5 m",
        "tokens of words",
        "[built-in] building: compact blocks",
        "[built-in (name only)] frobnicator.",
    ):
        assert words in text
    assert told(capsys, "--input", path, "--classes", "building", "frobnicator", "--date", "2019-01-05") == text
    assert told(capsys, path).splitlines()[0] == text.splitlines()[0]
    assert "prompt" not in told(capsys, path)


def test_every_way_to_say_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for source, path in place_files(tmp_path).items():
        found = as_json(capsys, path, "--classes", "tree")
        assert (found["zone"], found["from"]) == (ZONES[source], source)
    for flags, zone in (
        (("--lonlat", "39.2", "-6.1"), "Am"),
        (("--region", "aachen"), "Cfb"),
        (("--zone", "et"), "ET"),
    ):
        assert as_json(capsys, *flags, "--classes", "tree")["zone"] == zone
    assert as_json(capsys, "--lonlat", "-0.2", "5.3", "--classes", "tree")["km_from_land_cell"] > 5
    assert "km off its land" in told(capsys, "--lonlat", "-0.2", "5.3", "--classes", "tree")
    assert "open ocean" in refused(capsys, "--lonlat", "-30", "0", "--classes", "tree")
    assert "swapped" in refused(capsys, "--lonlat", "0.3", "132", "--classes", "tree")
    bare = make_raster(tmp_path / "n.tif", crs=None)
    assert "--lonlat LON LAT, --zone CODE or --region NAME" in refused(capsys, bare, "--classes", "tree")
    assert "no scene" in refused(capsys, "--classes", "tree")


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "-inf"])
def test_metres_that_are_none_are_refused(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_raster(tmp_path / "a.tif")
    for place in (("--lonlat", "10", "50"), ("--zone", "Cfb"), ("--region", "potsdam"), (scene,)):
        for more in ((), ("--classes", "tree"), ("--json",)):
            words = refused(capsys, *place, f"--gsd={value}", *more)
            assert f"gsd {float(value)}; expected metres per pixel, above 0" in words
    if value in ("0", "-5"):
        assert told(capsys, "--zone", "Cfb", f"--elevation={value}", "--classes", "tree")
    else:
        assert f"elevation {value}; expected metres" in refused(capsys, "--zone", "Cfb", f"--elevation={value}")


def test_several_scenes_on_a_line_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = place_files(tmp_path)
    lines = told(capsys, *files.values()).splitlines()
    assert len(lines) == 4
    for line, (source, path) in zip(lines, files.items(), strict=True):
        assert line.startswith(str(path))
        assert f"{ZONES[source]} (" in line
        assert f"from {source} at " in line
    found = as_json(capsys, *files.values(), "--classes", "tree", "--gsd", "0.1")
    assert [scene["zone"] for scene in found["scenes"]] == list(ZONES.values())
    assert {setting["zone"]: setting["images"] for setting in found["settings"]} == {"Af": 1, "Cfb": 2, "Am": 1}
    text = told(capsys, *files.values(), "--classes", "tree", "--gsd", "0.1")
    assert text.count("[built-in] tree:") == 3


def test_a_scene_that_spans_zones_says_how_many_tiles_lie_in_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    transform = from_origin(32.5, 17.0, 0.0005, 10 / 2048)
    path = make_raster(tmp_path / "nile.tif", height=2048, width=16, crs="EPSG:4326", transform=transform, channels=1)
    tiles = as_json(capsys, path)["tiles"]
    assert sum(tiles.values()) == 4
    assert len(tiles) > 1
    assert "tiles   " in told(capsys, path)
    assert as_json(capsys, path, "--zone", "Cfb")["tiles"] == {}


def test_a_manifest_gives_each_prompt_once_with_its_images(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--manifest", manifest)
    assert [(one["zone"], one["images"], one["season"]) for one in found] == [("Cfb", 3, None), ("BWh", 1, None)]
    assert found[0]["seasons"] == {"summer": 2, "winter": 1}
    assert [[part["name"] for part in one["classes"]] for one in found] == [["building", "tree"]] * 2
    assert all(one["tokens"] > 10 and one["id"] for one in found)
    text = told(capsys, "--manifest", manifest)
    assert "4 images, 2 settings" in text
    assert "zone    Cfb (temperate oceanic), 3 images: manifest 3" in text
    assert "season  not told apart: summer 2, winter 1" in text
    seasonal = as_json(capsys, "--manifest", manifest, "--seasons")
    assert {(one["zone"], one["season"]): one["images"] for one in seasonal} == {
        ("Cfb", "summer"): 2, ("Cfb", "winter"): 1, ("BWh", None): 1,
    }  # fmt: skip
    assert "season  summer" in told(capsys, "--manifest", manifest, "--seasons")
    assert as_json(capsys, "--manifest", manifest, "--classes", "water")[0]["classes"][0]["name"] == "water"
    assert [one["zone"] for one in as_json(capsys, "--manifest", manifest, "--zone", "Dfb")] == ["Dfb"]


def test_flags_that_contradict_a_manifest_or_each_other(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--manifest with --date, --gsd" in refused(
        capsys, "--manifest", manifest, "--date", "2019-01-05", "--gsd", "1"
    )
    assert "--manifest with --input" in refused(capsys, manifest, "--manifest", manifest)
    both = refused(capsys, "--zone", "Cfb", "--classes", "tree", "--legend", "legend.yaml")
    assert "both of --legend and --classes" in both
    assert "--llm without classes" in refused(capsys, "--zone", "Cfb", "--llm", "http://127.0.0.1:9/v1")


def test_a_prompt_beyond_the_papers_length_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    many = ["building", "tree", "water", "road"] * 6
    assert "more than text.tokens 250" in told(capsys, "--zone", "Cfb", "--classes", *many)
    assert "more than" not in told(capsys, "--zone", "Cfb", "--classes", *many[:4])


@pytest.mark.slow
def test_what_a_model_answers_for_a_manifest_is_what_training_asks_for(
    manifest: Path, server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.json"
    asked = ["--manifest", str(manifest), "--llm", server.url, "--llm-model", "m", "--answers", str(answers)]
    told_cost = refused(capsys, *asked)
    assert "4 of 4 questions to m" in told_cost
    assert server.asked == []
    found = as_json(capsys, *asked, "--yes")
    assert len(server.asked) == 4
    assert {part["source"] for one in found for part in one["classes"]} == {"m"}
    assert SECRET not in answers.read_text()
    held = Manifest.load(manifest)
    spec = Spec(LEGEND, ("r", "g", "b"), (90.0,) * 3, (50.0,) * 3, held.gsd)
    from geodistill.methods.metasegnet.network import MetaSegNetworkConfig
    from geodistill.methods.metasegnet.training import MetaSegNetLossConfig

    small = MetaSegNetworkConfig(encoder="test_convnext", encoder_weights=None, width=16, heads=2)
    text = TextConfig(encoder="words", answers=str(answers), llm_model="m")
    build_metasegnet(spec, small, text, MetaSegNetLossConfig(), held.entries)  # refuses where a question has no answer
    assert as_json(capsys, *asked, "--yes") == found
    assert len(server.asked) == 4


def test_an_endpoint_that_goes_down_half_way(
    manifest: Path, server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--manifest", str(manifest), "--llm", server.url, "--llm-model", "m"]
    asked += ["--answers", str(tmp_path / "answers.json"), "--yes", "--json"]
    server.plan = ["say:Grey blocks.", "say:Round crowns.", "401"]
    assert "status 401" in refused(capsys, *asked)
    server.plan = ["401"]
    before = len(server.asked)
    assert main(["prompts", *asked, "--llm-fallback"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [{part["source"] for part in one["classes"]} for one in found] == [{"m"}, {"built-in"}]
    assert "built-in knowledge is used" in printed.err
    assert len(server.asked) == before + 1


def test_only_what_the_kind_speaks_of_is_asked(
    server: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--zone", "Cfb", "--classes", "tree", "--llm", server.url, "--llm-model", "m", "--yes"]
    asked += ["--answers", str(tmp_path / "answers.json")]
    assert "(no text)" in told(capsys, *asked, "--kind", "none")
    assert server.asked == []
    assert "[m] tree: Grey blocks." in told(capsys, *asked, "--kind", "no-climate")
    question = server.asked[0]["body"]["messages"][1]["content"]  # type: ignore[index]
    assert "climate" not in question
    instruction = server.asked[0]["body"]["messages"][0]["content"]  # type: ignore[index]
    assert "40 words" in instruction
