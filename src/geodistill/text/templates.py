"""Prompts: one text for a place and a list of classes, made of one sentence per class (MetaSegNet, section III-B)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from geodistill.errors import UnknownNameError, printable
from geodistill.text.climate import ZONES
from geodistill.text.knowledge import knowledge
from geodistill.text.places import Setting, rounded

KINDS = ("climate", "no-climate", "plain", "none")
"""``climate``: zone and season speak; ``no-climate``: the classes alone; ``plain``, ``none``: table V's ablations."""

PLAIN = "It is a remote sensing image."

Writer = Callable[[str], str]
"""Answers one question with one or two sentences."""


@dataclass(frozen=True)
class ClassText:
    """What a prompt says of one class.

    Attributes:
        name: The legend's name; empty for a prompt that speaks of no class.
        question: What was asked; empty for the ablation prompts.
        text: The answer.
        source: ``built-in``, ``built-in (name only)``, a language model's name or ``fixed``.
    """

    name: str
    question: str
    text: str
    source: str


@dataclass(frozen=True)
class Prompt:
    """The text of a setting and a list of classes.

    Attributes:
        setting: What it was written for.
        kind: One of `KINDS`.
        parts: One text per class.
    """

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
    if kind not in KINDS:
        raise UnknownNameError("kind of prompt", kind, KINDS)
    if setting.zone is not None and setting.zone not in ZONES:
        raise UnknownNameError("climate zone", setting.zone, ZONES)
    if kind in ("plain", "none"):
        return Prompt(setting, kind, (ClassText("", "", PLAIN if kind == "plain" else "", "fixed"),))
    return Prompt(
        setting, kind, tuple(_class_text(_seen(setting, kind), printable(name), writer, author) for name in classes)
    )


def questions(setting: Setting, classes: Sequence[str], kind: str = "climate") -> list[str]:
    """Return what a writer is asked for a prompt; nothing for the ablation prompts."""
    if kind in ("plain", "none"):
        return []
    return [question(_seen(setting, kind), printable(name)) for name in classes]


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


def _seen(setting: Setting, kind: str) -> Setting:
    """What of a setting a kind of prompt speaks of."""
    return setting if kind == "climate" else Setting(gsd=setting.gsd)


def _class_text(setting: Setting, name: str, writer: Writer | None, author: str) -> ClassText:
    asked = question(setting, name)
    if writer is not None:
        return ClassText(name, asked, f"{name}: {writer(asked)}", author)
    table = knowledge()
    source = "built-in" if table.known(name) else "built-in (name only)"
    return ClassText(name, asked, table.describe(name, setting.zone, setting.season), source)
