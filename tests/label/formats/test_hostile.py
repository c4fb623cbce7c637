"""A contract for every reader: whatever stands in a file, a result comes out or one line that says why not."""

from __future__ import annotations

import copy
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from box_formats import FORMATS, Format, Thing, Yolo
from geodistill.errors import DataError, GeodistillWarning, UnknownNameError
from geodistill.label.boxes import Annotations
from geodistill.label.formats.detection import read_boxes

SIZE = (60, 40)
THINGS = {"a": [Thing(30, 20, 20, 10), Thing(20, 25, 12, 8, category="plane")], "b": [Thing(30, 20, 9, 9)]}

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    7.5,
    1e300,
    -1e300,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "x",
    "7",
    "é\ud800",
]
VALUES += [[], {}, [[]], [1, 2], {"a": 1}, [None], ["x"], "9" * 5000, [1e308, -1e308, 1e308, 1e308]]
TOKENS = ["", "-1", "1e400", "nan", "inf", "null", "[]", "{}", '"', "<", ">", "&", "\0", "x", ",", "9" * 5000, "-0.0"]
TOKENS += ["<object>", "</object>", "0,5", "1e300", "-1e300", "é", "\u202e", "true", " ", "\n"]


def outcome(form: Format, boxes: Path, images: Path) -> Annotations | None:
    """Read; a set that cannot be used must end in one line, and nothing else may be said but what is ours."""
    found, refused = None, ""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = read_boxes(form.name, boxes, images, **form.options)
        except (DataError, UnknownNameError) as error:
            refused = str(error)
    assert "\n" not in refused
    assert len(refused) < 3000
    assert [str(w.message) for w in told if not issubclass(w.category, GeodistillWarning)] == []
    return found


@pytest.fixture(scope="module", params=FORMATS.values(), ids=FORMATS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Format, Path, Path]:
    form: Format = request.param
    boxes, images = form.write(tmp_path_factory.mktemp("set"), dict.fromkeys(THINGS, SIZE), THINGS)
    if isinstance(form, Yolo):
        (boxes / "classes.txt").write_text("\n".join(form.classes), encoding="utf-8")
    return form, boxes, images


def tried(form: Format, boxes: Path, images: Path, change: Callable[[Path, bytes], bytes]) -> Annotations | None:
    """Read a copy of the set in which one file is changed."""
    with tempfile.TemporaryDirectory() as name:
        files = sorted(boxes.iterdir())
        for number, file in enumerate(files):
            data = file.read_bytes()
            (Path(name) / file.name).write_bytes(change(file, data) if number == 0 else data)
        return outcome(form, Path(name), images)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_altered_bytes(written: tuple[Format, Path, Path], data: st.DataObject) -> None:
    def change(_: Path, content: bytes) -> bytes:
        at = data.draw(st.integers(0, len(content)))
        kind = data.draw(st.sampled_from(["cut", "flip", "insert", "double", "drop"]))
        if kind == "cut":
            return content[:at]
        if kind == "flip":
            return content[:at] + bytes([data.draw(st.integers(0, 255))]) + content[at + 1 :]
        if kind == "insert":
            return content[:at] + data.draw(st.binary(max_size=20)) + content[at:]
        end = data.draw(st.integers(at, min(at + 200, len(content))))
        return content[:at] + content[at:end] * (2 if kind == "double" else 0) + content[end:]

    tried(*written, change)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_altered_words(written: tuple[Format, Path, Path], data: st.DataObject) -> None:
    def change(file: Path, content: bytes) -> bytes:
        if file.suffix == ".gpkg":
            return content
        words = re.split(r"(\s+|[<>,:{}\[\]\"/])", content.decode())
        for _ in range(data.draw(st.integers(1, 3))):
            words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(TOKENS))
        return "".join(words).encode()

    tried(*written, change)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON file."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in items for place in places_in(part, (*path, key)))]


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_altered_values(written: tuple[Format, Path, Path], data: st.DataObject) -> None:
    form, boxes, images = written
    if not form.single or form.suffix == ".gpkg":
        pytest.skip("no json")

    def change(_: Path, content: bytes) -> bytes:
        value = json.loads(content)
        if form.name == "coco":
            for part in value["images"]:
                part |= {"width": SIZE[0], "height": SIZE[1]}
            for part in value["annotations"]:
                part |= {"iscrowd": 0, "attributes": {"rotation": 10.0}, "segmentation": [[20, 20, 30, 20, 30, 30]]}
            value["annotations"][0]["segmentation"] = {"size": [SIZE[1], SIZE[0]], "counts": [800, 40, 1560]}
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(places_in(value)[1:] or [()]))
            if not path:
                continue
            *outer, last = path
            part = value
            for key in outer:
                part = part[key]
            part[last] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
        sys.set_int_max_str_digits(0)
        try:
            return json.dumps(value).encode("utf-8", "surrogatepass")
        finally:
            sys.set_int_max_str_digits(4300)

    tried(form, boxes, images, change)
