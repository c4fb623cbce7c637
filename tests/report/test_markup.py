"""Markup: whatever stands in names, a parser reads the same text back and meets no element of theirs."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodistill.errors import printable
from geodistill.report.markup import Html, data_uri, element, join, json_block


class Reader(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@pytest.mark.slow
@given(st.text(max_size=40), st.text(max_size=40))
def test_text_and_attributes_come_back_and_nothing_else(text: str, value: str) -> None:
    reader = read(element("p", {"title": value}, text))
    assert reader.tags == ["p"]
    assert reader.attributes == [("title", printable(value))]
    assert reader.text == printable(text)


def test_what_closes_an_element_is_text() -> None:
    hostile = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e"
    reader = read(element("p", None, hostile))
    assert reader.tags == ["p"]
    assert "\x1b" not in reader.text
    assert "\u202e" not in reader.text


@pytest.mark.slow
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3)))
def test_json_comes_back_and_no_text_in_it_ends_the_element(value: object) -> None:
    block = json_block("figures", {"value": value})
    start, end = block.index(">") + 1, block.index("</script>")
    assert block.endswith("</script>")
    assert block.count("<") == 2
    assert json.loads(block[start:end]) == {"value": value}


def test_attributes_that_are_on_off_or_not_there() -> None:
    assert element("input", {"checked": True, "hidden": False, "min": None, "max": 2.5}) == '<input checked max="2.5">'
    assert element("td") == "<td></td>"


def test_parts_of_every_kind_are_joined() -> None:
    assert join("a<", Html("<b>"), 3, 0.5, None, ["x", ["&"]]) == "a&lt;<b>30.5x&amp;"


def test_bytes_as_an_address() -> None:
    assert data_uri(b"\x00\xff", "image/png") == "data:image/png;base64,AP8="
