"""Stored pixels of an open file: their type, which of them hold data, and the turn by which viewers show them."""

from __future__ import annotations

import gzip
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from geodistill.errors import DataError
from geodistill.memory import SMALL, machine_memory
from geodistill.raster.grid import Window
from geodistill.raster.source import is_local
from geodistill.raster.web_map import DRIVERS, read_politely

_ARCHIVE = re.compile(r"^/vsi(zip|tar|gzip)/")
_TAG, _MOST_ENTRIES, _MOST_EXIF = 274, 4096, 1 << 20


@dataclass(frozen=True, slots=True)
class Turn:
    """How stored pixels become those that viewers show: rows and columns reversed, then exchanged.

    Tag 6, a camera held upright, reverses the rows and exchanges::

        stored    a b c    rows     d e f    exchanged    d a
                  d e f  ------->   a b c  ------------>  e b
                                                          f c

    Reads go the other way, so that only the pixels asked for are decoded: `stored` turns the window back (exchanged
    first, then reversed within the stored shape), and `apply` turns what was read.

    Attributes:
        rows: Whether the order of the stored rows is reversed.
        cols: Whether the order of the stored columns is reversed.
        exchanged: Whether rows become columns after that.
    """

    rows: bool = False
    cols: bool = False
    exchanged: bool = False

    @property
    def none(self) -> bool:
        """Whether pixels stay where they are."""
        return not (self.rows or self.cols or self.exchanged)

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after the turn (or before it: the turn of a shape is its own inverse)."""
        return (width, height) if self.exchanged else (height, width)

    def stored(self, window: Window, height: int, width: int) -> Window:
        """Return the part of the stored raster, of ``height`` x ``width``, that a window of the turned one shows."""
        row, col, rows, cols = window.row, window.col, window.height, window.width
        if self.exchanged:
            row, col, rows, cols = col, row, cols, rows
        row = height - row - rows if self.rows else row
        col = width - col - cols if self.cols else col
        return Window(row, col, rows, cols)

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn stored pixels ``(..., H, W)``."""
        pixels = pixels[..., ::-1, :] if self.rows else pixels
        pixels = pixels[..., ::-1] if self.cols else pixels
        pixels = pixels.swapaxes(-1, -2) if self.exchanged else pixels
        return pixels if self.none else np.ascontiguousarray(pixels)


_TURNS = {
    1: Turn(),
    2: Turn(cols=True),
    3: Turn(rows=True, cols=True),
    4: Turn(rows=True),
    5: Turn(exchanged=True),
    6: Turn(rows=True, exchanged=True),
    7: Turn(rows=True, cols=True, exchanged=True),
    8: Turn(cols=True, exchanged=True),
}
"""By the values of the tag, EXIF 2.32, 4.6.5 A."""


def turn_of(source: str, file: DatasetReader, tags: dict[str, str]) -> Turn:
    """Return the turn that a picture asks for.

    Args:
        source: Its file; one on the network is judged by ``tags`` alone.
        file: The same, open.
        tags: Its tags as GDAL reads them.

    Raises:
        DataError: It lies on the ground: where its pixels lie is said of stored ones, or of turned ones. Or it is a
            virtual raster, which puts stored pixels together, of such a picture.
    """
    if file.driver == "VRT":
        turned = next((part for part in file.files if _TURNS.get(_orientation(part, {}), _TURNS[1]) != _TURNS[1]), None)
        if turned is not None:
            raise DataError(
                f"{turned} in {source} has an orientation tag", "sources as they are seen", "turn its pixels"
            )
    turn = _TURNS.get(_orientation(source, tags), _TURNS[1])
    if not turn.none and (file.crs is not None or not file.transform.is_identity or file.gcps[0] or file.rpcs):
        raise DataError(
            f"{source} lies on the ground and has an orientation tag that asks to turn it",
            "one of both",
            "remove the tag, or warp the picture to a file without it",
        )
    return turn


def _orientation(source: str, tags: dict[str, str]) -> int:
    tag = tags.get("EXIF_Orientation", "").strip()
    value = int(tag) if tag.isascii() and tag.isdigit() else 1
    try:
        with _opened(source) as file:
            head = file.read(12)
            return next((find(file) for start, find in _FINDERS.items() if head.startswith(start)), None) or value
    except (OSError, struct.error, ValueError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, KeyError):
        return value  # no file, or a broken one: reading its pixels will tell


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    """Open a file, or one in an archive on this machine as GDAL names it: ``/vsizip/a.zip/b.png``."""
    match = _ARCHIVE.match(source)
    if match is None:
        with Path(source).open("rb") as file:
            yield file
        return
    path = Path(source[match.end() :])
    archive = next((place for place in (path, *path.parents) if place.is_file()), path)
    member = path.relative_to(archive).as_posix()
    if match[1] == "gzip":
        with gzip.open(path) as unpacked:
            yield cast(BinaryIO, unpacked)
    elif match[1] == "zip":
        with zipfile.ZipFile(archive) as zipped, zipped.open(zipped.namelist()[0] if member == "." else member) as part:
            yield cast(BinaryIO, part)
    else:
        with tarfile.open(archive) as packed:
            plain = packed.extractfile(packed.getnames()[0] if member == "." else member)
            if plain is None:
                raise FileNotFoundError(member)
            with plain:
                yield cast(BinaryIO, plain)


