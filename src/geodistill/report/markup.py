"""HTML that nothing shown can break: every text is escaped where it enters, and only `Html` passes as it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from geodistill.writing import markup_text


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Content = str | float | Iterable["Content"] | None
"""What an element holds: text, a number, markup, several of these, or nothing."""

Attributes = Mapping[str, str | float | bool | None]
"""Attributes by name: ``True`` writes the name alone, ``False`` and ``None`` nothing."""

_VOID = frozenset({"img", "input", "br", "hr", "meta", "line", "rect", "path", "circle", "polyline", "polygon"})


def element(tag: str, attributes: Attributes | None = None, *content: Content) -> Html:
    """Return an element; its attributes and all text in it are escaped."""
    written = "".join(_attribute(name, value) for name, value in (attributes or {}).items())
    if tag in _VOID:
        return Html(f"<{tag}{written}/>" if tag not in ("img", "input", "br", "hr", "meta") else f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*content)}</{tag}>")


def join(*content: Content) -> Html:
    """Return markup of several parts, one behind the other."""
    return Html("".join(map(_markup, content)))


def escaped(text: str) -> Html:
    """Return text as markup: control characters and those that turn the direction of writing become escapes too."""
    return Html(markup_text(text))


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes of a media type, such as ``image/png``, as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def json_block(name: str, value: Any) -> Html:
    """Return JSON that stands in the page for programs; no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: lone surrogates are escaped too
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{markup_text(name)}">{text}</script>')


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{value if isinstance(value, Html) else escaped(plain_number(value))}"'


def _markup(part: Content) -> str:
    if part is None or isinstance(part, Html):
        return part or ""
    if isinstance(part, str | int | float):
        return escaped(plain_number(part))
    return "".join(map(_markup, part))


def plain_number(value: str | float) -> str:
    """Return a number as short text for drawing, texts as they are."""
    return value if isinstance(value, str) else f"{value:.7g}"
