"""MetaSegNet from a folder to a map: fit, evaluate, predict, resume, inspect."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from factories import make_picture
from geodistill.cli import main
from geodistill.errors import ArtifactError, DataError
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter
from geodistill.synthetic import REGIONS, write_dataset
from geodistill.text import features as text
from geodistill.text.climate import ZONES
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from tiny_text import tiny_bert

pytestmark = pytest.mark.slow

TINY = [
    "--network.encoder", "test_convnext", "--network.width", "16", "--network.heads", "2", "--data.crop", "32",
    "--data.batch_size", "2", "--data.workers", "0", "--trainer.max_steps", "3", "--trainer.val_every_steps", "2",
    "--trainer.accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    write_dataset(folder, REGIONS["north"], 6, 64)
    assert main(["data", "scan", "--images", str(folder), "--legend", str(folder / "legend.yaml"),
                 "--out", str(folder / "m.parquet")]) == 0  # fmt: skip
    return folder


def test_a_georeferenced_folder_is_learned_and_mapped_under_its_own_zone(town: Path, tmp_path: Path) -> None:
    recipe = load_recipe("metasegnet-folder", [*TINY, "--data.manifest", str(town / "m.parquet")])
    result = fit(recipe, tmp_path / "run")
    assert result.miou is not None
    segmenter = Segmenter.load(tmp_path / "run")
    assert segmenter.prompts == tuple(ZONES)
    image = torch.rand(2, 3, 32, 32) * 255
    with torch.inference_mode():
        logits = segmenter(image, torch.tensor([0, 6]))
        again = Segmenter.load(tmp_path / "run" / "segmenter")(image, torch.tensor([0, 6]))
    assert torch.equal(logits, again)
    with pytest.raises(ArtifactError, match="climate zone"):
        segmenter(image)


def test_unlabelled_images_are_seen_under_the_prompts_of_their_own_zones(town: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "south", REGIONS["south"], 3, 64)
    assert main(["data", "scan", "--images", str(tmp_path / "south" / "images"), "--unlabelled",
                 "--out", str(tmp_path / "south.parquet")]) == 0  # fmt: skip
    flags = ["--data.manifest", str(town / "m.parquet"), "--data.unlabelled", str(tmp_path / "south.parquet")]
    fit(load_recipe("metasegnet-folder", [*TINY, *flags]), tmp_path / "run")


def as_picture(image: Path, folder: Path) -> Path:
    """Write an image again as one that does not say where it lies."""
    with Raster(image) as raster:
        pixels, _ = raster.read()
    return make_picture(folder / f"{image.stem}.png", pixels.transpose(1, 2, 0))


def test_a_set_from_nowhere_names_its_zone(town: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from geodistill.data.manifest import Manifest

    manifest = Manifest.load(town / "m.parquet")
    bare = tuple(
        replace(row, image=as_picture(row.image, tmp_path / "bare"), lon=None, lat=None) for row in manifest.entries
    )
    replace(manifest, entries=bare).save(tmp_path / "bare.parquet")
    flags = [*TINY, "--data.manifest", str(tmp_path / "bare.parquet")]
    with pytest.raises(DataError, match=r"text\.zone or text\.region in a recipe"):
        fit(load_recipe("metasegnet-folder", flags), tmp_path / "run")
    fit(load_recipe("metasegnet-folder", [*flags, "--text.zone", "Cfb"]), tmp_path / "run")


def test_one_prompt_for_all_needs_no_place(town: Path, tmp_path: Path) -> None:
    flags = [*TINY, "--data.manifest", str(town / "m.parquet"), "--text.kind", "plain"]
    fit(load_recipe("metasegnet-folder", flags), tmp_path / "run")
    segmenter = Segmenter.load(tmp_path / "run")
    assert segmenter(torch.rand(1, 3, 32, 32)).shape == (1, segmenter.spec.classes, 32, 32)
    assert main(["evaluate", "--model", str(tmp_path / "run"), "--manifest", str(town / "m.parquet"),
                 "--out", str(tmp_path / "test"), "--device", "cpu"]) == 0  # fmt: skip
    scene = next((town / "images").iterdir())
    assert main(["predict", "--model", str(tmp_path / "run"), "--input", str(scene),
                 "--out", str(tmp_path / "map.tif"), "--device", "cpu"]) == 0  # fmt: skip


def test_a_finished_model_reads_no_text_encoder(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bert = tiny_bert(tmp_path / "bert", longest=400)
    flags = [*TINY, "--data.manifest", str(town / "m.parquet"), "--text.encoder", str(bert), "--text.tokens", "400"]
    fit(load_recipe("metasegnet-folder", flags), tmp_path / "run")
    shutil.rmtree(bert)

    def refuse(name: str) -> None:
        raise AssertionError(f"text encoder {name} opened")

    monkeypatch.setattr(text, "open_text_encoder", refuse)
    scene = next((town / "images").iterdir())
    for command in (
        ["predict", "--input", str(scene), "--out", str(tmp_path / "map.tif")],
        ["evaluate", "--manifest", str(town / "m.parquet"), "--out", str(tmp_path / "test")],
    ):
        given = [*command, "--model", str(tmp_path / "run"), "--device", "cpu"]
        assert main(given) == 0, capsys.readouterr().err


def test_inspect_counts_the_text_encoder_as_frozen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "metasegnet-openearthmap", "--classes", "9", "--size", "64"]) == 0
    told = capsys.readouterr().out
    counts = {name.strip(): int(n.replace(",", "")) for name, n in re.findall(r"^  (\D+?)  +([\d,]+)$", told, re.M)}
    assert counts["text encoder (frozen, not kept)"] == 109_482_240
    assert round(counts["parameters"] / 1e6, 1) == 204.5
    assert counts["trainable"] == counts["parameters"] - 109_482_240
    assert re.search(r"trainable share +46\.5 %", told)
