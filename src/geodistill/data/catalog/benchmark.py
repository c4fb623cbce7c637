"""A benchmark set as a declaration: where its files lie, what its labels mean, and how it is divided."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from geodistill.spec import Legend

Kind = Literal["masks", "boxes"]
Split = Mapping[str, Sequence[str]]
"""Ids of train, val and test."""

Divide = Callable[[Sequence[str]], Split]
"""Divides the ids that were found, for sets whose split is drawn and not listed."""


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie below the root.

    Patterns are relative paths: ``*`` is any part of a name, ``**/`` any folders, ``{name}`` a field, ``{path}`` one
    that may hold folders. An image and its mask have equal fields.

    Attributes:
        images: Patterns of images, the first that fits wins.
        masks: Patterns of masks.
        key: Format of an image's id in splits and messages.
        split: Field whose value names the official split, by value; where folders are the split.
        lists: Files below the root, by split, that name a split's images a line; a variant of the set's splits that is
            asked for by its name goes before them.
        bands: Names of the bands, where they are not those of the set.
        first_bands: Read of an image with more bands the first ones, as the papers' own loaders do.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    key: str = "{id}"
    split: Mapping[str, str] | None = None
    lists: Mapping[str, str] | None = None
    bands: tuple[str, ...] | None = None
    first_bands: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A set that the papers measure on.

    Attributes:
        name: As ``--dataset`` takes it.
        title: Its full name.
        kind: ``masks``, or ``boxes`` for a detection set that ``label build`` turns into masks.
        legend: The classes; ``None`` for a detection set, whose format or preset has them.
        bands: Names of the bands.
        gsd: Metres per pixel, or ``None`` where it varies.
        layouts: Layout by variant; the first is the default.
        splits: Split by variant, the first the default: ids, or a function of the ids found; none where the layout
            has folders or lists.
        unlabelled: Splits whose masks are withheld.
        source: Where to download it.
        licence: Its terms.
        note: What to know before comparing figures.
        labels: For a detection set: the arguments of ``label build``.
        archive: What its official zip is called, without the ending, where not as the set.
    """

    name: str
    title: str
    source: str
    licence: str
    kind: Kind = "masks"
    legend: Legend | None = None
    bands: tuple[str, ...] = ("red", "green", "blue")
    gsd: float | None = None
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    splits: Mapping[str, Split | Divide] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    note: str = ""
    labels: str = ""
    archive: str = ""


def pattern(text: str) -> re.Pattern[str]:
    """Compile a layout's pattern; it must fit the end of a path, from a folder's border on."""
    parts = re.split(r"(\{\w+\}|\*\*/|\*)", text)
    fields_used: set[str] = set()
    words = []
    for part in parts:
        if part == "**/":
            words.append("(?:.*/)?")
        elif part == "*":
            words.append("[^/]*")
        elif part.startswith("{"):
            name = part[1:-1]
            kind = ".+?" if name == "path" else "[^/]+?"
            words.append(f"(?P={name})" if name in fields_used else f"(?P<{name}>{kind})")
            fields_used.add(name)
        else:
            words.append(re.escape(part))
    return re.compile(f"(?:^|.*?/){''.join(words)}$", re.IGNORECASE)


def as_dict(benchmark: Benchmark) -> dict[str, Any]:
    """Return a JSON-ready form."""
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "kind": benchmark.kind,
        "classes": [] if benchmark.legend is None else list(benchmark.legend.names),
        "bands": list(benchmark.bands),
        "gsd": benchmark.gsd,
        "layouts": {
            name: {
                "images": list(layout.images),
                "masks": list(layout.masks),
                "bands": list(layout.bands or benchmark.bands),
            }
            for name, layout in benchmark.layouts.items()
        },
        "splits": {
            name: "drawn by seed" if callable(split) else {part: len(ids) for part, ids in split.items()}
            for name, split in benchmark.splits.items()
        },
        "unlabelled": list(benchmark.unlabelled),
        "source": benchmark.source,
        "licence": benchmark.licence,
        "note": benchmark.note,
        "labels": benchmark.labels,
    }


def describe(benchmark: Benchmark) -> str:
    """Write all about a set."""
    data = as_dict(benchmark)
    lines = [f"{benchmark.title} ({benchmark.name})", f"source   {benchmark.source}", f"licence  {benchmark.licence}"]
    if benchmark.kind == "boxes":
        command = f"geodistill label build {benchmark.labels} --images ... --boxes ... --out ..."
        return "\n".join([*lines, f"masks    {command}"])
    lines += [f"classes  {', '.join(data['classes'])}", f"bands    {', '.join(benchmark.bands)}"]
    lines += [f"gsd      {benchmark.gsd:g} m"] if benchmark.gsd else []
    for name, layout in benchmark.layouts.items():
        lines.append(f"layout   {name}: {layout.images[0]} + {layout.masks[0]}")
    for name, split in data["splits"].items():
        parts = split if isinstance(split, str) else ", ".join(f"{part} {count}" for part, count in split.items())
        lines.append(f"split    {name}: {parts}")
    lines += [f"withheld masks of {', '.join(benchmark.unlabelled)}"] if benchmark.unlabelled else []
    return "\n".join([*lines, *([f"note     {benchmark.note}"] if benchmark.note else [])])
