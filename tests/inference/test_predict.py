"""`predict` as a user calls it: where maps go, what they hold, and how it ends when something is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from factories import CRSS, DTYPES, make_picture, make_raster, noise, truncate
from geodistill.cli import main
from geodistill.description import WEIGHTS
from geodistill.engine import Machines
from geodistill.errors import DataError, GeodistillError, GeodistillWarning, OutputError, RecipeError
from geodistill.inference.inputs import InputScene
from geodistill.inference.layers import SceneMap
from geodistill.inference.network import RunPlan, as_network
from geodistill.inference.options import PredictOptions, parse_bytes
from geodistill.inference.predict import map_paths, predict
from geodistill.inference.windows import WindowPlan
from geodistill.methods.supervised.network import SupervisedNetwork
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX
from tiny import brightest, tiny_segmenter, tiny_spec

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_segmenter().save(tmp_path / "model")
    return tmp_path / "model"


def mapped(model: Path, sources: list[Any], out: Path, **options: Any) -> list[SceneMap]:
    """Predict on the CPU with torch."""
    return predict(model, sources, out, PredictOptions(device="cpu", backend="torch", **options))


@pytest.mark.slow
@pytest.mark.parametrize("crs", CRSS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_map_lies_on_its_scene(tmp_path: Path, model: Path, crs: str | None, dtype: str) -> None:
    pixels = noise((3, 70, 90), dtype)
    pixels[:, :20, :30] = 0
    source = make_raster(tmp_path / "scene.tif", pixels=pixels, crs=crs, nodata=0)
    (made,) = mapped(model, [source], tmp_path / "map.tif")
    with Raster(source) as scene, Raster(made.path) as file:
        assert file.grid == scene.grid
        classes, valid, _ = file.read_labels()
    inside = (pixels > 0).all(0)
    np.testing.assert_array_equal(valid, inside)
    np.testing.assert_array_equal(classes[0][inside], brightest(pixels)[inside])
    assert (classes[0][~inside] == IGNORE_INDEX).all()


def test_alpha_and_mask_bands_become_nodata(tmp_path: Path, model: Path) -> None:
    seen = np.zeros((40, 50), bool)
    seen[5:30, 10:45] = True
    for name, extra in {"alpha": {"alpha": seen}, "mask": {"mask_band": seen}}.items():
        source = make_raster(tmp_path / f"{name}.tif", **extra)  # type: ignore[arg-type]
        (made,) = mapped(model, [source], tmp_path / f"{name}_map.tif")
        with rasterio.open(made.path) as file:
            np.testing.assert_array_equal(file.read(1) != IGNORE_INDEX, seen)


def test_plain_pictures_have_maps_too(tmp_path: Path, model: Path) -> None:
    pixels = noise((3, 33, 44))
    source = make_picture(tmp_path / "photo.png", pixels.transpose(1, 2, 0))
    (made,) = mapped(model, [source], tmp_path / "map.tif")
    with Raster(made.path) as file:
        np.testing.assert_array_equal(file.read_labels()[0][0], brightest(pixels))
        assert not file.grid.georeferenced


@pytest.mark.parametrize(("kind", "error"), [("uint8", 0.5 / 250), ("float16", 5e-4), ("float32", 1e-6)])
def test_probabilities_and_confidence_are_the_softmax_of_the_model(
    tmp_path: Path, model: Path, kind: str, error: float
) -> None:
    pixels = noise((3, 50, 40))
    pixels[:, 10:20] = 0
    source = make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=0)
    (made,) = mapped(model, [source], tmp_path / "map.tif", confidence=True, probabilities=kind)
    with torch.no_grad():
        expected = Segmenter.load(model)(torch.from_numpy(pixels[None]).float()).softmax(1)[0].numpy()
    assert made.probabilities is not None
    assert made.confidence is not None
    with Raster(made.probabilities) as raster:
        found, valid = raster.read()
        assert raster.band_names == ("c0", "c1", "c2")
    np.testing.assert_allclose(found[:, valid], expected[:, valid], rtol=0, atol=error + 1e-6)
    assert not valid[10:20].any()
    with rasterio.open(made.probabilities) as file:
        assert file.dtypes[0] == ("uint8" if kind == "uint8" else "float32")
        samples = file.read()
    if kind == "float16":
        np.testing.assert_array_equal(samples, samples.astype(np.float16))
    with Raster(made.confidence) as raster:
        confidence, seen = raster.read()
    np.testing.assert_array_equal(seen, valid)
    np.testing.assert_allclose(confidence[0][valid], expected.max(0)[valid], atol=0.5 / 250 + 1e-6)
    with rasterio.open(made.path) as file:
        np.testing.assert_array_equal(file.read(1)[valid], expected.argmax(0)[valid])


def test_several_rasters_go_into_a_directory(tmp_path: Path, model: Path) -> None:
    sources = [make_raster(tmp_path / f"s{i}.tif", height=20 + i, seed=i) for i in range(3)]
    paths = [made.path for made in mapped(model, sources, tmp_path / "maps")]
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == ["maps/s0.tif", "maps/s1.tif", "maps/s2.tif"]
    for i, path in enumerate(paths):
        with rasterio.open(path) as file:
            assert file.height == 20 + i


def scenes(*sources: str) -> list[InputScene]:
    return [InputScene(Path(source).stem, source) for source in sources]


def test_where_maps_go(tmp_path: Path) -> None:
    assert map_paths(scenes("a/x.png"), tmp_path / "m.tif") == [tmp_path / "m.tif"]
    assert map_paths(scenes("a/x.png"), tmp_path / "m") == [tmp_path / "m" / "x.tif"]
    assert map_paths(scenes("a/x.png"), tmp_path) == [tmp_path / "x.tif"]
    assert map_paths(scenes("a/x.png", "a/y.jpg"), tmp_path / "m") == [tmp_path / "m" / f"{n}.tif" for n in "xy"]
    assert map_paths(scenes("a/x.png"), tmp_path / "run.v2") == [tmp_path / "run.v2" / "x.tif"]
    with pytest.raises(OutputError, match="a directory for several maps"):
        map_paths(scenes("a/x.png", "a/y.png"), tmp_path / "m.tif")
    with pytest.raises(OutputError, match=r"m\.png; expected a name that ends in \.tif"):
        map_paths(scenes("a/x.png"), tmp_path / "m.png")
    with pytest.raises(DataError, match="of one name"):
        map_paths(scenes("a/x.png", "b/x.png"), tmp_path)
    with pytest.raises(DataError, match="no input"):
        predict(tiny_segmenter(), [], tmp_path)


def test_a_map_never_overwrites_a_raster_it_is_made_from(tmp_path: Path, model: Path) -> None:
    source = make_raster(tmp_path / "scene.tif")
    before = source.read_bytes()
    for out in (source, tmp_path):
        with pytest.raises(OutputError, match="would be overwritten, and is read"):
            mapped(model, [source], out)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overlap": 0.9}, "overlap"),
        ({"readers": 0}, "0 reading threads"),
        ({"tta": "rotate"}, "unknown test-time averaging 'rotate'"),
        ({"batch": 0}, "batch size 0"),
        ({"device": "warp"}, "device 'warp'"),
        ({"backend": "tensorrt"}, "unknown backend 'tensorrt'"),
        ({"precision": "int3"}, "unknown precision 'int3'"),
        ({"blocks": 0}, "0 blocks"),
        ({"max_memory": 1}, r"at least \d\.\d MiB for this scene and batch size; use a smaller --batch"),
        ({"gsd": "model"}, "a model without ground sampling distance"),
        ({"bands": ("1", "2", "9")}, "band 9; expected 1 to 3"),
    ],
)
def test_wrong_settings_write_nothing(tmp_path: Path, model: Path, options: dict[str, Any], says: str) -> None:
    source = make_raster(tmp_path / "scene.tif")
    with pytest.raises(GeodistillError, match=says):
        predict(model, [source], tmp_path / "new" / "map.tif", PredictOptions(**options))
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(("text", "size"), [("2GB", 2**31), ("500M", 500 * 2**20), ("1.5 GiB", 3 * 2**29), ("9", 9)])
def test_sizes_in_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1G", "2PB", "two"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(RecipeError, match="size"):
        parse_bytes(text)


def cli(model: Path, source: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the verb, which must end with status 2 and one line; give the line."""
    assert main(["predict", "--model", str(model), "--input", str(source), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    good = make_raster(tmp_path / "good.tif")
    four = make_raster(tmp_path / "four.tif", channels=4)
    assert "four.tif has 4 bands; expected 3 (b0, b1, b2)" in cli(model, four, out / "map.tif", capsys)
    cut = truncate(make_raster(tmp_path / "cut.tif", height=500, width=300, tiled=True))
    # Rows before the cut are kept for --resume, and the message says so.
    told = cli(model, cut, tmp_path / "begun" / "map.tif", capsys)
    assert "cut.tif is truncated" in told
    assert not (tmp_path / "begun" / "map.tif").exists()
    assert "no file" in cli(model, tmp_path / "missing.tif", out / "map.tif", capsys)
    assert "cannot be written" in cli(model, good, good / "below" / "map.tif", capsys)
    assert "no Segmenter" in cli(tmp_path / "nothing", good, out / "map.tif", capsys)
    data = bytearray((model / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (model / WEIGHTS).write_bytes(data)
    assert "SHA-256" in cli(model, good, out / "map.tif", capsys)
    (model / WEIGHTS).unlink()
    assert "has no model.safetensors" in cli(model, good, out / "map.tif", capsys)
    assert list(out.iterdir()) == []


def test_a_raster_that_ends_early_stops_before_the_first_map_where_bands_are_wrong(tmp_path: Path, model: Path) -> None:
    sources = [make_raster(tmp_path / "a.tif"), make_raster(tmp_path / "b.tif", channels=1)]
    with pytest.raises(DataError, match=r"b\.tif has 1 bands"):
        mapped(model, sources, tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_many_scenes_go_on_after_one_that_fails(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [make_raster(tmp_path / f"good{i}.tif", seed=i) for i in range(2)]
    four = make_raster(tmp_path / "four.tif", channels=4)
    gone = tmp_path / "gone.tif"
    sources = [str(good[0]), str(four), str(gone), str(good[1])]
    command = ["predict", "--model", str(model), "--out", str(tmp_path / "maps"), "--keep-going", "--input", *sources]
    assert main(command) == 2
    printed, errors = capsys.readouterr()
    assert errors == "geodistill: error: 2 of 4 scenes have no map; see the lines above\n"
    lines = printed.splitlines()
    assert lines[0].endswith("good0.tif")
    assert "four.tif: failed: " in lines[1]
    assert "expected 3 (b0, b1, b2) for this model; choose some of them with --bands" in lines[1]
    assert "no file" in lines[2]
    assert lines[3].endswith("good1.tif")
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.tif")) == ["good0.tif", "good1.tif"]


def test_json_tells_of_each_scene(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_raster(tmp_path / "a.tif")
    flags = ["--input", str(source), "--out", str(tmp_path / "map.tif"), "--confidence", "--stac", "--json"]
    assert main(["predict", "--model", str(model), *flags]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["map"] == str(tmp_path / "map.tif")
    assert told["confidence"] == str(tmp_path / "map_confidence.tif")
    assert told["stac"] == str(tmp_path / "map.json")
    assert (told["windows"], told["holes"], told["error"]) == (12, [], None)


def test_bands_by_number_and_by_name(tmp_path: Path, model: Path) -> None:
    pixels = noise((4, 40, 50))
    names = ["Blue", "green", "red", "nir"]
    source = make_raster(tmp_path / "scene.tif", pixels=pixels, bands=names)
    for bands in (("3", "2", "1"), ("red", "GREEN", "blue")):
        (made,) = mapped(model, [source], tmp_path / "map.tif", bands=bands)
        with rasterio.open(made.path) as file:
            np.testing.assert_array_equal(file.read(1), brightest(pixels[[2, 1, 0]]))
    # A model that knows its bands by name finds them without being told.
    own = tiny_segmenter()
    own.spec = replace(own.spec, bands=("nir", "red", "green"))
    (made,) = predict(own, [source], tmp_path / "own.tif", PredictOptions(backend="torch"))
    with rasterio.open(made.path) as file:
        np.testing.assert_array_equal(file.read(1), brightest(pixels[[3, 2, 1]]))


@pytest.mark.slow
def test_band_files_taken_in_their_order_are_said_to_be(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    model, unnamed = tiny_segmenter(), tiny_segmenter()
    model.spec = replace(model.spec, bands=("blue", "green", "red"))
    unnamed.spec = replace(unnamed.spec, bands=("band1", "band2", "band3"))
    plain = [make_raster(tmp_path / f"x_{n}.tif", channels=1) for n in "abc"]
    named = [make_raster(tmp_path / f"y_{n}.tif", channels=1, bands=[n]) for n in ("red", "green", "blue")]
    one = PredictOptions(device="cpu")
    cases = [(model, plain, one), (model, named, one), (unnamed, plain, one)]
    cases += [(model, plain, replace(one, bands=("3", "2", "1"))), (model, plain[::-1], one)]
    for number, (segmenter, files, options) in enumerate(cases):
        predict(segmenter, files, tmp_path / f"map{number}.tif", options, stack=True)
    (said,) = [str(each.message) for each in recwarn if each.category is GeodistillWarning]
    assert "x_c.tif: no band 'blue': the files are taken in their order as blue, green, red; --bands" in said


def test_blocks_of_rows_and_of_columns_give_the_same_file(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "scene.tif", height=150, width=400, tiled=True)
    network = SupervisedNetwork(3, 3, architecture="unet", encoder="test_resnet", decoder_channels=16)
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    model = tmp_path / "model"
    Segmenter.from_network("supervised", arguments, tiny_spec(std=60), network.state_dict(), 32, {}).save(model)
    options = PredictOptions(confidence=True, probabilities="uint8", device="cpu", backend="torch", batch=1)
    (whole,) = predict(model, [source], tmp_path / "whole" / "map.tif", options)
    cut: dict[str, SceneMap] = {}
    (cut["rows"],) = predict(
        model, [source], tmp_path / "rows" / "map.tif", replace(options, blocks=3), machines=Machines(workers=2)
    )
    narrow = replace(options, max_memory=int(4.6 * 2**20))
    with Raster(source) as raster:
        network = as_network(Segmenter.load(model))
        plan = RunPlan(narrow, network, WindowPlan.of(150, 400, 32, 0.25), 1, "torch", "fp32")
        assert len(plan.column_blocks(raster)) == 3
    (cut["columns"],) = predict(model, [source], tmp_path / "columns" / "map.tif", narrow)
    (cut["both"],) = predict(model, [source], tmp_path / "both" / "map.tif", replace(narrow, blocks=2))
    for name, made in cut.items():
        for layer in ("path", "confidence", "probabilities"):
            with rasterio.open(getattr(whole, layer)) as one, rasterio.open(getattr(made, layer)) as other:
                np.testing.assert_array_equal(one.read(), other.read(), err_msg=name)
        assert made.windows == whole.windows
        # Blocks are another way to the same file; only the tag that names the run differs where memory was limited.
        if name == "rows":
            assert made.path.read_bytes() == whole.path.read_bytes()
        assert sorted(path.name for path in made.path.parent.iterdir()) == sorted(
            path.name for path in whole.path.parent.iterdir()
        )


def test_a_ground_sampling_distance_far_from_the_models(tmp_path: Path) -> None:
    own = tiny_segmenter()
    own.spec = replace(own.spec, gsd=1.0)
    pixels = np.repeat(np.repeat(noise((3, 20, 30)), 2, 1), 2, 2)
    source = make_raster(tmp_path / "scene.tif", pixels=pixels)  # of 0.5 m
    with pytest.warns(GeodistillWarning, match=r"scene.tif has 0.5 m a pixel, the model 1 m: resampled to the model's"):
        (auto,) = predict(own, [source], tmp_path / "auto.tif", PredictOptions(backend="torch"))
    with pytest.warns(GeodistillWarning, match=r"scene.tif has 0.5 m a pixel, the model 1 m: the classes may mean"):
        (native,) = predict(own, [source], tmp_path / "native.tif", PredictOptions(backend="torch", gsd="native"))
    (made,) = predict(own, [source], tmp_path / "map.tif", PredictOptions(backend="torch", gsd="model"))
    with Raster(made.path) as file, Raster(source) as scene:
        assert (file.grid.height, file.grid.width) == (20, 30)
        np.testing.assert_allclose(file.grid.bounds, scene.grid.bounds)
        assert file.grid.gsd == pytest.approx(1.0, rel=1e-3)
    with Raster(native.path) as file:
        assert (file.grid.height, file.grid.width) == (40, 60)
    assert auto.path.read_bytes() == made.path.read_bytes()


def test_a_ground_sampling_distance_near_the_models_is_kept(tmp_path: Path) -> None:
    own = tiny_segmenter()
    own.spec = replace(own.spec, gsd=0.7)
    source = make_raster(tmp_path / "scene.tif", pixels=noise((3, 20, 30)))  # of 0.5 m
    (made,) = predict(own, [source], tmp_path / "map.tif", PredictOptions(backend="torch"))
    with Raster(made.path) as file:
        assert (file.grid.height, file.grid.width) == (20, 30)


def test_resume_takes_a_map_of_another_distance_for_unfinished(tmp_path: Path) -> None:
    own = tiny_segmenter()
    own.spec = replace(own.spec, gsd=0.7)
    source = make_raster(tmp_path / "scene.tif", pixels=noise((3, 20, 30)))  # of 0.5 m
    options = PredictOptions(backend="torch", resume=True)
    predict(own, [source], tmp_path / "map.tif", options)
    (again,) = predict(own, [source], tmp_path / "map.tif", replace(options, gsd="native"))
    assert again.finished_before  # 0.7 is near 0.5: the same pixels follow
    (other,) = predict(own, [source], tmp_path / "map.tif", replace(options, gsd="model"))
    assert not other.finished_before


@pytest.mark.filterwarnings("default::geodistill.errors.GeodistillWarning")
def test_a_prediction_in_memory_is_at_the_models_distance(tmp_path: Path) -> None:
    own = tiny_segmenter()
    own.spec = replace(own.spec, gsd=1.0)
    source = make_raster(tmp_path / "scene.tif", pixels=noise((3, 40, 60)))  # of 0.5 m
    assert own.predict(source).shape == (20, 30)
    assert own.predict(source, options=PredictOptions(backend="torch", gsd="native")).shape == (40, 60)


@pytest.mark.filterwarnings("default::geodistill.errors.GeodistillWarning")
def test_the_warning_is_one_line_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tiny_segmenter()
    own.spec = replace(own.spec, gsd=1.0)
    own.save(tmp_path / "model")
    source = make_raster(tmp_path / "scene.tif")
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(source), "--out", str(tmp_path / "m.tif")]
    assert main(command) == 0
    told = f"geodistill: {source} has 0.5 m a pixel, the model 1 m: "
    assert capsys.readouterr().err == f"{told}resampled to the model's; --gsd native keeps the scene's\n"
    assert main([*command, "--gsd", "native"]) == 0
    assert capsys.readouterr().err == f"{told}the classes may mean nothing\n"
    assert main([*command, "--gsd", "model"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*command, "--resample"]) == 0
    assert capsys.readouterr().err == "geodistill: --resample is now written --gsd model\n"


def test_what_lies_beside_a_finished_map_can_come_later(tmp_path: Path, model: Path) -> None:
    source = make_raster(tmp_path / "scene.tif")
    (first,) = mapped(model, [source], tmp_path / "map.tif", confidence=True)
    before = first.path.read_bytes()
    (again,) = mapped(model, [source], tmp_path / "map.tif", confidence=True, resume=True, stac=True, vector="gpkg")
    assert again.finished_before
    assert first.path.read_bytes() == before
    assert again.stac is not None
    assert set(json.loads(again.stac.read_text())["assets"]) == {"classes", "confidence", "polygons"}
    assert again.vectors == tmp_path / "map.gpkg"
