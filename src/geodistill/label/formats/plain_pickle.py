"""Pickles of plain values read without executing them, and SAMRS's ``ins/*.pkl``, which are such pickles.

Python's own reader calls whatever a file names. This one is a stack machine for lists, tuples, mappings, texts, bytes,
numbers and NumPy's arrays of numbers; it calls nothing, and a file that asks for anything else is refused.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from geodistill.errors import DataError, first_line
from geodistill.label.formats.pickled_arrays import KNOWN, PickledName, Unfinished, call
from geodistill.reading import read_bytes

MOST_BYTES = 256 << 20
"""Bytes of a file at most."""

_MARK = object()


def read_plain_pickle(path: Path | str) -> Any:
    """Return what a pickle of plain values holds; nothing in it is executed.

    Raises:
        DataError: The file is larger than `MOST_BYTES`, cut short, no pickle, or asks for anything but plain values.
    """
    return parse_plain_pickle(read_bytes(path, MOST_BYTES), path)


def parse_plain_pickle(data: bytes, source: Path | str) -> Any:
    """Return what a pickle's bytes hold, as `read_plain_pickle`."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.result()
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error, MemoryError) as error:
        what = f"{source} is no pickle of plain values ({first_line(error)})"
        raise DataError(what, "lists, numbers, texts and arrays") from error


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.done = False

    def step(self, name: str, argument: Any) -> None:
        """Do one operation.

        Raises:
            ValueError: It is none of those that plain values need.
        """
        if name in _PUSHED:
            self.stack.append(_PUSHED[name]())
        elif name in _VALUES:
            self.stack.append(_plain_number(argument))
        elif name in _STORED:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in _RECALLED:
            self.stack.append(self.memo[int(argument)])
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "GLOBAL":
            self._name(*str(argument).split(" ", 1))
        elif name == "STOP":
            self.done = True
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the operation {name}")

    def result(self) -> Any:
        """Return the one value that is left."""
        if not self.done or len(self.stack) != 1 or self.stack[0] is _MARK:
            raise ValueError("not one value in the end")
        value = _finished(self.stack[0])
        _refuse_names([value])
        return value

    def _name(self, module: str, name: str) -> None:
        if (module, name) not in KNOWN:
            raise ValueError(f"the name {module[:60]}.{name[:60]}")
        self.stack.append(PickledName(KNOWN[module, name]))

    def named(self) -> None:
        """Take a name from the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a name that is no text")
        self._name(module, name)

    def to_mark(self) -> list[Any]:
        """Take all that lies above the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return [_finished(item) for item in items]
        raise ValueError("no mark")

    def extend(self, items: Sequence[Any]) -> None:
        """Put items into the list below."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("items for what is no list")
        _refuse_names(items)
        self.stack[-1].extend(items)

    def update(self, items: Sequence[Any]) -> None:
        """Put keys and values into the mapping below."""
        if not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise ValueError("keys for what is no mapping")
        _refuse_names(items)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise ValueError("a key that is neither text nor number")
            self.stack[-1][key] = value

    def mapping(self) -> None:
        """Make a mapping of all that lies above the last mark."""
        items = self.to_mark()
        self.stack.append({})
        self.update(items)

    def group(self, count: int) -> None:
        """Make a tuple of the last so many values."""
        if len(self.stack) < count:
            raise ValueError("too few values")
        items = tuple(_finished(item) for item in self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def reduce(self) -> None:
        """Make what NumPy would make of a name and its arguments."""
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, PickledName) or not isinstance(arguments, tuple):
            raise ValueError("a call")
        self.stack.append(call(name.name, arguments))

    def build(self) -> None:
        """Fill an array or a type with its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Unfinished) or not isinstance(state, tuple):
            raise ValueError("a state of what is no array")
        target.finish(state)


def _finished(value: Any) -> Any:
    if isinstance(value, Unfinished) and value.name == "ndarray":
        if value.value is None:
            raise ValueError("an array without its numbers")
        return value.value
    if value is _MARK:
        raise ValueError("a mark among values")
    return value


def _refuse_names(items: Sequence[Any]) -> None:
    if any(isinstance(item, PickledName | Unfinished) for item in items):
        raise ValueError("a name among values")


def _plain_number(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"a number of {value.bit_length()} bits")
    return value


_PUSHED: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "NONE": lambda: None, "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False, "MARK": lambda: _MARK,
}  # fmt: skip
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_STORED = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_RECALLED = {"GET", "BINGET", "LONG_BINGET"}
_STEPS: dict[str, Callable[[_Machine], None]] = {
    "APPEND": lambda m: m.extend([_finished(m.stack.pop())]),
    "APPENDS": lambda m: m.extend(m.to_mark()),
    "SETITEM": lambda m: m.update([*map(_finished, (m.stack.pop(-2), m.stack.pop()))]),
    "SETITEMS": lambda m: m.update(m.to_mark()),
    "TUPLE": lambda m: m.stack.append(tuple(m.to_mark())),
    "DICT": lambda m: m.mapping(),
    "LIST": lambda m: m.stack.append(m.to_mark()),
    "TUPLE1": lambda m: m.group(1),
    "TUPLE2": lambda m: m.group(2),
    "TUPLE3": lambda m: m.group(3),
    "STACK_GLOBAL": lambda m: m.named(),
    "REDUCE": lambda m: m.reduce(),
    "BUILD": lambda m: m.build(),
}
