"""Reading text, JSON and YAML from outside: bounded in size and depth, and one clear line where it is not right.

Every file that a person, a service or an earlier run has left comes in through here; `tests/house/test_code.py` holds
that nothing else in the package calls the parsers below.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from geodistill.errors import DataError, GeodistillError, first_line

T = TypeVar("T")

SETTINGS_BYTES = 16 << 20
"""A legend, a recipe, a description, a STAC item: bytes at most."""

ANNOTATION_BYTES = 4 << 30
"""A file of annotations: bytes at most."""

DEPTH = 100
"""Levels that JSON and YAML may be nested."""

YAML_BYTES = 1 << 20
"""A YAML file: bytes at most."""

NODES = 200_000
"""Values that a YAML file may hold, an alias counted as often as it is used."""

TABLE_BYTES, ROW_BYTES, TABLE_ROWS = 64 << 20, 16 << 10, 1 << 10
"""Bytes that the rows of a Parquet file may take at most, beside so many for each; rows that are read at a time."""

_PARQUET = b"PAR1"
"""What every Parquet file begins with."""

_DIGITS = 4300
"""Digits of a whole number in YAML; as Python's own limit."""


def read_bytes(path: Path | str, limit: int = SETTINGS_BYTES, error: type[GeodistillError] = DataError) -> bytes:
    """Return the bytes of a file.

    Args:
        path: The file.
        limit: Bytes at most.
        error: What is raised.

    Raises:
        GeodistillError: It is missing, no plain file, not readable or larger than ``limit``; of the kind ``error``.
    """
    try:
        if Path(path).is_fifo() and not str(path).startswith("/dev/"):  # a shell's own, as in <(command), has a writer
            raise error(f"{path} is a named pipe", "a file")  # to open one that nobody writes into would never end
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as reason:  # ValueError: a name with a null character
        raise error(f"{path} cannot be read ({_reason(reason)})", "a readable file") from reason
    if len(data) > limit:
        raise error(f"{path} is larger than {limit} bytes", f"at most {limit} bytes")
    return data


def read_text(path: Path | str, limit: int = SETTINGS_BYTES, error: type[GeodistillError] = DataError) -> str:
    """Return the text of a UTF-8 file, without the mark that some programs put at its beginning.

    Raises:
        GeodistillError: As `read_bytes`, or it is not UTF-8.
    """
    return decode(read_bytes(path, limit, error), path, error)


def decode(data: bytes, source: Path | str, error: type[GeodistillError] = DataError) -> str:
    """Return UTF-8 bytes as text.

    Raises:
        GeodistillError: They are not UTF-8, or a manifest that was given in the place of something else.
    """
    try:
        if data.startswith(_PARQUET):
            mend = "a recipe, project or model comes first, and its manifest after it"
            raise error(f"{source} is a Parquet file, such as a manifest", "text in UTF-8", mend)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{source} is not UTF-8 (byte {reason.start})", "text in UTF-8", "save it as UTF-8") from reason


def read_json(path: Path | str, limit: int = SETTINGS_BYTES, error: type[GeodistillError] = DataError) -> Any:
    """Return what a JSON file holds.

    Raises:
        GeodistillError: As `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, limit, error), path, error)


def parse_json(text: str | bytes, source: Path | str, error: type[GeodistillError] = DataError) -> Any:
    """Return what JSON text holds.

    Args:
        text: The text; bytes are UTF-8.
        source: Where it is from, for messages.
        error: What is raised.

    Raises:
        GeodistillError: It is not JSON, has a key twice in one object, or is nested too deep.
    """
    text = decode(text, source, error) if isinstance(text, bytes) else text
    try:
        value = json.loads(text, object_pairs_hook=_single_keys)
        if len(text) <= SETTINGS_BYTES:  # of the millions of values of annotations only known fields are looked at
            _refuse_large(value, len(text))
    except (ValueError, RecursionError) as reason:
        reason_text = "nested too deep" if isinstance(reason, RecursionError) else first_line(reason)
        raise error(f"{source} is not JSON that can be used ({reason_text})", "a JSON file") from reason
    return value


def parse_object(text: str | bytes, source: Path | str, error: type[GeodistillError] = DataError) -> dict[str, Any]:
    """Return the object (a mapping) that JSON text holds.

    Raises:
        GeodistillError: As `parse_json`, or it is something else.
    """
    value = parse_json(text, source, error)
    if not isinstance(value, dict):
        raise error(f"{source} holds a {type(value).__name__}", "a JSON object")
    return value


def read_object(
    path: Path | str, limit: int = SETTINGS_BYTES, error: type[GeodistillError] = DataError
) -> dict[str, Any]:
    """Return the object (a mapping) that a JSON file holds.

    Raises:
        GeodistillError: As `read_text` and `parse_object`.
    """
    return parse_object(read_text(path, limit, error), path, error)


@contextmanager
def well_formed(source: object, expected: str) -> Iterator[None]:
    """Refuse what a file holds where it has not the parts, or not of the kind, that are taken from it meanwhile.

    Raises:
        DataError: A part is missing or of another kind.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(f"{source} ({error!r})", expected) from error


