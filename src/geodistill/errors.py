"""The errors a user can meet, each saying what was received, what was expected and the mend."""

from __future__ import annotations

import difflib
import errno
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints
from unicodedata import category

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LONGEST_LINE = 2000
"""Characters of a message at most: a file from outside can have names of any length."""


def printable(text: str) -> str:
    """Return ``text`` with control characters as escapes, so that no name of a class or file commands a terminal.

    Line breaks and tabs stay; format characters that turn the direction of writing and lone surrogates do not.
    """
    return "".join(
        c if c in "\n\t" or (category(c) not in ("Cc", "Cs", "Co") and c not in TURNING) else _escaped(c) for c in text
    )


def one_line(text: str) -> str:
    """Return ``text`` as `printable` and on one line, for pictures, model cards and progress lines."""
    return " ".join(printable(text).split())


TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
"""Format characters that turn the direction of writing, or end a line."""


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """Return a value for a message: as Python writes it, of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_line(error: BaseException) -> str:
    """Return an error's first line for a message, at most 200 characters; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def listed(names: Sequence[object], most: int = 8) -> str:
    """Return the first of some names for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name)[:60] for name in names[:most]) + more


def counted(count: int, noun: str, several: str = "") -> str:
    """Return a count with its noun, such as ``1 image`` and ``2,000 images``."""
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def _restore(kind: type[Exception], arguments: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(state)
    return error


class GeodistillError(Exception):
    """A mistake the user can mend; the command line prints it on one line and ends with status 2.

    Args:
        received: What was found, naming the file, key or value.
        expected: What would have been right; may be empty where it is obvious.
        mend: What to do about it; may be empty.

    Example:
        >>> try:
        ...     gd.Raster("missing.tif")
        ... except gd.GeodistillError as error:
        ...     print(error)
        no file missing.tif; expected an image file
    """

    def __init__(self, received: str, expected: str = "", mend: str = "") -> None:
        self.received, self.expected, self.mend = received, expected, mend
        parts = [received, f"expected {expected}" if expected else "", mend]
        text = "; ".join(" ".join(part.split()) for part in parts if part)
        super().__init__(printable(text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."))

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process boundary whole, whatever arguments a subclass takes."""
        return _restore, (type(self), self.args, self.__dict__)


class DataError(GeodistillError):
    """An image, mask, manifest or legend cannot be used as it is."""


class RecipeError(GeodistillError):
    """A recipe or a command-line flag has a wrong key or value."""


class ArtifactError(GeodistillError):
    """A Segmenter directory, checkpoint or weights file is missing, altered or of another kind."""


class OutputError(GeodistillError):
    """A result cannot be written where it was asked for."""


class BusyError(OutputError):
    """Another command is at work on the same result."""


class TrainingError(GeodistillError):
    """Training cannot go on, for example because a loss term is not finite."""


_FEW = 4
"""Names up to which an error lists all of them, near or not."""


class UnknownNameError(GeodistillError):
    """A name is not among the known ones; the message lists near names.

    Args:
        kind: What the name stands for, such as ``"encoder"``.
        name: The name received.
        known: Every name that would have been accepted.
        mend: Where to see them all.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], mend: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
        if len(names) > 12 or (near and len(names) > _FEW):
            expected = f"a known {kind}" + (f", such as {', '.join(near)}" if near else "")
        else:
            expected = f"one of {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}", expected, mend)


def check_name(kind: str, name: str, known: Collection[object], mend: str = "") -> None:
    """Refuse a name that is not among the known ones; arguments as those of `UnknownNameError`.

    Raises:
        UnknownNameError: It is not.
    """
    if name not in known:
        raise UnknownNameError(kind, name, map(str, known), mend)


def check_choices(config: DataclassInstance, prefix: str = "") -> None:
    """Refuse a value of a dataclass that is none of those that its field's ``Literal`` lists.

    Args:
        config: The dataclass.
        prefix: What stands before a field's name in the message.

    Raises:
        UnknownNameError: There is one.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            check_name(f"{prefix}{name}", getattr(config, name), get_args(hint))


class GeodistillWarning(UserWarning):
    """Something the user should know and that does not stop the work."""


class ServiceError(GeodistillError):
    """A service on the network does not answer, or not in a usable way."""


_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

_SPARE = 2**20
"""Bytes below which a disk is full for a library that does not say why it could not write."""


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error that says in one line why ``path`` could not be written.

    Args:
        path: A file or folder.
        error: What the file system refused, or, without an ``errno``, the text of a library that wrote.
    """
    if _is_full(path.parent, error):
        return OutputError(f"the disk is full while writing {path}", "", "free some space or choose another --out")
    reason = error.strerror or str(error)
    return OutputError(f"{path} cannot be written ({reason})", "a writable place", "choose another --out")


def _is_full(folder: Path, error: OSError) -> bool:
    if error.errno is not None or "No space left" in str(error):
        return error.errno in (None, *_DISK_FULL)
    try:
        return shutil.disk_usage(folder).free < _SPARE
    except OSError:  # the folder is not there
        return False


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses while ``path`` is written into `output_error`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error
