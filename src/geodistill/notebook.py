"""How objects show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geodistill.writing import markup_text


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in which all text is escaped; colours ``(r, g, b)`` become small squares."""
    head = "".join(f"<th>{markup_text(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_text(text: str) -> str:
    """Return text in fixed width, escaped."""
    return f"<pre>{markup_text(text)}</pre>"


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return f'<span style="display:inline-block;width:1em;height:1em;background:rgb{value}"></span>'
    return markup_text(str(value))
