"""The table of layers agrees with what can be asked for and with what a finished scene names."""

from dataclasses import fields

from geodistill.inference.geotiff import band_names
from geodistill.inference.layers import LAYERS, SceneMap
from geodistill.inference.options import PredictOptions


def test_a_finished_scene_has_a_place_for_every_layer() -> None:
    assert set(LAYERS) - {"classes"} <= {field.name for field in fields(SceneMap)}


def test_only_the_map_of_classes_is_made_unasked() -> None:
    assert PredictOptions().layers == ("classes",)
    everything = PredictOptions(probabilities="uint8", class_sets=0.9, vector="gpkg", objects=("house",))
    assert everything.layers == tuple(LAYERS)


def test_bands_are_named_after_the_layer_or_the_classes() -> None:
    names = ("ground", "house")
    assert {layer: band_names(layer, names) for layer in LAYERS} == {
        "classes": ("class",),
        "confidence": ("confidence",),
        "probabilities": names,
        "distance": ("distance",),
        "class_sets": ("classes in the set", *names),
    }
