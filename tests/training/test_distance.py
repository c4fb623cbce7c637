"""A distance head: asked for by its factor, trained, kept in the Segmenter, asked by `predict --objects`."""

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch

from factories import make_raster, noise
from geodistill.errors import RecipeError
from geodistill.inference import worker
from geodistill.inference.objects.write_objects import write_objects
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.methods.supervised.training import SupervisedObjective
from geodistill.nn.distance import distance_loss
from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe


def test_its_loss_is_a_term_where_the_network_has_one() -> None:
    mask = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 255]]])
    logits, distance = torch.randn(1, 2, 2, 4), torch.randn(1, 1, 2, 4)
    objective = SupervisedObjective({"ce": 1.0, "distance": 1.0})
    terms = objective(SegmentationOutput(logits, distance=distance), {"mask": mask}, 0)
    assert terms["distance"] == distance_loss(distance, mask)
    assert set(SupervisedObjective({"ce": 1.0})(SegmentationOutput(logits), {"mask": mask}, 0)) == {"ce"}


@pytest.mark.slow
def test_it_is_trained_and_used_where_its_loss_has_a_factor(town: Path, tmp_path: Path) -> None:
    keys = {"losses.weights.distance": 1.0}
    recipe = load_recipe(
        {
            "method": "supervised",
            "data": {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0},
            "network": {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8},
            "trainer": {"max_steps": 3, "accelerator": "cpu", "pictures": 0},
        },
        keys,
    )
    fit(recipe, tmp_path / "run")
    model = Segmenter.load(tmp_path / "run")
    assert model.arguments["distance"] is True
    bands, classes = model.spec.channels, model.spec.legend.names
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((bands, 70, 80)))
    options = PredictOptions(vector="gpkg", objects=(classes[0],), probabilities="float32")
    (made,) = predict(model, [scene], tmp_path / "map.tif", options)
    assert made.distance == tmp_path / "map_distance.tif"
    with rasterio.open(made.distance) as file, rasterio.open(made.probabilities) as shares:
        steps, total = file.read(1), shares.read().sum(0)
        assert (file.descriptions, shares.count) == (("distance",), len(classes))
    assert steps.max() <= 250
    assert len(np.unique(steps)) > 5
    np.testing.assert_allclose(total, 1, atol=1e-5)
    # The objects are those that it tells apart, and others than without it.
    about = {"min_area": options.min_area, "confidence": made.confidence}
    asked = write_objects(made.path, options.objects, "fgb", **about, distance=made.distance).path
    alone = write_objects(made.path, options.objects, "parquet", **about).path
    outlines = [sorted(shapely.to_wkt(geopandas.read_file(path).geometry)) for path in (made.objects, asked)]
    assert outlines[0] == outlines[1] != sorted(shapely.to_wkt(geopandas.read_parquet(alone).geometry))
    # Continued, it is run as asked, whatever else another map there was made by.
    with pytest.MonkeyPatch.context() as patch:
        chosen = {"backend": "onnx", "precision": "fp32", "batch": 4, "device": "cpu"}
        patch.setattr(worker, "chosen_for", lambda path: chosen)
        (again,) = predict(model, [scene], tmp_path / "again.tif", replace(options, resume=True))
    assert again.objects is not None
    # Without objects it is not asked, and the classes are the same.
    (plain,) = predict(model, [scene], tmp_path / "plain.tif", PredictOptions(backend="torch"))
    assert plain.distance is None
    with rasterio.open(made.path) as file, rasterio.open(plain.path) as other:
        assert (file.read() == other.read()).all()
    with pytest.raises(RecipeError, match="objects by a distance head with backend onnx"):
        predict(model, [scene], tmp_path / "o.tif", PredictOptions(vector="gpkg", objects=classes[:1], backend="onnx"))
