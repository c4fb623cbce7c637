"""Scenes under a network that asks for their climate zone."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, RecipeError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.inference.location import PerPlaceModel, scene_prompts
from geodistill.inference.network import as_network
from geodistill.inference.options import LocationHint, PredictOptions, SlidingOptions
from geodistill.inference.predict import predict
from geodistill.inference.sliding import stream
from geodistill.inference.windows import Area, WindowPlan
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.text.climate import ZONES
from text_models import zoned_segmenter
from tiny import tiny_networks, tiny_segmenter


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return zoned_segmenter()


def nile(path: Path, north: float = 17.0, degrees: float = 10.0) -> Path:
    """A scene along the Nile; from Khartoum ten degrees south it goes from desert to savanna."""
    pixels = noise((3, 160, 64))
    transform = from_origin(32.5, north, 0.002, degrees / 160)
    return make_raster(path, pixels=pixels, crs="EPSG:4326", transform=transform)


def zones_of(model: Segmenter, path: Path, said: LocationHint | None = None) -> list[str]:
    with Raster(path) as raster:
        plan = WindowPlan.of(raster.grid.height, raster.grid.width, model.tile, 0.25)
        prompts = scene_prompts(model, raster, plan, said or LocationHint())
    assert prompts is not None
    assert prompts.shape == (len(plan.tops), len(plan.lefts))
    return [model.prompts[i] for i in prompts.ravel()]


def test_each_window_takes_the_zone_it_lies_in(model: Segmenter, tmp_path: Path) -> None:
    assert len(set(zones_of(model, nile(tmp_path / "a.tif")))) > 1
    assert set(zones_of(model, nile(tmp_path / "b.tif", 28.0, 0.1))) == {"BWh"}
    assert set(zones_of(model, nile(tmp_path / "c.tif"), LocationHint(zone="cfb"))) == {"Cfb"}
    assert set(zones_of(model, nile(tmp_path / "d.tif"), LocationHint(region="potsdam"))) == {"Cfb"}


def test_a_model_of_images_alone_takes_no_place(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif")
    with tiny_networks():
        plain = tiny_segmenter()
        for said in ({"zone": "Cfb"}, {"date": "2024-06-01"}, {"lonlat": (13.0, 52.0)}):
            with pytest.raises(RecipeError, match=f"{next(iter(said))} for a model that takes images alone"):
                predict(plain, [scene], tmp_path / "map.tif", PredictOptions(backend="torch", **said))
            with pytest.raises(RecipeError, match="images alone"):
                PerPlaceModel(plain, LocationHint(**said))


def test_a_placed_model_gives_what_its_prompt_gives(model: Segmenter) -> None:
    image = torch.rand(2, 3, 32, 32) * 255
    row = list(ZONES).index("BWh")
    with torch.inference_mode():
        expected = model(image, torch.tensor([row, row]))
        assert torch.allclose(model.for_prompt(row)(image), expected, atol=1e-5)
    assert model.for_prompt(row).prompts == ("BWh",)
    assert copy.deepcopy(model.for_prompt(row)).class_sets == {}


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.slow
def test_a_scene_of_one_zone_is_mapped_as_under_that_zone(model: Segmenter, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    scene = nile(tmp_path / "b.tif", 28.0, 0.1)
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--device", "cpu"]
    command += ["--backend", "torch"]
    assert main([*command, "--out", str(tmp_path / "own.tif")]) == 0
    assert main([*command, "--out", str(tmp_path / "said.tif"), "--zone", "BWh"]) == 0
    assert main([*command, "--out", str(tmp_path / "other.tif"), "--zone", "ET"]) == 0
    np.testing.assert_array_equal(classes(tmp_path / "own.tif"), classes(tmp_path / "said.tif"))
    assert (classes(tmp_path / "own.tif") != classes(tmp_path / "other.tif")).mean() > 0.01


@pytest.mark.slow
def test_a_scene_that_spans_zones_follows_them(
    model: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    scene = nile(tmp_path / "a.tif")
    names = zones_of(model, scene)
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "own.tif")]) == 0, capsys.readouterr().err
    whole = classes(tmp_path / "own.tif")
    for part, zone in ((slice(0, 16), names[0]), (slice(-16, None), names[-1])):
        path = tmp_path / f"{zone}.tif"
        assert main([*command, "--out", str(path), "--zone", zone, "--backend", "torch"]) == 0
        np.testing.assert_array_equal(whole[part], classes(path)[part])
    assert main([*command, "--out", str(tmp_path / "half.tif"), "--precision", "bf16"]) == 0, capsys.readouterr().err
    assert (classes(tmp_path / "half.tif") != whole).mean() < 0.1
    assert main([*command, "--out", str(tmp_path / "x.tif"), "--backend", "onnx"]) == 2
    assert "spans climate zones" in capsys.readouterr().err


def test_a_scene_from_nowhere_says_the_three_ways(
    model: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    scene = make_raster(tmp_path / "n.tif", crs=None)
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(scene), "--out", str(tmp_path / "m.tif")]
    assert main([*command, "--device", "cpu"]) == 2
    assert "--lonlat LON LAT, --zone CODE or --region NAME" in capsys.readouterr().err
    assert not (tmp_path / "m.tif").exists()


def test_scores_take_each_image_under_its_own_zone(model: Segmenter, tmp_path: Path) -> None:
    image = make_raster(tmp_path / "i.tif", height=32, width=32, crs=None)
    mask = make_raster(tmp_path / "m.tif", pixels=noise((1, 32, 32), seed=2) % 3, crs=None)
    legend = model.spec.legend

    def scored(lon: float | None, lat: float | None, said: LocationHint | None = None) -> list[list[int]]:
        row = Row(image, mask, "test", Window(0, 0, 32, 32), lon=lon, lat=lat)
        manifest = Manifest((row,), model.spec.bands, legend)
        counts: list[list[int]] = evaluate(
            model, manifest, options=EvaluateOptions(device="cpu", location=said or LocationHint())
        ).counts.tolist()
        return counts

    desert, snow = scored(31.2, 25.0), scored(106.8, -78.5)
    assert desert != snow
    assert scored(None, None, LocationHint(zone="BWh")) == desert
    with pytest.raises(DataError, match="--zone CODE"):
        scored(None, None)
    plain = tiny_segmenter_without_prompts()
    assert PerPlaceModel(plain, LocationHint()).at(Row(image, mask, "test", Window(0, 0, 8, 8))) is plain


def tiny_segmenter_without_prompts() -> Segmenter:
    from tiny import tiny_networks, tiny_segmenter

    with tiny_networks():
        return tiny_segmenter(tile=16)


def steps_between_rows(model: Segmenter, scene: Path, blend: str, zone: str | None = None) -> tuple[float, list[str]]:
    """Largest step of a class's probability, averaged over a row, where windows of the two zones overlap.

    Also gives the zone of each row of windows; with ``zone``, that one holds for all of them.
    """
    settings = SlidingOptions(blend=blend, confidence=False, probabilities="float32")
    with Raster(scene) as raster:
        area = Area.whole(raster)
        plan = WindowPlan.of(area.window.height, area.window.width, model.tile, settings.overlap)
        own = scene_prompts(model, raster, plan, LocationHint())
        assert own is not None
        prompts = own if zone is None else np.full_like(own, model.prompts.index(zone))
        network = as_network(model, prompts=prompts)
        parts = stream(network, area, plan, settings, batch=4)
        rows = np.concatenate([part.layers["probabilities"] for part in parts], 1)
    zones = [model.prompts[i] for i in own[:, 0]]
    border = next(i for i in range(len(zones) - 1) if zones[i] != zones[i + 1])
    steps = np.abs(np.diff(rows, axis=1).mean(2)).max(0)
    return float(steps[plan.tops[border + 1] - 1 : plan.tops[border] + model.tile].max()), zones


@pytest.mark.slow
def test_no_seam_where_a_scene_crosses_from_zone_to_zone(tmp_path: Path) -> None:
    """The step there is no larger than where windows of one zone meet, and far below a cut's."""
    model = zoned_segmenter(tile=64)
    transform = from_origin(32.5, 17.0, 0.002, 10 / 512)
    scene = make_raster(tmp_path / "nile.tif", pixels=noise((3, 512, 128)), crs="EPSG:4326", transform=transform)
    blended, zones = steps_between_rows(model, scene, "cosine")
    first, last = zones[0], zones[-1]
    assert (first, last) == ("BWh", "BSh")
    cut, _ = steps_between_rows(model, scene, "none")
    within = max(steps_between_rows(model, scene, "cosine", zone)[0] for zone in (first, last))
    assert blended <= 1.2 * within
    assert blended < cut / 3


