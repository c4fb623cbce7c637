"""The Segmenter directory: what it keeps, what it leaves behind, and how a wrong or hostile one is refused."""

import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geodistill.description import DESCRIPTION, WEIGHTS, find_segmenter, sealed
from geodistill.errors import ArtifactError, GeodistillError, OutputError, UnknownNameError
from geodistill.folders import MARKER
from geodistill.methods.ktda.network import KtdaNetwork
from geodistill.methods.supervised.network import SupervisedNetwork
from geodistill.nn.output import Normalised
from geodistill.nn.weights import sha256_of
from geodistill.segmenter import Segmenter, read_description
from tiny import tiny_segmenter, tiny_spec

pytestmark = pytest.mark.usefixtures("tiny_models")

UNET: dict[str, Any] = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny_segmenter().save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description in place, and its digest too, as one who means harm would."""
    data = json.loads((folder / DESCRIPTION).read_text())
    change(data)
    (folder / DESCRIPTION).write_text(json.dumps(sealed(data)))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_saved_and_loaded_it_gives_the_same_logits(channels: int, tmp_path: Path) -> None:
    spec = tiny_spec(channels, 5, std=30.0)
    network = SupervisedNetwork(channels, 5, **UNET).eval()
    provenance = {"recipe": {"method": "supervised"}, "scores": {"validation_miou": 0.5}, "versions": {"torch": "2"}}
    segmenter = Segmenter.from_network("supervised", UNET, spec, network.state_dict(), 64, provenance)
    image = 100 * torch.rand(2, channels, 45, 70)
    with torch.no_grad():
        expected = Normalised(spec.mean, spec.std, network)(image).logits
        segmenter.to(memory_format=torch.channels_last).save(tmp_path / "model")
        loaded = Segmenter.load(tmp_path / "model")
        logits = loaded(image)
    assert logits.shape == (2, 5, 45, 70)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert not loaded.training
    assert (loaded.spec, loaded.tile, loaded.provenance) == (spec, 64, provenance)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [MARKER, WEIGHTS, DESCRIPTION]


def test_a_fingerprint_tells_models_apart_whose_maps_would_differ(saved: Path) -> None:
    model = Segmenter.load(saved)
    assert model.fingerprint() == tiny_segmenter().fingerprint()
    legend = replace(model.spec.legend, names=("a", "b", "c"))
    specs = [replace(model.spec, mean=(1.0, 2.0, 3.0)), replace(model.spec, legend=legend)]
    others = [Segmenter(model.name, {}, spec, model.tile, {}) for spec in specs]
    others.append(Segmenter(model.name, {}, model.spec, model.tile + 1, {}))
    others.append(Segmenter("context", {}, model.spec, model.tile, {}))
    others.append(tiny_segmenter("context", tile=model.tile))
    with torch.no_grad():
        next(others[-1].parameters()).add_(1)
    assert len({model.fingerprint(), *(other.fingerprint() for other in others)}) == 1 + len(others)


@pytest.mark.slow
def test_auxiliary_parts_and_side_projections_stay_behind(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "encoder": "test_resnet",
        "teacher_channels": [24, 48, 64, 128],
        "teacher_strides": [4, 8, 16, 32],
        "decode_from": "encoder",
    }
    network = KtdaNetwork(3, 4, **arguments).eval()
    segmenter = Segmenter.from_network("ktda", arguments, tiny_spec(3, 4), network.state_dict(), 64, {})
    segmenter.save(tmp_path / "model")
    kept = load_file(tmp_path / "model" / WEIGHTS)
    assert set(kept) < set(network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(Segmenter.load(tmp_path / "model")(image), network(image).logits)


def test_weights_that_lack_something_are_refused() -> None:
    network = SupervisedNetwork(3, 5, **UNET)
    state = dict(network.state_dict())
    del state["decoder.classifier.weight" if "decoder.classifier.weight" in state else next(iter(state))]
    with pytest.raises(ArtifactError, match=r"weights without .* \(1 keys missing\)"):
        Segmenter.from_network("supervised", UNET, tiny_spec(3, 5), state, 64, {})


def test_four_bands_for_a_model_of_three() -> None:
    with pytest.raises(ArtifactError, match=r"image of shape \(1, 4, 8, 8\); expected \(batch, 3, .* b0, b1, b2"):
        tiny_segmenter()(torch.zeros(1, 4, 8, 8))


def test_it_is_found_inside_a_run_and_described_without_its_weights(tmp_path: Path) -> None:
    tiny_segmenter().save(tmp_path / "run" / "segmenter")
    assert find_segmenter(tmp_path / "run") == tmp_path / "run" / "segmenter"
    assert Segmenter.load(tmp_path / "run").tile == 16
    (tmp_path / "run" / "segmenter" / WEIGHTS).unlink()
    assert read_description(tmp_path / "run") == ("band", {}, tiny_spec())


def test_saving_again_replaces_an_earlier_one_and_nothing_else(saved: Path) -> None:
    tiny_segmenter(tile=32).save(saved)
    assert Segmenter.load(saved).tile == 32
    assert sorted(p.name for p in saved.parent.iterdir()) == ["model"]
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"what geodistill did not write there \(notes.txt\)"):
        tiny_segmenter(tile=64).save(saved)
    assert Segmenter.load(saved).tile == 32
    assert (saved / "notes.txt").read_text() == "mine"


def test_whoever_may_read_the_description_may_read_the_weights(tmp_path: Path) -> None:
    held = os.umask(0o027)
    try:
        tiny_segmenter().save(tmp_path / "model")
    finally:
        os.umask(held)
    assert {(tmp_path / "model" / name).stat().st_mode & 0o777 for name in (WEIGHTS, DESCRIPTION)} == {0o640}


def test_the_weights_say_that_they_are_of_torch(saved: Path) -> None:
    with safe_open(saved / WEIGHTS, "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_a_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=re.escape(str(saved))):
        Segmenter.load(saved)


def test_altered_weights(saved: Path) -> None:
    data = bytearray((saved / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (saved / WEIGHTS).write_bytes(data)
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        Segmenter.load(saved)


def put_weights(folder: Path, state: dict[str, torch.Tensor] | bytes) -> None:
    """Replace the weights and their checksum too, as one who means harm would."""
    if isinstance(state, bytes):
        (folder / WEIGHTS).write_bytes(state)
    else:
        save_file(state, folder / WEIGHTS)
    edit(folder, lambda data: data.update(weights_sha256=sha256_of(folder / WEIGHTS)))


class Harmful:
    """Runs when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("kind", ["pickle", "empty", "extra", "missing", "shape"])
