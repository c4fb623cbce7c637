"""The page: sections between a heading and a foot, one style, one script, and a policy that lets nothing be fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from geodistill.report.markup import Content, Html, element, join, json_block
from geodistill.report.palette import safe_colours, starts_safe
from geodistill.spec import Legend, hexadecimal
from geodistill.version import __version__

PAGES = (".html", ".htm")
"""What the name of a page ends in."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Of its place in the page and of its figures.
        title: Its heading.
        body: What it shows.
        figures: The same as JSON-ready values, for programs.
        style: Files of this package whose style it needs.
        script: Files of this package whose script it needs.
        beside: Whether it shows pictures from a folder beside the page.
    """

    name: str
    title: str
    body: Html
    figures: Mapping[str, Any] = field(default_factory=dict)
    style: tuple[str, ...] = ()
    script: tuple[str, ...] = ()
    beside: bool = False


@dataclass(frozen=True)
class Page:
    """What a report says.

    Attributes:
        title: What it is about.
        lead: What was done and came out, in sentences.
        keys: The few figures to see first, each with what it is.
        sections: The rest.
        legend: The classes, whose colours the page uses; ``None`` where there are none.
    """

    title: str
    lead: Sequence[str]
    keys: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    legend: Legend | None = None

    def to_html(self) -> str:
        """Return the whole page."""
        styles = ["page.css", *dict.fromkeys(name for each in self.sections for name in each.style)]
        scripts = ["page.js", *dict.fromkeys(name for each in self.sections for name in each.script)]
        style = "\n".join([*map(package_text, styles), class_colours(self.legend)])
        script = "\n".join(map(package_text, scripts))
        beside = any(each.beside for each in self.sections)
        figures: dict[str, Any] = {"title": self.title, "geodistill": __version__, "lead": list(self.lead)}
        figures |= {each.name: dict(each.figures) for each in self.sections if each.figures}
        head = join(
            Html('<meta charset="utf-8">'),
            element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(style, script, beside)}),
            element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            element("meta", {"name": "referrer", "content": "no-referrer"}),
            element("meta", {"name": "color-scheme", "content": "light dark"}),
            element("title", None, f"{self.title} - geodistill report"),
            Html(f"<style>{style}</style>"),
        )
        body = join(
            element("a", {"class": "skip", "href": "#content"}, "Skip to the content"),
            self._header(),
            element("main", {"id": "content"}, self._lead(), *map(_section, self.sections)),
            element("footer", None, f"Made by geodistill {__version__}. The figures also stand in this file as JSON."),
            json_block("figures", figures),
            Html(f"<script>{script}</script>"),
        )
        palette = {"lang": "en", "data-palette": "safe" if self._starts_safe else "legend"}
        return "<!doctype html>\n" + element("html", palette, element("head", None, head), element("body", None, body))

    @property
    def _switches(self) -> bool:
        """Whether there are colours to change to."""
        return self.legend is not None and safe_colours(len(self.legend)) is not None

    @property
    def _starts_safe(self) -> bool:
        return self.legend is not None and starts_safe(self.legend.colours)

    def _header(self) -> Html:
        links = [element("a", {"href": f"#{each.name}"}, each.title) for each in self.sections]
        colours = {"type": "button", "id": "palette", "aria-pressed": "true" if self._starts_safe else "false"}
        buttons = [element("button", colours, "Colour-blind safe")] if self._switches else []
        buttons.append(element("button", {"type": "button", "id": "theme", "aria-pressed": "false"}, "Dark"))
        nav = element("nav", {"aria-label": "Sections"}, links)
        return element("header", None, nav, element("div", {"class": "switches"}, buttons))

    def _lead(self) -> Html:
        pairs = [
            element("div", None, element("dt", None, name), element("dd", None, value)) for name, value in self.keys
        ]
        return element(
            "div",
            {"class": "lead"},
            element("h1", None, self.title),
            *(element("p", None, sentence) for sentence in self.lead),
            element("dl", {"class": "keys"}, pairs) if pairs else None,
        )


def _section(section: Section) -> Html:
    heading = element("h2", {"id": f"{section.name}-title"}, section.title)
    return element("section", {"id": section.name, "aria-labelledby": f"{section.name}-title"}, heading, section.body)


def class_colours(legend: Legend | None) -> str:
    """Return the style of the classes ``k0``, ``k1`` ... in the legend's colours and in safe ones."""
    if legend is None:
        return ""
    given = "".join(f"--k{k}:{hexadecimal(colour)};" for k, colour in enumerate(legend.colours))
    safe = "".join(f"--k{k}:{hexadecimal(colour)};" for k, colour in enumerate(safe_colours(len(legend)) or ()))
    rules = "".join(f".k{k}{{color:var(--k{k});fill:var(--k{k})}}" for k in range(len(legend)))
    return f":root{{{given}}}:root[data-palette=safe]{{{safe}}}{rules}"


def class_colour(name: str, legend: Legend | None) -> str:
    """Return a class's colour in the style of a page with a legend, by its name; a plain one where it has none."""
    return f"k{legend.names.index(name)}" if legend is not None and name in legend.names else "plain"


def swatch(colour: str) -> Html:
    """Return a small square in the colour of a class of the page's style, such as ``k0``."""
    square = element("rect", {"width": 12, "height": 12, "rx": 2})
    return element("svg", {"class": f"swatch {colour}", "viewBox": "0 0 12 12", "aria-hidden": "true"}, square)


def wide(label: str, *content: Content) -> Html:
    """Return what may be wider than a phone in a frame that scrolls, by keyboard too."""
    return element("div", {"class": "wide", "role": "region", "tabindex": 0, "aria-label": label}, *content)


def titled_table(kind: str, caption: str, titles: Sequence[str], rows: Content, foot: Html | None = None) -> Html:
    """Return a table of a class of the page's style: a caption, the titles of the columns, rows, and a foot or none."""
    head = element("tr", None, *(element("th", {"scope": "col"}, title) for title in titles))
    return element(
        "table",
        {"class": kind},
        element("caption", None, caption),
        element("thead", None, head),
        element("tbody", None, rows),
        None if foot is None else element("tfoot", None, foot),
    )


def package_text(name: str) -> str:
    """Return the text of a file of this package; of a vendored library its licence stands before it."""
    text = resources.files("geodistill.report").joinpath(name).read_text(encoding="utf-8")
    if "/" not in name or name.endswith("LICENSE"):
        return text
    licence = package_text(f"{name.partition('/')[0]}/LICENSE")
    return f"/*\n{licence}*/\n{text.partition('//# sourceMappingURL')[0]}"


def _policy(style: str, script: str, beside: bool) -> str:
    """Return the policy of the page: its own style, script and pictures, and nothing else from anywhere.

    Pictures of a folder ``beside`` it come from where the page comes from.
    """
    pictures = "data: 'self' file:" if beside else "data:"
    return (
        f"default-src 'none'; img-src {pictures}; style-src {_digest(style)}; script-src {_digest(script)};"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
