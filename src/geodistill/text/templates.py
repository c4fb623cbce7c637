"""Prompts: one text for a place and a list of classes, made of one sentence per class (MetaSegNet, section II-B).

The built-in knowledge is a table of authored sentences: what each class looks like from above, what each zone adds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from geodistill.errors import UnknownNameError, check_name, printable
from geodistill.reading import read_yaml
from geodistill.text.climate import ZONES
from geodistill.text.places import Setting, rounded

SEASONAL = ("trees", "grass", "soil")
"""Materials that look different from season to season."""


@dataclass(frozen=True)
class Knowledge:
    """The authored table.

    Attributes:
        zones: Words for each material (trees, grass, soil, water, roofs, roads) by zone code.
        seasons: Words by season.
        classes: Sentence of each known class.
        materials: The material of a class that looks different from zone to zone.
        aliases: Known class by other spelling, letters and digits alone.
    """

    zones: dict[str, dict[str, str]]
    seasons: dict[str, str]
    classes: dict[str, str]
    materials: dict[str, str]
    aliases: dict[str, str]

    def known(self, name: str) -> str | None:
        """Return the class that a legend's ``name`` means, or ``None`` where the table does not know it."""
        return self.aliases.get(_letters(name))

    def describe(self, name: str, zone: str | None) -> str:
        """Return one sentence on a class; a class that the table does not know is described by its name alone."""
        known = self.known(name)
        if known is None:
            return f"{name}."
        parts = [f"{name}: {self.classes[known]}"]
        material = self.materials.get(known)
        if material is not None and zone is not None:
            parts.append(f"in this climate {material}: {self.zones[zone][material]}")
        return "; ".join(parts) + "."

    def describe_season(self, season: str | None, classes: Sequence[str]) -> str:
        """Return one sentence on a season; none where it changes the look of none of the classes."""
        materials = {self.materials.get(self.known(name) or "") for name in classes}
        return f"In {season}: {self.seasons[season]}." if season and materials & set(SEASONAL) else ""


@cache
def knowledge() -> Knowledge:
    """Read the table that the package ships."""
    with resources.as_file(resources.files("geodistill.text") / "knowledge.yaml") as path:
        table = read_yaml(path)
    classes = {name: entry["text"] for name, entry in table["classes"].items()}
    aliases = {_letters(name): name for name in classes}
    aliases |= {_letters(alias): name for alias, name in table["aliases"].items()}
    materials = {name: entry["material"] for name, entry in table["classes"].items() if "material" in entry}
    return Knowledge(table["zones"], table["seasons"], classes, materials, aliases)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


KINDS = ("climate", "no-climate", "plain", "none")
"""``climate``: zone and season speak; ``no-climate``: the classes alone; ``plain``, ``none``: table V's ablations."""


PLAIN = "It is a remote sensing image."


Writer = Callable[[str], str]
"""Answers one question with one or two sentences."""


@dataclass(frozen=True)
class ClassText:
    """What a prompt says of one class.

    Attributes:
        name: The legend's name; empty for a text that speaks of no class.
        question: What was asked; empty for the ablation prompts and the built-in words of a season.
        text: The answer.
        source: ``built-in``, ``built-in (name only)``, a language model's name or ``fixed``.
    """

    name: str
    question: str
    text: str
    source: str


@dataclass(frozen=True)
class Prompt:
    """The text of a setting, of one of `KINDS`, in one part per class."""

    setting: Setting
    kind: str
    parts: tuple[ClassText, ...]

    @property
    def text(self) -> str:
        """All parts in one line."""
        return " ".join(part.text for part in self.parts if part.text)

    @property
    def id(self) -> str:
        """Names the text: equal for equal words, whatever they were written for."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def write_prompt(
    setting: Setting, classes: Sequence[str], kind: str = "climate", writer: Writer | None = None, author: str = ""
) -> Prompt:
    """Write the prompt of a setting for a legend's names; without a ``writer``, built-in knowledge answers.

    Raises:
        UnknownNameError: There is no such kind (see `KINDS`) or zone.
    """
    check_name("kind of prompt", kind, KINDS)
    if setting.zone is not None and setting.zone not in ZONES:
        raise UnknownNameError("climate zone", setting.zone, ZONES)
    if kind in ("plain", "none"):
        return Prompt(setting, kind, (ClassText("", "", PLAIN if kind == "plain" else "", "fixed"),))
    visible = _visible(setting, kind)
    parts = [_class_text(visible, printable(name), writer, author) for name in classes]
    if writer is None and (words := knowledge().describe_season(visible.season, classes)):
        parts.append(ClassText("", "", words, "built-in"))
    return Prompt(setting, kind, tuple(parts))


def questions(setting: Setting, classes: Sequence[str], kind: str = "climate") -> list[str]:
    """Return what a writer is asked for a prompt; nothing for the ablation prompts."""
    if kind in ("plain", "none"):
        return []
    return [question(_visible(setting, kind), printable(name)) for name in classes]


def question(setting: Setting, name: str) -> str:
    """Ask what a class looks like in a setting."""
    words = [f"What do areas of the land-cover class '{name}' look like from above"]
    if setting.gsd is not None:
        words.append(f"at {rounded(setting.gsd):g} m per pixel")
    if setting.zone is not None:
        words.append(f"in a {ZONES[setting.zone]} climate (Koeppen {setting.zone})")
    if setting.season is not None:
        words.append(f"in {setting.season}")
    if setting.elevation is not None:
        words.append(f"at about {rounded(setting.elevation):g} m above the sea")
    return " ".join(words) + ": shape, colour, texture, and what lies beside them?"


def _visible(setting: Setting, kind: str) -> Setting:
    """What of a setting a kind of prompt speaks of."""
    return setting if kind == "climate" else Setting(gsd=setting.gsd)


def _class_text(setting: Setting, name: str, writer: Writer | None, author: str) -> ClassText:
    asked = question(setting, name)
    if writer is not None:
        return ClassText(name, asked, f"{name}: {writer(asked)}", author)
    table = knowledge()
    source = "built-in" if table.known(name) else "built-in (name only)"
    return ClassText(name, asked, table.describe(name, setting.zone), source)
