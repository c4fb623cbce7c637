"""Built-in knowledge: what each class looks like from above and what each climate zone adds, as authored sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from geodistill.reading import read_yaml


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

    def describe(self, name: str, zone: str | None, season: str | None) -> str:
        """Return one sentence on a class; a class that the table does not know is described by its name alone."""
        known = self.known(name)
        if known is None:
            return f"{name}."
        parts = [f"{name}: {self.classes[known]}"]
        material = self.materials.get(known)
        if material is not None and zone is not None:
            parts.append(f"in this climate {material}: {self.zones[zone][material]}")
        if season is not None and material in ("trees", "grass", "soil"):
            parts.append(f"in {season} {self.seasons[season]}")
        return "; ".join(parts) + "."


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
