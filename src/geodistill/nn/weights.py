"""Files of tensors, safetensors or torch's own: read, written and compared by their hash."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from geodistill.errors import ArtifactError
from geodistill.files import sha256_of

_MOST_PARTS = 10_000
"""Parameters and buffers that a network may make beside four times those of its weights file: heads that go again."""

UNREADABLE = (
    OSError,
    RuntimeError,  # RecursionError and NotImplementedError too
    EOFError,
    LookupError,
    ValueError,  # UnicodeDecodeError too
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    MemoryError,
    struct.error,
    zlib.error,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What torch's and safetensors' readers raise on files that are not theirs, or are altered."""


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of every parameter and buffer with its name, type and shape."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous()
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_reason(error: Exception) -> str:
    """Return in a few words why torch could not read a file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = (str(error).strip().splitlines() or [""])[0]
    # torch's unpickler tells of bytes and opcodes, which says nothing to whoever gave the wrong file.
    odd = isinstance(error, pickle.UnpicklingError | LookupError | EOFError | TypeError | AttributeError)
    return "no tensors in torch's format" if odd or not first else first[:200]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of torch's own format, by name; no pickled object is made.

    Raises:
        ArtifactError: It is missing, of another kind, or holds anything but tensors.
    """
    mend = "give a safetensors file, or a pt file that holds tensors only"
    try:
        if file.suffix == ".safetensors":
            data: Any = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its unpickler, on files that are none of torch's
                data = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ArtifactError(f"weights {file} cannot be read ({load_reason(error)})", "", mend) from error
    for key in ("state_dict", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise ArtifactError(f"weights {file} hold no mapping from names to tensors", "", mend)
    return {str(key): tensor for key, tensor in data.items()}


@contextmanager
def few_parts(most: int) -> Iterator[None]:
    """Let no network be built of more than ``most`` parameters and buffers: a depth of 10^9 would not end."""
    left = most

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {most} parameters and buffers")

    hooks = [
        nn.modules.module.register_module_parameter_registration_hook(count),
        nn.modules.module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_weights(weights: Path, description: str, digest: str, build: Callable[[], nn.Module]) -> None:
    """Make sure that a Segmenter's file holds the weights that its description is of, before anything is made of them.

    Args:
        weights: The file.
        description: Name of the file that describes it.
        digest: SHA-256 of the file that is described.
        build: Returns the network that is described, on torch's current device.

    Raises:
        ArtifactError: It is missing or altered, or its tensors are not those of the network.
    """
    folder, again = weights.parent, "copy or train it again"
    if not weights.is_file():
        raise ArtifactError(f"{folder} has no {weights.name}", "a whole Segmenter directory", again)
    try:
        if sha256_of(weights) != digest:
            raise ArtifactError(
                f"{weights} is not the file that {description} describes (its SHA-256 differs)",
                "unaltered weights",
                again,
            )
        with safe_open(weights, "pt") as file:
            stored = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{weights} does not fit {description} ({error})", "the weights saved with it") from error
    # On torch's device without memory: a description of a giant costs nothing until its weights are there.
    with torch.device("meta"), few_parts(4 * len(stored) + _MOST_PARTS):
        network = build()
    needed = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    if odd := sorted(key for key in {*stored, *needed} if stored.get(key) != needed.get(key)):
        raise ArtifactError(
            f"{weights} does not fit {description} ({odd[0]} is {stored.get(odd[0])}, not {needed.get(odd[0])};"
            f" {len(odd)} tensors differ)",
            "the weights saved with it",
        )
