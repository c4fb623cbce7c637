"""Every flag of `predict` reaches what it is for."""

from dataclasses import fields, replace
from typing import Any

import pytest

from geodistill.cli import main
from geodistill.cli.arguments import parse
from geodistill.cli.predict import flagged_options, predict_parser
from geodistill.engine import Machines
from geodistill.inference.options import PredictOptions

GIVEN = ["--model", "m", "--input", "a.tif", "b.tif", "--out", "o"]

OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["--batch", "3"], {"batch": 3}),
    (["--batch", "auto"], {"batch": "auto"}),
    (["--device", "cpu"], {"device": "cpu"}),
    (["--backend", "onnx"], {"backend": "onnx"}),
    (["--precision", "bf16"], {"precision": "bf16"}),
    (["--compile"], {"compile": True}),
    (["--bands", "4,red,nir"], {"bands": ("4", "red", "nir")}),
    (["--nodata", "-1.5"], {"nodata": -1.5}),
    (["--gsd", "native"], {"gsd": "native"}),
    (["--max-memory", "1.5GB"], {"max_memory": 3 * 2**29}),
    (["--resume"], {"resume": True}),
    (["--blocks", "5"], {"blocks": 5}),
    (["--stac"], {"stac": True}),
    (["--local-only"], {"local_only": True}),
    (["--preview", "--web-tiles", "mbtiles", "--unlike"], {"preview": True, "web_tiles": "mbtiles", "unlike": True}),
    (["--aoi", "town.gpkg", "--zoom", "18"], {"aoi": "town.gpkg", "zoom": 18}),
    (["--vector", "gpkg", "--min-area", "2.5", "--simplify", "1"], {"vector": "gpkg", "min_area": 2.5, "simplify": 1}),
    (
        ["--vector", "fgb", "--objects", "tree", "house", "--right-angles", "house"],
        {"vector": "fgb", "objects": ("tree", "house"), "right_angles": ("house",)},
    ),
    (["--lonlat", "-3.5", "50"], {"lonlat": (-3.5, 50.0)}),
    (["--zone", "Cfb", "--date", "2020-06-01"], {"zone": "Cfb", "date": "2020-06-01"}),
    (["--region", "potsdam"], {"region": "potsdam"}),
    (["--overlap", "0.5"], {"overlap": 0.5}),
    (["--blend", "none"], {"blend": "none"}),
    (["--tta", "d4"], {"tta": "d4"}),
    (["--scales", "0.75", "1"], {"scales": (0.75, 1.0)}),
    (["--probabilities", "uint8"], {"probabilities": "uint8"}),
    (["--class-sets", "0.95"], {"class_sets": 0.95}),
    (["--confidence"], {"confidence": True}),
    (["--confidence", "--confidence-as", "margin"], {"confidence": True, "confidence_as": "margin"}),
    (["--readers", "3"], {"readers": 3}),
    (["--keep-going"], {"keep_going": True}),
]
CALL: list[tuple[list[str], dict[str, Any]]] = [
    ([], {"stack": False, "machines": Machines()}),
    (["--stack"], {"stack": True}),
    (["--mosaic"], {"mosaic": True, "stack": False}),
    (["--engine", "ray", "--address", "ray://head:10001", "--gpus", "0.5"],
     {"machines": Machines("ray", address="ray://head:10001", gpus=0.5)}),
    (["--workers", "7"], {"machines": Machines(workers=7)}),
]  # fmt: skip


def options(*given: str) -> PredictOptions:
    return flagged_options(parse(predict_parser(), [*GIVEN, *given]))


def test_without_flags_all_is_as_in_python() -> None:
    assert options() == PredictOptions()


@pytest.mark.parametrize(("given", "changed"), OPTIONS, ids=lambda value: str(value))
def test_flags_of_options(given: list[str], changed: dict[str, Any]) -> None:
    assert options(*given) == replace(PredictOptions(), **changed)


@pytest.mark.parametrize(("given", "changed"), CALL, ids=lambda value: str(value))
def test_flags_of_the_call(given: list[str], changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr("geodistill.inference.predict.predict", lambda *a, **more: calls.append((a, more)) or [])
    assert main(["predict", *GIVEN, *given]) == 0
    ((arguments, named),) = calls
    assert arguments == ("m", ["a.tif", "b.tif"], "o", PredictOptions())
    assert changed.items() <= named.items()


def test_no_flag_is_left_out_here() -> None:
    tried = {flag for table in (OPTIONS, CALL) for given, _ in table for flag in given if flag[:2] == "--"}
    known = {flag for action in predict_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    graphs = {"--classes", "--scale", "--model-gsd", "--tile"}  # tried with an ONNX file
    assert known - tried - graphs == {"--help", "--model", "--input", "--out", "--json"}
    # And no option that a user of Python has is without its flag.
    assert {name for _, changed in OPTIONS for name in changed} == {f.name for f in fields(PredictOptions)}
