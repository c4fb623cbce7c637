"""Scenes under a network that asks for their climate zone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.context.climate import ZONES
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError
from geodistill.evaluation.evaluate import evaluate
from geodistill.methods.metasegnet import MetaSegNetwork
from geodistill.raster import Raster, Window
from geodistill.scene.place import Placed, Whereabouts, scene_prompts
from geodistill.scene.windows import Plan
from geodistill.segmenter import Segmenter
from tiny import tiny_spec

ARGUMENTS = {"encoder": "test_convnext", "text_tokens": 6, "text_width": 8, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def model() -> Segmenter:
    """A network whose maps differ much from zone to zone."""
    torch.manual_seed(0)
    arguments = ARGUMENTS | {"prompts": list(ZONES)}
    network = MetaSegNetwork(3, 3, **arguments)  # type: ignore[arg-type]
    network.set_text([10 * torch.randn(5, 8) for _ in ZONES])
    return Segmenter.from_network("metasegnet", arguments, tiny_spec(), network.state_dict(), 32, {}).eval()


def nile(path: Path, north: float = 17.0, degrees: float = 10.0) -> Path:
    """A scene along the Nile; from Khartoum ten degrees south it goes from desert to savanna."""
    pixels = noise((3, 160, 64))
    transform = from_origin(32.5, north, 0.002, degrees / 160)
    return make_raster(path, pixels=pixels, crs="EPSG:4326", transform=transform)


def zones_of(model: Segmenter, path: Path, said: Whereabouts | None = None) -> list[str]:
    with Raster(path) as raster:
        plan = Plan.of(raster.grid.height, raster.grid.width, model.tile, 0.25)
        prompts = scene_prompts(model, raster, plan, said or Whereabouts())
    assert prompts is not None
    assert prompts.shape == (len(plan.tops), len(plan.lefts))
    return [model.prompts[i] for i in prompts.ravel()]


def test_each_window_takes_the_zone_it_lies_in(model: Segmenter, tmp_path: Path) -> None:
    assert len(set(zones_of(model, nile(tmp_path / "a.tif")))) > 1
    assert set(zones_of(model, nile(tmp_path / "b.tif", 28.0, 0.1))) == {"BWh"}
    assert set(zones_of(model, nile(tmp_path / "c.tif"), Whereabouts(zone="cfb"))) == {"Cfb"}
    assert set(zones_of(model, nile(tmp_path / "d.tif"), Whereabouts(region="potsdam"))) == {"Cfb"}


def test_a_placed_model_gives_what_its_prompt_gives(model: Segmenter) -> None:
    image = torch.rand(2, 3, 32, 32) * 255
    row = list(ZONES).index("BWh")
    with torch.inference_mode():
        expected = model(image, torch.tensor([row, row]))
        assert torch.allclose(model.under(row)(image), expected, atol=1e-5)
    assert model.under(row).prompts == ("BWh",)


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


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

    def scored(lon: float | None, lat: float | None, said: Whereabouts | None = None) -> list[list[int]]:
        row = Row(image, mask, "test", Window(0, 0, 32, 32), lon=lon, lat=lat)
        manifest = Manifest((row,), model.spec.bands, legend)
        counts: list[list[int]] = evaluate(model, manifest, device="cpu", whereabouts=said).counts.tolist()
        return counts

    desert, snow = scored(31.2, 25.0), scored(106.8, -78.5)
    assert desert != snow
    assert scored(None, None, Whereabouts(zone="BWh")) == desert
    with pytest.raises(DataError, match="--zone CODE"):
        scored(None, None)
    plain = tiny_segmenter_without_prompts()
    assert Placed(plain, Whereabouts()).at(Row(image, mask, "test", Window(0, 0, 8, 8))) is plain


def tiny_segmenter_without_prompts() -> Segmenter:
    from tiny import tiny_networks, tiny_segmenter

    with tiny_networks():
        return tiny_segmenter(tile=16)
