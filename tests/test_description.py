"""The digest of a Segmenter's description, and sizes that are looked at before anything is made of them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from geodistill.description import DESCRIPTION, WEIGHTS, sealed
from geodistill.errors import ArtifactError, GeodistillError
from geodistill.segmenter import Segmenter, read_description
from tiny import tiny_spec

pytestmark = pytest.mark.usefixtures("tiny_models")

UNET: dict[str, Any] = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Segmenter("supervised", UNET, tiny_spec(3, 5), 64, {"scores": {"miou": 0.5}}).save(tmp_path / "model")
    return tmp_path / "model"


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in JSON that holds a plain value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if children is None:
        yield at
        return
    for key, child in children:
        yield from places(child, (*at, key))


def test_no_value_can_be_altered_alone(saved: Path) -> None:
    text = (saved / DESCRIPTION).read_text()
    found = list(places(json.loads(text)))
    assert ("spec", "mean", 2) in found
    assert ("spec", "legend", "colours", 4, 2) in found
    assert ("provenance", "scores", "miou") in found
    for *way, last in found:
        data = json.loads(text)
        holder = data
        for key in way:
            holder = holder[key]
        old = holder[last]
        holder[last] = old + 1 if isinstance(old, int | float) else f"{old}x"
        (saved / DESCRIPTION).write_text(json.dumps(data))
        with pytest.raises(ArtifactError):
            Segmenter.load(saved)
        with pytest.raises(ArtifactError):
            read_description(saved)
    (saved / DESCRIPTION).write_text(text)
    assert Segmenter.load(saved).tile == 64


def test_the_digest_is_that_of_plain_json(saved: Path) -> None:
    data = json.loads((saved / DESCRIPTION).read_text())
    digest = data.pop("description_sha256")
    plain = json.dumps(data, sort_keys=True, separators=(",", ":")).encode("ascii")
    assert digest == hashlib.sha256(plain).hexdigest()
    # Layout and the order of keys say nothing.
    turned = dict(reversed(list(data.items())))
    (saved / DESCRIPTION).write_text(json.dumps({"description_sha256": digest, **turned}, indent=7))
    assert Segmenter.load(saved).tile == 64


def test_version_1_has_no_digest_and_is_read(saved: Path) -> None:
    data = json.loads((saved / DESCRIPTION).read_text())
    del data["description_sha256"]
    (saved / DESCRIPTION).write_text(json.dumps(data | {"format_version": 1}))
    assert Segmenter.load(saved).tile == 64
    (saved / DESCRIPTION).write_text(json.dumps(sealed(data) | {"format_version": 1}))
    with pytest.raises(ArtifactError, match="unknown keys description_sha256"):
        Segmenter.load(saved)
    (saved / DESCRIPTION).write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="digest differs"):
        Segmenter.load(saved)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {**UNET, "encoder": "vit_giant_patch14_dinov2"},
        {**UNET, "decoder_channels": 10**6},
        {**UNET, "decoder_channels": 10**30},
        {**UNET, "decoder_channels": "16"},
        {**UNET, "encoder": "no_such_encoder"},
        {**UNET, "encoder": ["test_resnet"]},
        {**UNET, "architecture": {}},
    ],
)
def test_weights_are_looked_at_before_a_giant_is_built(saved: Path, arguments: dict[str, Any]) -> None:
    data = json.loads((saved / DESCRIPTION).read_text())
    data["network"]["arguments"] = arguments
    (saved / DESCRIPTION).write_text(json.dumps(sealed(data)))
    made: list[int] = []

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        """Adds up the bytes of every tensor that is not on the device without memory."""

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.device.type != "meta":
                made.append(out.numel() * out.element_size())
            return out

    with Counting(), pytest.raises(GeodistillError) as caught:
        Segmenter.load(saved)
    assert "\n" not in str(caught.value)
    assert sum(made) < 1e6


@pytest.mark.slow
def test_a_depth_that_would_not_end(saved: Path) -> None:
    encoder = "test_resnet"
    arguments = {"encoder": encoder, "teacher_channels": [16] * 4, "teacher_strides": [16] * 4, "fmm_blocks": 10**9}
    data = json.loads((saved / DESCRIPTION).read_text())
    data["network"] = {"name": "ktda", "arguments": arguments}
    (saved / DESCRIPTION).write_text(json.dumps(sealed(data)))
    with pytest.raises(ArtifactError, match=r"more than .* parameters and buffers"):
        Segmenter.load(saved)


def test_nothing_of_a_network_stays_behind_the_check(saved: Path) -> None:
    held = load_file(saved / WEIGHTS)
    loaded = Segmenter.load(saved)
    assert {tensor.device.type for tensor in loaded.state_dict().values()} == {"cpu"}
    for key, tensor in loaded.network.network.state_dict().items():
        torch.testing.assert_close(tensor, held[key])