def test_a_scene_that_reaches_far_out_to_sea_is_mapped(model: Segmenter, tmp_path: Path) -> None:
    """Its centre lies in the open ocean, its eastern windows in Lisbon."""
    transform = from_origin(-11.1, 38.8, 0.01, 0.001)
    scene = make_raster(tmp_path / "sea.tif", pixels=noise((3, 64, 210)), crs="EPSG:4326", transform=transform)
    assert set(zones_of(model, scene)) <= {"Csa", "Csb"}
    lost = make_raster(
        tmp_path / "lost.tif", pixels=noise((3, 64, 64)), crs="EPSG:4326", transform=from_origin(-30, 0, 1e-4, 1e-4)
    )
    with pytest.raises(DataError, match=r"lost\.tif: no land .* -29.*open ocean"):
        zones_of(model, lost)
    assert set(zones_of(model, lost, LocationHint(zone="Af"))) == {"Af"}


def test_images_named_by_their_region(model: Segmenter, tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "aachen_11.tif", crs=None)
    assert set(zones_of(model, scene, LocationHint(region="file"))) == {"Cfb"}
    row = Row(scene, None, "test", Window(0, 0, 40, 50))
    assert PerPlaceModel(model, LocationHint(region="file")).at(row).prompts == ("Cfb",)
    georeferenced = make_raster(tmp_path / "kampala.tif")
    assert PerPlaceModel(model, LocationHint()).at(Row(georeferenced, None, "test", Window(0, 0, 8, 8))).prompts == (
        "Af",
    )


