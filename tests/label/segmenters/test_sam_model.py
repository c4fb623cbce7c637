"""Loading networks of the SAM family: what is refused, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.label.segmenters.promptable import build_segmenter
from geodistill.label.segmenters.sam_model import FAMILIES, SamNetwork, load_network
from promptable import SIDE, promptable, save_promptable


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_promptable("sam", tmp_path_factory.mktemp("sam"))


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_directory_is_loaded_without_gradients(saved: Path) -> None:
    network = load_network("sam", str(saved), "cpu")
    assert not any(parameter.requires_grad for parameter in network.model.parameters())
    assert (network.side, network.model.training) == (SIDE, False)


def test_how_a_tile_lies_in_the_input() -> None:
    frames = {}
    for family in ("sam", "sam2"):
        model, processor = promptable(family)
        network = SamNetwork(model, processor.image_processor, FAMILIES[family], torch.device("cpu"))
        frames[family] = network.frame(100, 48)
    assert frames["sam"].inner == (64, 31)
    assert frames["sam2"].inner == (64, 64)
    assert {frame.side_of_masks for frame in frames.values()} == {16}


def test_without_stored_preparation_the_familys_own_is_taken(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "bare")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    bare, full = (load_network("sam", str(place), "cpu").processor for place in (folder, saved))
    assert (bare.size, bare.pad_size, bare.image_mean) == (full.size, full.pad_size, full.image_mean)


def test_another_familys_network_is_refused(saved: Path) -> None:
    with pytest.raises(ArtifactError, match="kind 'sam'; expected one of sam2, sam2_video"):
        load_network("sam2", str(saved), "cpu")


def test_missing_tensors_are_refused_rather_than_left_random(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks 1 tensors, such as mask_decoder.iou_token.weight"):
        load_network("sam", str(folder), "cpu")


@pytest.mark.parametrize("damage", ["no config", "no weights", "config", "weights", "pickle", "shapes", "size"])
def test_damaged_directories_are_told_on_one_line(saved: Path, tmp_path: Path, damage: str) -> None:
    folder = copy_of(saved, tmp_path / "damaged")
    config, weights = folder / "config.json", folder / "model.safetensors"
    if damage == "no config":
        config.unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "config":
        config.write_text("{")
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "pickle":
        torch.save(load_file(weights), folder / "pytorch_model.bin")
        weights.unlink()
    elif damage == "shapes":
        content = json.loads(config.read_text())
        content["mask_decoder_config"]["mlp_dim"] = 47
        config.write_text(json.dumps(content))
    else:
        for name in ("preprocessor_config.json", "processor_config.json"):
            if (folder / name).is_file():
                (folder / name).write_text((folder / name).read_text().replace(f": {SIDE}", ": 96"))
    with pytest.raises(ArtifactError) as error:
        load_network("sam", str(folder), "cpu")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_hub_that_cannot_be_reached_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True)
    with pytest.raises(ArtifactError, match="give its local directory"):
        load_network("sam", "nobody/no-such-network", "cpu")


@pytest.mark.parametrize("place", ["./missing", "/no/such/directory", "a/b/c"])
def test_a_missing_directory_is_not_looked_for_on_the_hub(place: str) -> None:
    with pytest.raises(ArtifactError, match="no directory"):
        load_network("sam", place, "cpu")


def test_a_missing_device_is_told(saved: Path) -> None:
    with pytest.raises(RecipeError, match="device 'nonsense'"):
        load_network("sam", str(saved), "nonsense")


@pytest.mark.parametrize("name", ["grabcot", "sam", "sam:", "sam4:dir", ""])
def test_unknown_segmenters_are_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"expected (a known|one of)"):
        build_segmenter(name)


def test_segmenters_by_name(saved: Path) -> None:
    names = ["box", "grabcut", f"sam:{saved}"]
    assert [build_segmenter(name, device="cpu").name for name in names] == names