def test_weights_of_another_kind_are_never_opened_as_code(saved: Path, kind: str) -> None:
    state = load_file(saved / WEIGHTS)
    first = next(iter(state))
    put_weights(
        saved,
        {
            "pickle": pickle.dumps(Harmful()),
            "empty": b"",
            "extra": state | {"more": torch.zeros(1)},
            "missing": {k: v for k, v in state.items() if k != first},
            "shape": state | {first: torch.zeros(7)},
        }[kind],
    )
    with pytest.raises(ArtifactError, match="does not fit") as caught:
        Segmenter.load(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format_version=3), "of format 3; expected format 1 or 2"),
        (lambda d: d.update(surprise=1), "unknown keys surprise"),
        (lambda d: d.pop("tile"), "keys tile"),
        (lambda d: d.update(tile="64"), "tile '64'"),
        (lambda d: d.update(tile=0), "tile 0; expected a side of 8 to 8192"),
        (lambda d: d.update(tile=1), "tile 1; expected a side of 8 to 8192"),
        (lambda d: d.update(tile=10**9), "tile 1000000000; expected a side of 8 to 8192"),
        (lambda d: d.update(tile=True), "tile True"),
        (lambda d: d["spec"].update(mean=[0.0, float("nan"), 0.0]), "finite numbers"),
        (lambda d: d["spec"].update(mean=[0.0, 0.0, 1e39]), "finite numbers"),
        (lambda d: d["spec"].update(std=[1.0, 1.0, float("inf")]), "finite numbers above 0"),
        (lambda d: d["spec"].update(std=[1.0, 1.0, float("nan")]), "finite numbers above 0"),
        (lambda d: d["spec"].update(std=[1.0, 1.0, 1e-40]), "finite numbers above 0"),
        (lambda d: d["spec"].update(gsd=0), "ground sampling distance 0"),
        (lambda d: d["spec"].update(gsd=-0.3), "ground sampling distance -0.3"),
        (lambda d: d["spec"].update(gsd=float("nan")), "ground sampling distance nan"),
        (lambda d: d["spec"]["legend"].update(values=[0, 1, float("inf")]), "spec that cannot be read"),
        (lambda d: d.update(spec=[]), r"spec \[\]"),
        (lambda d: d["spec"].pop("legend"), "legend"),
        (lambda d: d["spec"].update(std=[1.0]), "deviations"),
        (lambda d: d["spec"]["legend"].update(names=["a", "a", "b"]), "distinct class names"),
        (lambda d: d["network"].update(name="os.system"), "unknown network 'os.system'"),
        (lambda d: d["network"].update(name=["band"]), "network"),
        (lambda d: d["network"].update(code="print()"), "network"),
        (lambda d: d["network"]["arguments"].update(surprise=1), "surprise"),
        (lambda d: d["network"]["arguments"].update(auxiliary=True), "auxiliary"),
        (lambda d: d["network"]["arguments"].update(encoder_weights="pretrained"), "encoder_weights"),
    ],
)
def test_a_description_with_anything_odd_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit(saved, change)
    with pytest.raises(GeodistillError, match=says):
        Segmenter.load(saved)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00", '{"format_version": 1}'])
def test_a_description_that_is_none(saved: Path, text: str) -> None:
    (saved / DESCRIPTION).write_text(text)
    with pytest.raises(ArtifactError, match=DESCRIPTION):
        Segmenter.load(saved)


def test_an_unknown_network_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="supervised"):
        Segmenter("supervized", {}, tiny_spec(), 64, {})


@pytest.mark.parametrize("place", ["nothing/here/at/all", "./nothing", "nothing"])
def test_no_such_directory(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=f"no Segmenter in {place}"):
        Segmenter.load(place)


def test_a_hub_id_fetches_its_own_files_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert Segmenter.load("someone/grass").tile == 16
    assert asked == [("someone/grass", [DESCRIPTION, WEIGHTS, "config.json"])]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(name: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError("no way to the hub\nand nothing in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ArtifactError, match="the hub does not give it") as caught:
        Segmenter.load("someone/grass")
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        tiny_segmenter().save(tmp_path / "file" / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geodistill.segmenter.save_file", full)
    with pytest.raises(OutputError, match="the disk is full"):
        tiny_segmenter().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