def _in_tiff(file: BinaryIO, base: int = 0) -> int | None:
    """Return the tag of a TIFF's first directory; ``base`` is where the TIFF begins in its file."""
    file.seek(base)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return None
    (version,) = struct.unpack(f"{order}H", head[2:4])
    big = version == 43
    if version not in (42, 43):
        return None
    file.seek(base + struct.unpack(f"{order}Q" if big else f"{order}L", head[8:16] if big else head[4:8])[0])
    (count,) = struct.unpack(f"{order}Q" if big else f"{order}H", file.read(8 if big else 2))
    for _ in range(min(count, _MOST_ENTRIES)):
        entry = file.read(20 if big else 12)
        tag, kind = struct.unpack(f"{order}HH", entry[:4])
        if tag == _TAG:
            field = entry[12 if big else 8 :]
            value: int = (
                struct.unpack(f"{order}H", field[:2])[0] if kind == 3 else struct.unpack(f"{order}L", field[:4])[0]
            )
            return value
        if tag > _TAG:  # tags ascend
            break
    return None


def _in_exif(data: bytes) -> int | None:
    return _in_tiff(BytesIO(data.removeprefix(b"Exif\0\0")))


def _in_jpeg(file: BinaryIO) -> int | None:
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xD9, 0xDA):
        size = int.from_bytes(head[2:], "big") - 2
        if head[1] == 0xE1:
            data = file.read(size)
            if data.startswith(b"Exif\0"):
                return _in_exif(data)
        else:
            file.seek(size, os.SEEK_CUR)
    return None


def _in_png(file: BinaryIO) -> int | None:
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return _in_exif(file.read(min(size, _MOST_EXIF)))
        file.seek(size + 4, os.SEEK_CUR)
    return None


def _in_webp(file: BinaryIO) -> int | None:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return _in_exif(file.read(min(size, _MOST_EXIF)))
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


_FINDERS = {
    b"\xff\xd8": _in_jpeg,
    b"\x89PNG": _in_png,
    b"RIFF": _in_webp,
    b"II": _in_tiff,
    b"MM": _in_tiff,
}
"""By what a file begins with."""


def common_type(file: DatasetReader, indexes: Sequence[int], source: str) -> np.dtype[Any]:
    """Return the type that holds the samples of all of these bands.

    Raises:
        DataError: They are complex numbers.
    """
    kinds = [str(file.dtypes[i - 1]) for i in indexes]
    if any(kind.startswith("complex") for kind in kinds):
        raise DataError(
            f"{source} has complex samples ({', '.join(dict.fromkeys(kinds))})",
            "real numbers",
            "write their amplitude to a file of its own first",
        )
    return np.result_type(*map(np.dtype, kinds))


def read_bands(file: DatasetReader, indexes: Sequence[int], window: Window) -> list[NDArray[Any]] | NDArray[Any]:
    """Read ``(H, W)`` of each band, in its own type; one array where they are of one.

    Raises:
        DataError: They are more than this machine has memory for: the system would end the process without a word.
    """
    needed = window.height * window.width * sum(np.dtype(file.dtypes[i - 1]).itemsize for i in indexes)
    if needed > SMALL and needed > machine_memory() / 2:
        raise DataError(
            f"{window.height} x {window.width} pixels of {file.name} are {needed / 1e9:.0f} GB at once",
            "what fits the memory of this machine twice",
            "cut the image into tiles",
        )
    if file.driver in DRIVERS:
        return read_politely(file, window, lambda piece: file.read(list(indexes), window=piece.to_rasterio()))
    where = window.to_rasterio()
    if len({file.dtypes[i - 1] for i in indexes}) == 1:
        pixels: NDArray[Any] = file.read(list(indexes), window=where)
        return pixels
    return [file.read(i, window=where) for i in indexes]


def read_mask(file: DatasetReader, indexes: Sequence[int], window: Window) -> NDArray[np.bool_]:
    """Read ``(H, W)`` bool: whether the mask of any of the bands shows a pixel."""

    def read(piece: Window) -> NDArray[np.uint8]:
        masks: NDArray[np.uint8] = file.read_masks(list(indexes), window=piece.to_rasterio())
        return masks

    masks = read_politely(file, window, read) if file.driver in DRIVERS else read(window)
    shown: NDArray[np.bool_] = (masks != 0).any(axis=0)
    return shown


def has_data(bands: list[NDArray[Any]] | NDArray[Any], nodata: Sequence[float | None]) -> NDArray[np.bool_]:
    """``(H, W)`` bool: whether any band ``(H, W)`` differs from its nodata value."""
    has = np.ones(bands[0].shape, bool)
    if None in nodata:
        return has
    for position, (band, value) in enumerate(zip(bands, nodata, strict=True)):
        assert value is not None
        differs = ~np.isnan(band) if np.isnan(value) else band != np.asarray(value).astype(np.float64)
        if band.dtype == np.float32 and not np.isnan(value):
            differs = band != np.float32(value)
        has = differs if position == 0 else has | differs
    return has


def colour_table(file: DatasetReader, index: int) -> NDArray[np.uint8] | None:
    """Return the RGBA colours of a band's values, ``(values, 4)``; ``None`` where it has no palette."""
    if file.colorinterp[index - 1] != ColorInterp.palette or file.dtypes[index - 1] not in ("uint8", "uint16"):
        return None
    try:
        colours = file.colormap(index)
    except (ValueError, RasterioError):  # called a palette, and has none
        return None
    table = np.zeros((np.iinfo(file.dtypes[index - 1]).max + 1, 4), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    return table


def png_is_complete(source: str) -> bool:
    """Walk the chunks of a PNG to the closing one: GDAL reads a whole truncated PNG without an error, as garbage.

    One that is no plain file (an archive's, one on the network) is taken for complete.
    """
    if not is_local(source):
        return True
    with Path(source).open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            if header[4:] == b"IEND":
                return True
            file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
    return False
