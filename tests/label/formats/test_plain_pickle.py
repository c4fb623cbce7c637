from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geodistill.errors import DataError
from geodistill.label.formats.plain_pickle import parse_plain_pickle, read_plain_pickle

OBJECTS = [
    {
        "mask": {"size": [4, 5], "counts": "4d04N2"},
        "bbox": np.array([1.5, 2, 3, 4], np.float32),
        "rbox": np.arange(8.0).reshape(4, 2),
        "category": "ship",
        "label": 5,
        "size": np.int64(7),
        "flag": True,
        "nothing": None,
        "pair": (1, -2.5),
    },
    {"fortran": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)), "none": np.zeros((0, 4))},
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_are_what_was_written(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(OBJECTS, protocol))
    first, second = read_plain_pickle(tmp_path / "a.pkl")
    assert {k: v for k, v in first.items() if k not in ("bbox", "rbox")} == {
        k: v for k, v in OBJECTS[0].items() if k not in ("bbox", "rbox")
    }
    assert first["bbox"].tolist() == [1.5, 2, 3, 4]
    assert first["bbox"].dtype == np.float32
    assert first["rbox"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert second["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second["none"].shape == (0, 4)


def test_shared_values_stay_references() -> None:
    part = [1, 2]
    found = parse_plain_pickle(pickle.dumps([part, part]), "x")
    assert found == [[1, 2], [1, 2]]


class Calls:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/nowhere/made-by-a-pickle",)


class Made:
    """An object with a state."""

    def __init__(self) -> None:
        self.here = 1


HOSTILE = {
    "reduce": pickle.dumps([Calls()]),
    "reduce in old text": b"cos\nsystem\n(S'true'\ntR.",
    "global": b"cos\nsystem\n.",
    "stack global": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93.",
    "instance": b"(S'true'\nios\nsystem\n.",
    "object": b"(cos\nsystem\nS'true'\no.",
    "own class": pickle.dumps([Made()]),
    "ordered dict": pickle.dumps(OrderedDict(a=1)),
    "persistent": b"Pname\n.",
    "extension": b"\x82\x01.",
    "set": pickle.dumps({1, 2}),
    "array of objects": pickle.dumps(np.array([{}], object)),
    "array of texts": pickle.dumps(np.array(["ab"])),
    "a name as a value": b"(lcnumpy\nndarray\na.",
    "eval through numpy": b"cnumpy.testing._private.utils\nrunstring\n.",
    "dtype of an object": b"cnumpy\ndtype\n(S'O8'\ntR.",
    "shape without bytes": pickle.dumps(np.zeros(3)).replace(b"K\x03\x85", b"K\x7f\x85"),
    "deep": b"(" * 1_000_000 + b"." ,
    "many marks without an end": b"\x80\x04" + b"(" * 100_000 + b"l" * 3,
    "huge number": b"\x80\x04\x8b" + (5000).to_bytes(4, "little") + b"\x7f" * 5000 + b".",
    "number of many digits": b"L" + b"9" * 100_000 + b"L\n.",
    "memo from nowhere": b"\x80\x04h\x05.",
    "huge memo": b"\x80\x04Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "text longer than the file": b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"abc.",
    "state of a list": b"]Nb.",
    "empty": b"",
    "no pickle": b"\x89PNG\r\n\x1a\n",
    "text": "größer".encode(),
    "without end": pickle.dumps([1, 2])[:-1],
    "two values": b"K\x01K\x02.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_all_else_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"a\.pkl is no pickle of plain values"):
        parse_plain_pickle(HOSTILE[name], "a.pkl")
    assert not Path("/nowhere").exists()


def test_a_deep_list_is_read_without_recursion() -> None:
    found = parse_plain_pickle(b"]" * 100_000 + b"a" * 99_999 + b".", "deep")
    assert len(found) == 1
    while found:  # taken apart from outside, so that nothing recurses
        found = found[0]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_cut_is_refused(protocol: int) -> None:
    data = pickle.dumps(OBJECTS, protocol)
    for end in range(len(data)):
        with pytest.raises(DataError):
            parse_plain_pickle(data[:end], "a.pkl")


@pytest.mark.slow
def test_every_changed_byte_is_read_or_refused() -> None:
    data = pickle.dumps(OBJECTS, 4)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        wrong = bytearray(data)
        wrong[int(rng.integers(len(wrong)))] = int(rng.integers(256))
        try:
            parse_plain_pickle(bytes(wrong), "a.pkl")
        except DataError:
            continue
