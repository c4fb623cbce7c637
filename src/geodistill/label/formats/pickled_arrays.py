"""NumPy's arrays and numbers as a pickle spells them, made without calling anything that the file names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

KNOWN = {
    (f"numpy{core}.{module}", name): name
    for core in ("", ".core", "._core")
    for module, names in (("multiarray", ("_reconstruct", "scalar")), ("numeric", ("_frombuffer",)))
    for name in names
} | {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): "dtype", ("_codecs", "encode"): "encode"}
KNOWN |= {("__builtin__", "bytes"): "bytes", ("builtins", "bytes"): "bytes"}  # no bytes at all, in old protocols


@dataclass(frozen=True)
class PickledName:
    """What a pickle calls; only its name is kept."""

    name: str


class Unfinished:
    """A NumPy type or array of which the pickle has yet to say what it holds."""

    def __init__(self, name: str, kind: str = "") -> None:
        self.name, self.kind = name, kind
        self.value: Any = None

    def finish(self, state: tuple[Any, ...]) -> None:
        """Take the order of a type's bytes, or an array's shape, type and numbers.

        Raises:
            ValueError: They are not what NumPy writes.
        """
        if self.name == "dtype":
            if state[1] not in ("<", ">", "|", "="):
                raise ValueError("an order of bytes")
            self.value = _number_type(self.kind).newbyteorder(state[1])
        else:
            _, shape, kind, fortran, data = state
            self.value = _array(data, kind, shape, "F" if fortran else "C")


def _number_type(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, str) or len(kind) != 2 or kind[0] not in "biuf" or kind[1] not in "1248":
        raise ValueError("an array of anything but numbers")
    return np.dtype(kind)


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what NumPy would make of a name's arguments.

    Raises:
        ValueError: It would be no number and no array of numbers.
    """
    if name == "dtype":
        _number_type(arguments[0])
        return Unfinished("dtype", arguments[0])
    if name == "_reconstruct":
        if arguments[0] != PickledName("ndarray"):
            raise ValueError("an array of another kind")
        return Unfinished("ndarray")
    if name == "scalar":
        kind, data = arguments
        return _array(data, kind, (), "C")[()]
    if name == "_frombuffer":
        data, kind, shape, order = arguments
        return _array(bytes(data), kind, shape, order)
    if name == "bytes" and not arguments:
        return b""
    if name == "encode" and isinstance(arguments[0], str) and arguments[1] == "latin1":
        return arguments[0].encode("latin1")
    raise ValueError(f"a call of {name}")


def _array(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Return a copy of the numbers in bytes, which must be exactly as many as the shape needs."""
    if (
        not isinstance(kind, Unfinished)
        or kind.name != "dtype"
        or not isinstance(data, bytes)
        or order not in ("C", "F")
    ):
        raise ValueError("an array of anything but numbers")
    if not isinstance(shape, tuple) or len(shape) > 4 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("a shape")
    number_type = _number_type(kind.kind) if kind.value is None else kind.value
    if math.prod(shape) * number_type.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of {math.prod(shape)}")
    array = np.frombuffer(data, number_type).reshape(shape, order=order)
    return array.astype(number_type.newbyteorder("="))
