"""An archive of map tiles in one file that browsers read by ranges: PMTiles, version 3 of its specification."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

MOST_ROOT = 16_384 - 127
"""Bytes of the root directory at most: with the header it is fetched in one request."""

_PNG, _GZIP, _NONE = 2, 2, 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """Where tiles lie in the archive: ``run`` tiles from an id on are the same; 0 points to another directory."""

    tile: int
    offset: int
    length: int
    run: int


def tile_id(zoom: int, col: int, row: int) -> int:
    """Return a tile's number: levels after each other, within one along Hilbert's curve."""
    number, side = ((1 << (2 * zoom)) - 1) // 3, 1 << zoom
    x, y, half = col, row, side >> 1
    while half > 0:
        right, down = int(x & half > 0), int(y & half > 0)
        number += half * half * ((3 * right) ^ down)
        if not down:
            if right:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        half >>= 1
    return number


def write_pmtiles(
    target: Path,
    tiles: Iterable[tuple[int, int, int, bytes]],
    bounds: Sequence[float],
    metadata: Mapping[str, Any],
) -> int:
    """Write PNG tiles ``(zoom, column, row, bytes)``, at least one; equal ones are kept once. Return how many.

    ``bounds`` are west, south, east and north in degrees. Tiles come in any order, wait in a file beside the archive,
    and lie in the order of their ids.

    Raises:
        OSError: There is no space left.
    """
    with TemporaryFile(dir=target.parent) as waiting, target.open("wb") as file:
        places: dict[bytes, tuple[int, int]] = {}
        numbered: list[tuple[int, bytes]] = []
        zooms: set[int] = set()
        for zoom, col, row, data in tiles:
            digest = hashlib.sha256(data).digest()
            if digest not in places:
                places[digest] = (waiting.tell(), len(data))
                waiting.write(data)
            numbered.append((tile_id(zoom, col, row), digest))
            zooms.add(zoom)
        numbered.sort()
        entries, ordered, size = _entries(numbered, places)
        root, leaves = _directories(entries)
        about = gzip.compress(json.dumps(dict(metadata)).encode(), mtime=0)
        lengths = (len(root), len(about), len(leaves), size)
        file.write(_header(lengths, (len(numbered), len(entries), len(places)), (min(zooms), max(zooms)), bounds))
        for part in (root, about, leaves):
            file.write(part)
        for digest in ordered:
            offset, length = places[digest]
            waiting.seek(offset)
            while length:
                part = waiting.read(min(length, _CHUNK))
                file.write(part)
                length -= len(part)
    return len(numbered)


def _entries(
    numbered: Sequence[tuple[int, bytes]], places: Mapping[bytes, tuple[int, int]]
) -> tuple[list[Entry], list[bytes], int]:
    """Return the directory of sorted tiles, the contents in the order they are to lie in, and their bytes."""
    entries: list[Entry] = []
    starts: dict[bytes, int] = {}
    size, last = 0, b""
    for number, digest in numbered:
        if digest not in starts:
            starts[digest] = size
            size += places[digest][1]
        before = entries[-1] if entries else None
        if before is not None and digest == last and before.tile + before.run == number:
            entries[-1] = Entry(before.tile, before.offset, before.length, before.run + 1)
        else:
            entries.append(Entry(number, starts[digest], places[digest][1], 1))
        last = digest
    return entries, list(starts), size


def _directories(entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """Return the root directory, and where it would be too long those that it points to."""
    root = _directory(entries)
    if len(root) <= MOST_ROOT:
        return root, b""
    count = 4096
    while True:
        leaves, pointers = b"", []
        for first in range(0, len(entries), count):
            part = _directory(entries[first : first + count])
            pointers.append(Entry(entries[first].tile, len(leaves), len(part), 0))
            leaves += part
        root = _directory(pointers)
        if len(root) <= MOST_ROOT:
            return root, leaves
        count *= 2


def _directory(entries: Sequence[Entry]) -> bytes:
    numbers = [len(entries)]
    tiles = [entry.tile for entry in entries]
    numbers += [tile - before for tile, before in zip(tiles, [0, *tiles], strict=False)]
    numbers += [entry.run for entry in entries]
    numbers += [entry.length for entry in entries]
    end = None
    for entry in entries:
        numbers.append(0 if entry.offset == end else entry.offset + 1)
        end = entry.offset + entry.length
    return gzip.compress(b"".join(map(_varint, numbers)), mtime=0)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _header(
    lengths: tuple[int, int, int, int], counts: tuple[int, int, int], zooms: tuple[int, int], bounds: Sequence[float]
) -> bytes:
    offsets, at = [], 127
    for length in lengths:
        offsets += [at, length]
        at += length
    west, south, east, north = (round(value * 1e7) for value in bounds)
    centre = (zooms[0], (west + east) // 2, (south + north) // 2)
    kinds = (1, _GZIP, _NONE, _PNG)  # in order, directories compressed, tiles not compressed again
    fixed = struct.pack("<7sB8Q3Q4B2B4i", b"PMTiles", 3, *offsets, *counts, *kinds, *zooms, west, south, east, north)
    return fixed + struct.pack("<B2i", *centre)
