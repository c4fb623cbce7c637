"""Maps in memory: the same bytes as `predict` writes, from arrays, files and open rasters."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from factories import make_raster, noise
from geodistill.errors import DataError, OutputError, RecipeError
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.prediction import Prediction
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter
from tiny import tiny_networks, tiny_segmenter

TILE = 32
TORCH = PredictOptions(device="cpu", backend="torch")


@pytest.fixture
def segmenter() -> Segmenter:
    with tiny_networks():
        return tiny_segmenter("context", tile=TILE)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = noise((3, 77, 101))
    pixels[:, 10:30, 20:60] = 0
    return make_raster(tmp_path / "scene.tif", pixels=pixels, nodata=0)


def layers_of(path: Path) -> dict[str, np.ndarray]:
    files = {"classes": path, "confidence": path.with_name(f"{path.stem}_confidence.tif")}
    files["probabilities"] = path.with_name(f"{path.stem}_probabilities.tif")
    found = {}
    for name, file in files.items():
        with rasterio.open(file) as opened:
            found[name] = opened.read()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", ["path", "raster", "array", "tensor"])
def test_the_same_bytes_as_predict_writes(segmenter: Segmenter, scene: Path, tmp_path: Path, form: str) -> None:
    wanted = PredictOptions(device="cpu", backend="torch", confidence=True, probabilities="float32")
    predict(segmenter, [scene], tmp_path / "map.tif", wanted)
    with Raster(scene) as raster:
        pixels, grid = raster.read()[0], raster.grid
        images = {"path": scene, "raster": raster, "array": pixels, "tensor": torch.from_numpy(pixels)}
        if form in ("path", "raster"):
            prediction = segmenter.predict(images[form], probabilities=True, options=TORCH)
        else:
            options = PredictOptions(device="cpu", backend="torch", nodata=0)
            prediction = segmenter.predict(images[form], grid=grid, probabilities=True, options=options)
    prediction.save(tmp_path / "again.tif", confidence=True)
    first, again = layers_of(tmp_path / "map.tif"), layers_of(tmp_path / "again.tif")
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)
    np.testing.assert_array_equal(prediction.classes, first["classes"][0])
    np.testing.assert_array_equal(prediction.valid, first["classes"][0] != 255)
    np.testing.assert_allclose(
        np.where(prediction.valid, prediction.confidence, 0),
        np.where(first["classes"][0] != 255, first["confidence"][0] / 250, 0),
        rtol=1e-6,
    )
    with rasterio.open(tmp_path / "map.tif") as a, rasterio.open(tmp_path / "again.tif") as b:
        assert (a.crs, a.transform, a.colormap(1), a.tags()["LEGEND"], a.tags()["MODEL"]) == (
            b.crs,
            b.transform,
            b.colormap(1),
            b.tags()["LEGEND"],
            b.tags()["MODEL"],
        )


def test_nan_and_masks_are_no_data(segmenter: Segmenter) -> None:
    pixels = noise((3, 40, 50)).astype(np.float32)
    valid = np.ones((40, 50), bool)
    valid[:5] = False
    pixels[1, 20, 30] = np.nan
    prediction = segmenter.predict(pixels, valid=valid)
    assert not prediction.valid[:5].any()
    assert not prediction.valid[20, 30]
    assert prediction.valid.sum() == 35 * 50 - 1
    assert (prediction.classes[~prediction.valid] == 255).all()
    assert np.isnan(prediction.confidence[~prediction.valid]).all()
    # What is masked is 0 before the network, so its values do not matter.
    other = pixels.copy()
    other[:, :5] = 77
    np.testing.assert_array_equal(segmenter.predict(other, valid=valid).classes, prediction.classes)


@pytest.mark.parametrize("shape", [(1, 1), (5, 200), (31, 33), (32, 32)])
def test_any_size(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    prediction = segmenter.predict(noise((3, *shape)))
    assert prediction.classes.shape == prediction.confidence.shape == prediction.shape == shape
    assert prediction.to_rgb().shape == (*shape, 4)
    assert sum(prediction.shares().values()) == pytest.approx(1)


def test_polygons_are_those_of_the_classes(segmenter: Segmenter, scene: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    prediction = segmenter.predict(scene)
    frame = prediction.polygons()
    assert isinstance(frame, geopandas.GeoDataFrame)
    counts = np.bincount(prediction.classes[prediction.valid], minlength=3)
    assert frame.groupby("class")["pixels"].sum().reindex(range(3), fill_value=0).tolist() == counts.tolist()
    assert frame.crs == prediction.grid.crs
    pixel = abs(prediction.grid.transform.determinant)
    np.testing.assert_allclose(frame.area, frame["pixels"] * pixel)


def test_it_shows_itself(segmenter: Segmenter) -> None:
    from dataclasses import replace

    prediction = segmenter.predict(noise((3, 700, 40)))
    assert repr(prediction).startswith("Prediction(700 x 40 pixels: ")
    hostile = replace(prediction, legend=replace(prediction.legend, names=("<b>", "b&c", "c")))
    page = hostile._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "data:image/png;base64," in page


def test_a_plot_has_the_classes_that_occur(segmenter: Segmenter) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    prediction = segmenter.predict(noise((3, 64, 64)))
    axes = prediction.plot()
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == [name for name, share in prediction.shares().items() if share]


def test_what_does_not_fit_is_one_line(segmenter: Segmenter, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="moveaxis"):
        segmenter.predict(noise((3, 40, 50)).transpose(1, 2, 0))
    with pytest.raises(DataError, match="has 2 bands"):
        segmenter.predict(noise((2, 40, 50)))
    with pytest.raises(DataError, match="mask of shape"):
        segmenter.predict(noise((3, 40, 50)), valid=np.ones((50, 40), bool))
    with pytest.raises(DataError, match="real numbers"):
        segmenter.predict(noise((3, 40, 50)).astype(complex))
    with pytest.raises(RecipeError, match="with a file"):
        segmenter.predict(scene, valid=np.ones((77, 101), bool))
    with pytest.raises(RecipeError, match="without them"):
        segmenter.predict(scene, options=PredictOptions(stac=True))
    with Raster(scene) as raster, pytest.raises(RecipeError, match="open Raster with nodata"):
        segmenter.predict(raster, options=PredictOptions(nodata=7))
    with pytest.raises(DataError):
        segmenter.predict(tmp_path / "none.tif")


def test_what_was_mapped_is_not_written_over(segmenter: Segmenter, scene: Path) -> None:
    photo = scene.read_bytes()
    with pytest.raises(OutputError, match=scene.name):
        segmenter.predict(scene).save(scene)
    assert scene.read_bytes() == photo


def test_a_model_in_training_stays_so(segmenter: Segmenter) -> None:
    for training in (True, False):
        segmenter.train(training).predict(noise((3, 40, 50)))
        assert segmenter.training == training


def test_nothing_is_left_beside_a_saved_map(segmenter: Segmenter, tmp_path: Path) -> None:
    prediction: Prediction = segmenter.predict(noise((3, 40, 50)))
    assert prediction.save(tmp_path / "new" / "map.tif") == tmp_path / "new" / "map.tif"
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["map.qml", "map.tif", "map.tif.aux.xml"]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_nothing_is_printed_of_a_file(
    segmenter: Segmenter, tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make_raster(tmp_path / "scene.tif", height=40, width=50)
    if suffix == ".png":
        path = tmp_path / "scene.png"
        Image.fromarray(noise((3, 40, 50)).transpose(1, 2, 0).copy()).save(path)
    assert segmenter.predict(path, options=TORCH).grid.height == 40
    assert capfd.readouterr().err == ""


def test_an_array_of_more_bands_is_refused_with_what_python_takes(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match=r"an image of 4 bands; expected 3 .* such as image\[:3\]"):
        segmenter.predict(noise((4, 40, 50)), options=TORCH)
