"""Files that are no weights are told in one line, whatever torch's readers make of them."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geodistill.errors import ArtifactError
from geodistill.nn.encoder_weights import read_weights


def odd_files(folder: Path) -> dict[str, bytes]:
    """Contents that torch's unpickler answers with errors of many kinds."""
    torch.save({"a": torch.zeros(4)}, folder / "good")
    good = (folder / "good").read_bytes()
    np.save(folder / "x.npy", np.zeros(3))
    with zipfile.ZipFile(folder / "plain.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    return {
        "empty": b"",
        "one byte": b"x",
        "text": b"hello world\n" * 10,
        "html": b"<!doctype html><html></html>",
        "json": b'{"a": 1}',
        "number": b"0",
        "cut": good[:200],
        "pickle of a list": pickle.dumps([1, 2]),
        "pickle of text": pickle.dumps("a"),
        "pickle cut": pickle.dumps({"a": list(range(100))})[:-20],
        "memo": b"\x80\x02h\x05.",
        "stack": b"\x80\x02..",
        "npy": (folder / "x.npy").read_bytes(),
        "zip": (folder / "plain.zip").read_bytes(),
        "long": b"\x80\x02\x8b\xff\xff\xff\x7f",
        "binary": bytes(range(256)),
    }


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".safetensors"])
def test_odd_files_are_one_line(tmp_path: Path, suffix: str) -> None:
    for name, content in odd_files(tmp_path).items():
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as told:
            read_weights(path)
        assert str(path) in str(told.value), name
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "config",
    [
        "[1]",
        '{"architecture": 5}',
        '{"pad_type": [1]}',
        '{"mean": "abc", "std": 1}',
        '{"mean": [NaN, 1, 1]}',
        '{"encoder": "test_resnet"}',
        '{"encoder": "x", "bands": ["a"], "mean": [1], "std": ["b"]}',
        "[" * 100_000,
        '{"a": 1, "a": 2}',
    ],
)
def test_an_odd_description_beside_weights_is_one_line(tmp_path: Path, config: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        read_weights(tmp_path)


def test_an_odd_pretrained_cfg_is_left_aside(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": 5, "architecture": "resnet18"}))
    assert read_weights(tmp_path).architecture == "resnet18"
