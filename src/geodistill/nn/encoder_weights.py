"""Encoders' weights as they lie on disk, read with what stands beside them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geodistill.errors import ArtifactError
from geodistill.nn.weights import read_tensors
from geodistill.reading import read_object

_SEGMENTER_KEY = re.compile(r"^(?:network\.)?encoder\.(.+)$")


@dataclass(frozen=True)
class LocalWeights:
    """An encoder's weights as read from disk.

    Attributes:
        path: The file.
        tensors: Weights by key.
        encoder: Name of the encoder they are for, where a Segmenter or ``config.json`` says so; the keys are then
            `Encoder`'s own.
        architecture: timm's name of the model, where ``config.json`` says so.
        channels: Bands they were trained on, where a Segmenter says so.
        bands: Their names, where a Segmenter says so.
        pad_type: Padding the convolutions were trained with, from ``config.json``.
        mean: Mean of each input channel, in the units of an 8-bit image or of the Segmenter's sensor.
        std: Standard deviation of each, same units.
    """

    path: Path
    tensors: dict[str, Tensor]
    encoder: str | None = None
    architecture: str | None = None
    channels: int | None = None
    bands: tuple[str, ...] | None = None
    pad_type: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def read_weights(path: Path | str) -> LocalWeights:
    """Read encoder weights.

    Args:
        path: A ``.safetensors`` or ``.pt``/``.pth``/``.bin`` file of a timm or mit model; a directory with
            ``model.safetensors`` and perhaps ``config.json`` (keys ``architecture``, ``pad_type``, ``mean`` and ``std``
            in 0..1); a directory that `Encoder.write` made; or a Segmenter directory or a run with one, whose encoder
            is taken with its Spec's normalisation.

    Raises:
        ArtifactError: Nothing is there, or it cannot be read as weights.
    """
    file = _weights_file(Path(path))
    return _described(file, read_tensors(file))


def describe_weights(path: Path | str) -> LocalWeights:
    """Return what `read_weights` returns without the tensors, which are not read.

    Raises:
        ArtifactError: Nothing is there, or what stands beside it is no description of weights.
    """
    return _described(_weights_file(Path(path)), {})


def _weights_file(path: Path) -> Path:
    places = (path, path / "segmenter")  # the second of a run
    files = [place / "model.safetensors" for place in places] if path.is_dir() else [path]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ArtifactError(f"weights {files[0]} do not exist", "a safetensors or pt file, or a directory with one")
    return file


def _described(file: Path, tensors: dict[str, Tensor]) -> LocalWeights:
    description = file.parent / "segmenter.json"
    if description.is_file():
        return _from_segmenter(file, tensors, read_object(description, error=ArtifactError))
    beside = file.parent / "config.json"
    config = read_object(beside, error=ArtifactError) if beside.is_file() else {}
    if "encoder" in config:
        return _from_encoder(file, tensors, config)
    if isinstance(config.get("pretrained_cfg"), dict):
        config = {**config, **config["pretrained_cfg"]}  # timm's own layout on the hub
    try:
        given = (config.get(key) for key in ("mean", "std"))
        mean, std = (None if values is None else tuple(255.0 * v for v in _numbers(values)) for values in given)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{beside} with other than numbers in mean or std", "lists of numbers") from error
    architecture, pad_type = config.get("architecture", config.get("timm_model")), config.get("pad_type")
    if not all(value is None or isinstance(value, str) for value in (architecture, pad_type)):
        raise ArtifactError(f"{beside} with other than a name in architecture or pad_type", "names")
    return LocalWeights(file, tensors, None, architecture, pad_type=pad_type, mean=mean, std=std)


def _from_segmenter(file: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> LocalWeights:
    encoder = {m.group(1): tensor for key, tensor in tensors.items() if (m := _SEGMENTER_KEY.match(key))}
    try:
        name, spec = description["network"]["arguments"]["encoder"], description["spec"]
        mean, std = _numbers(spec["mean"]), _numbers(spec["std"])
        bands = tuple(map(str, spec["bands"])) if "bands" in spec else None
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file.parent} is no Segmenter with an encoder", "network.arguments.encoder") from error
    return LocalWeights(file, encoder, encoder=str(name), channels=len(mean), bands=bands, mean=mean, std=std)


def _from_encoder(file: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> LocalWeights:
    try:
        mean, std = _numbers(config["mean"]), _numbers(config["std"])
        bands = tuple(map(str, config["bands"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file.parent}/config.json without bands, mean and std", "lists of them") from error
    name = str(config["encoder"])
    return LocalWeights(file, tensors, encoder=name, channels=len(mean), bands=bands, mean=mean, std=std)


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{values} are not all finite")
    return numbers