def read_yaml(path: Path | str, error: type[GeodistillError] = DataError) -> Any:
    """Return what a YAML file holds.

    Raises:
        GeodistillError: As `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path, YAML_BYTES, error), path, error)


def parse_yaml(text: str, source: Path | str, error: type[GeodistillError] = DataError) -> Any:
    """Return what YAML text holds: mappings, lists and plain values, never objects.

    Raises:
        GeodistillError: It is not YAML, has a key twice in one mapping, or is nested too deep or too large.
    """
    try:
        value = yaml.load(text, _SingleKeys)
        _refuse_large(value, NODES)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as reason:
        raise error(f"{source} is not YAML that can be used ({_yaml_reason(reason)})", "a YAML file") from reason
    return value


def _yaml_reason(error: Exception) -> str:
    """Return what is wrong with YAML text, and in which line and column where the parser knows them."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return first_line(error)
    what = getattr(error, "problem", None) or getattr(error, "context", None) or error
    return f"line {mark.line + 1}, column {mark.column + 1}: {first_line(what)}"


class _SingleKeys(yaml.SafeLoader):
    """A safe loader that refuses a key twice in one mapping, and what grows far beyond its text when it is read."""

    _merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take in what merge keys (``<<``) name: ten times ten times ten of them are many keys in few lines."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(part, yaml.MappingNode):
                        self.flatten_mapping(part)
                        self._merged += len(part.value)
                    if self._merged > NODES:
                        raise ValueError(f"more than {NODES} values")
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        """Return a whole number; one to the base of 60 (``1:30:00``) takes time by the square of its length."""
        if len(node.value) > _DIGITS:
            raise ValueError(f"a number of {len(node.value)} digits")
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            try:
                if key in keys:
                    raise ValueError(f"the key {key!r} stands twice, line {key_node.start_mark.line + 1}")
                keys.add(key)
            except TypeError as reason:
                raise ValueError(f"a key is a list or mapping, line {key_node.start_mark.line + 1}") from reason
        return super().construct_mapping(node, deep)


_SingleKeys.add_constructor("tag:yaml.org,2002:int", _SingleKeys.construct_yaml_int)


def _single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        count = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {next(key for key in count if count[key] > 1)!r} stands twice")
    return value


def _refuse_large(value: Any, most: int) -> None:
    """Refuse values nested deeper than `DEPTH` or of more than ``most`` parts, aliases counted each time."""
    count, waiting = 0, [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if depth > DEPTH:
            raise ValueError(f"nested deeper than {DEPTH} levels")
        if count > most:
            raise ValueError(f"more than {most} values")
        children: Iterable[Any] = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        waiting.extend((child, depth + 1) for child in children)


def bounded(batches: Iterable[Any], source: Path | str) -> list[Any]:
    """Return the rows of a Parquet file as pyarrow's record batches, read `TABLE_ROWS` at a time.

    A file of a few bytes may hold one long text and name it in each of millions of rows.

    Raises:
        DataError: The rows take more than `TABLE_BYTES` and `ROW_BYTES` for each.
    """
    kept, size, rows = list[Any](), 0.0, 0
    for batch in batches:
        size, rows = size + sum(map(_written_out, batch.columns)), rows + batch.num_rows
        if size > TABLE_BYTES + ROW_BYTES * rows:
            raise DataError(f"{source} has rows of {size / rows:.3g} bytes", f"at most {ROW_BYTES} bytes per row")
        kept.append(batch)
    return kept


def _written_out(column: Any) -> float:
    """Return the bytes of a column whose every row has its text; without bound where they are not known."""
    decode = getattr(column, "dictionary_decode", None)
    if decode is None and "dictionary<" in str(column.type):
        return math.inf
    return float((column if decode is None else decode()).nbytes)


class Answer(Protocol):
    """What a service answers, as `urllib` and `io` give it."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes."""
        ...


def read_answer(answer: Answer, source: str, limit: int = SETTINGS_BYTES, seconds: float = 120) -> bytes:
    """Return the whole answer of a service, bounded in size and time.

    Raises:
        DataError: It breaks off, is larger than ``limit`` bytes, or is still coming after ``seconds``.
    """
    parts, size, end = [], 0, time.monotonic() + seconds
    # What has come, where the answer can give it: to wait for a whole part of one that drips could take days.
    take = getattr(answer, "read1", answer.read)
    try:
        while part := take(1 << 16):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise DataError(f"{source} answers with more than {limit} bytes", f"at most {limit} bytes")
            if time.monotonic() > end:
                raise DataError(f"{source} is still answering after {seconds:g} seconds", "an answer within that time")
    except (OSError, ValueError, HTTPException) as reason:
        raise DataError(f"{source} breaks off ({_reason(reason)})", "a whole answer") from reason
    return b"".join(parts)


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Return what a function returns that asks a service, or stop waiting for it.

    A connection's own timeout is that of each read: a service that sends its headers byte by byte never reaches it.

    Raises:
        TimeoutError: It takes longer; the thread that it runs in stays behind.
    """
    import multiprocessing
    from multiprocessing.pool import ThreadPool  # here, since few verbs ask a service

    pool = ThreadPool(1)
    try:
        return pool.apply_async(ask).get(seconds)
    except multiprocessing.TimeoutError as reason:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from reason
    finally:
        pool.close()


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
