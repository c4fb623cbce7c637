"""Exports that other programs load: torch alone, OpenVINO; each compared with torch on real tiles."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import geodistill as gd
from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, RecipeError
from geodistill.exports.agreement import check_agreement, real_tiles
from geodistill.exports.exporters import EXPORTERS, ExportOptions, export
from geodistill.project.stage_settings import ExportKeys
from geodistill.segmenter import Segmenter

ALONE = """
import json, sys, torch
files = {"geodistill.json": ""}
program = torch.export.load(sys.argv[1], extra_files=files).module()
images = torch.load(sys.argv[2])
torch.save(program(images), sys.argv[3])
assert not [name for name in sys.modules if name.startswith("geodistill")]
print(files["geodistill.json"] if isinstance(files["geodistill.json"], str) else files["geodistill.json"].decode())
"""


def test_a_form_has_the_name_that_it_asks_for() -> None:
    names = {form: exporter.named("town", form) for form, exporter in EXPORTERS.items()}
    assert names == {
        **{"onnx": "town.onnx", "qgis": "town_qgis.onnx", "pt2": "town.pt2", "tflite": "town.tflite"},
        **{form: form for form in ("openvino", "stac", "hub")},
    }


@pytest.mark.parametrize("documented", [gd.export, ExportKeys])
def test_where_a_form_is_asked_for_all_are_named(documented: Any) -> None:
    (line,) = (line for line in documented.__doc__.splitlines() if line.strip().startswith("to: "))
    assert re.findall("``(.+?)``", line) == list(EXPORTERS)


@pytest.mark.parametrize(
    ("form", "options"),
    [("qgis", {"size": 64}), ("onnx", {"overlap": 90}), ("stac", {"licence": "mit"}), ("hub", {"check": ("a.tif",)})],
)
def test_an_option_of_another_form_is_refused(
    segmenter: Segmenter, tmp_path: Path, form: str, options: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match=f"{next(iter(options))} with {form}"):
        export(segmenter, form, tmp_path / "out.onnx", ExportOptions(**options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [{"size": 0}, {"size": "64"}, {"batch": -1}])
def test_a_size_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="at least 1, or any"):
        ExportOptions(**given)


@pytest.mark.slow
def test_torch_alone_loads_the_program(segmenter: Segmenter, manifest: Manifest, tmp_path: Path) -> None:
    segmenter.save(tmp_path / "model")
    check = ["--check", str(manifest.path)]
    argv = ["export", "--model", str(tmp_path / "model"), "--to", "pt2", "--out", str(tmp_path / "m.pt2")]
    assert main([*argv, *check]) == 0
    images = torch.from_numpy(noise((3, 3, 32, 32)).astype(np.float32))
    torch.save(images, tmp_path / "images.pt")
    command = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in ("m.pt2", "images.pt", "logits.pt"))]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": "", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["names"] == {"0": "c0", "1": "c1", "2": "c2"}
    assert (about["tile"], about["bands"]) == (32, ["b0", "b1", "b2"])
    with torch.inference_mode():
        torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), segmenter(images), rtol=1e-4, atol=1e-4)
    data = (tmp_path / "m.pt2").read_bytes()
    # Nothing of this machine: no path of the package, of torch, or of the folder.
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        texts = b"".join(archive.read(name) for name in archive.namelist())
    for place in (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), str(tmp_path)):
        assert place.encode() not in texts + data


@pytest.mark.slow
def test_openvinos_files_give_torchs_classes(segmenter: Segmenter, manifest: Manifest, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    scene = make_raster(tmp_path / "scene.tif", pixels=noise((3, 80, 90)))
    options = ExportOptions(check=(str(scene), str(manifest.path)))
    made = export(segmenter, "openvino", tmp_path / "ov", options)
    assert "100.000 % of the pixels of" in str(made)
    model = openvino.Core().read_model(tmp_path / "ov" / "model.xml")
    assert json.loads(model.get_rt_info(["geodistill", "names"]).astype(str)) == {"0": "c0", "1": "c1", "2": "c2"}
    assert (tmp_path / "ov" / "model.bin").stat().st_size > 4 * sum(p.numel() for p in segmenter.parameters()) * 0.9
    export(segmenter, "openvino", tmp_path / "ov", ExportOptions())  # over its own
    # Compared at the size that it takes, not at the model's own.
    larger = ExportOptions(check=(str(scene),), size=segmenter.tile + 32)
    assert "torch's class" in str(export(segmenter, "openvino", tmp_path / "larger", larger))


def test_a_form_that_gives_other_classes_is_refused(segmenter: Segmenter, manifest: Manifest, tmp_path: Path) -> None:
    sources = [str(manifest.path)]
    tiles = real_tiles(segmenter, sources, segmenter.tile)
    assert {tuple(tile.shape) for tile in tiles} == {(3, 32, 32)}
    agreed = check_agreement(segmenter, segmenter, sources, Path("m"))
    assert (agreed.same, agreed.difference, agreed.tiles, agreed.real) == (1, 0, len(tiles), True)

    def turned(images: torch.Tensor) -> torch.Tensor:
        logits = segmenter(images).clone()
        logits[:, :, 0, :4] = logits[:, :, 0, :4].flip(1)  # 4 of 1024 pixels
        return logits

    with pytest.raises(ArtifactError, match=r"99\.\d+ % of the pixels .* at least 99\.9 %"):
        check_agreement(segmenter, turned, sources, Path("m"))
    assert "tiles of noise" in str(check_agreement(segmenter, segmenter, [], Path("m")))
