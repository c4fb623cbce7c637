"""Ways in which a file gets damaged or is not what its name says: all from a seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml

OTHER_TYPES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"\xff\xfe\x00\x00\xff",
    b"\x00" * 512,
    b"\x89PNG\r\n\x1a\n" + b"\x00" * 64,
    b"PK\x03\x04" + b"\x00" * 64,
    b"PAR1" + b"\x00" * 64 + b"PAR1",
    b"II*\x00\x08\x00\x00\x00\x00\x00",
    b"<a><b/></a>",
    b"[" * 100_000,
    b"a: &a [*a, *a]\n",
    b"\x80\x04K\x01.",
    b"hello\n",
)
"""Contents of other types, short ones first; nested ones, YAML that refers to itself, a pickle."""

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "text", "\x1b[31m\n", [], {}, [[]], {"a": {}},
    "../../x", 0.5, ["x", 5],
)  # fmt: skip
"""What a value in a structured file may be replaced by."""


def mutate(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was done to a file's content, in words, and the content then."""
    ways = [_flip, _flip, _cut, _extra, _other]
    data = _parsed(content)
    if data is not None:
        ways += [_value, _value, _value]
    way = rng.choice(ways)
    return way(content, rng) if way is not _value else _value(content, rng, data)


def _parsed(content: bytes) -> Any:
    """Return JSON or YAML that has parts, or nothing."""
    if len(content) > 200_000:
        return None
    try:
        text = content.decode("utf-8")
        data = json.loads(text) if text.lstrip()[:1] in "[{" else yaml.safe_load(text)
    except (UnicodeDecodeError, ValueError, yaml.YAMLError):
        return None
    return data if isinstance(data, dict | list) and data else None


def _flip(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    changed, number = bytearray(content), rng.choice((1, 1, 8))
    for _ in range(number if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return f"{number} bits", bytes(changed)


def _cut(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    kept = rng.choice((0, 1, len(content) // 2, max(0, len(content) - 1), rng.randrange(len(content) + 1)))
    return f"cut to {kept} of {len(content)}", content[:kept]


def _extra(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    at = rng.choice((len(content), len(content), 0, rng.randrange(len(content) + 1)))
    return f"bytes more at {at}", content[:at] + rng.randbytes(rng.choice((1, 16, 300))) + content[at:]


def _other(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    other = rng.choice(OTHER_TYPES)
    return f"another type {other[:12]!r}", other


def _value(content: bytes, rng: random.Random, data: Any = None) -> tuple[str, bytes]:
    """Replace, drop or repeat one value at any depth."""
    data = copy.deepcopy(data)
    place, path = data, ""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        path += f"/{key}"
        inside = place[key]
        if isinstance(inside, dict | list) and inside and rng.random() < 0.8:
            place = inside
            continue
        if rng.random() < 0.2:
            del place[key]
            path += " dropped"
        else:
            place[key] = rng.choice(VALUES)
            path += f" = {str(place[key])[:12]!r}"
        break
    is_json = content.lstrip()[:1] in (b"[", b"{")
    text = json.dumps(data, ensure_ascii=False) if is_json else yaml.safe_dump(data, sort_keys=False)
    return path[:80], text.encode("utf-8", "surrogatepass")