def test_an_image_that_no_manifest_lists_says_where_it_lies(model: Segmenter, tmp_path: Path) -> None:
    places, image = PerPlaceModel(model), make_raster(tmp_path / "kampala.tif")
    with Raster(image) as raster:
        assert places.at_image(raster).prompts == places.at_image(image).prompts == ("Af",)
    with pytest.raises(DataError, match=r"nowhere\.tif does not say where it lies.*Segmenter\.for_prompt"):
        places.at_image(make_raster(tmp_path / "nowhere.tif", crs=None))
    row = Row(tmp_path / "nowhere.tif", None, "test", Window(0, 0, 8, 8))
    with pytest.raises(DataError, match=r"nowhere\.tif does not say where it lies.*Segmenter\.for_prompt"):
        places.at(row)
    with pytest.raises(DataError, match=r"nowhere\.tif does not say where it lies.*--lonlat"):
        PerPlaceModel(model, LocationHint()).at(row)
    assert PerPlaceModel(places.for_prompt(3)).at_image(tmp_path / "nowhere.tif").prompts == model.prompts[3:4]


@pytest.mark.slow
def test_evaluate_takes_a_coordinate(model: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make_raster(tmp_path / "i.tif", height=32, width=32, crs=None)
    mask = make_raster(tmp_path / "m.tif", pixels=noise((1, 32, 32), seed=2) % 3, crs=None)
    rows = (Row(image, mask, "test", Window(0, 0, 32, 32)),)
    Manifest(rows, model.spec.bands, model.spec.legend).save(tmp_path / "m.parquet")
    model.save(tmp_path / "model")
    command = ["evaluate", "--model", str(tmp_path / "model"), "--manifest", str(tmp_path / "m.parquet")]
    command += ["--device", "cpu", "--json", "--out"]
    assert main([*command, str(tmp_path / "none")]) == 2
    assert "--lonlat LON LAT, --zone CODE or --region NAME" in capsys.readouterr().err
    told = []
    for flags in (["--lonlat", "31.2", "25.0"], ["--zone", "BWh"]):
        assert main([*command, str(tmp_path / flags[0]), *flags]) == 0
        told.append(json.loads(capsys.readouterr().out)["miou"])
    assert told[0] == told[1]
