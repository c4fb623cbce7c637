"""The same questions to every reader of boxes."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from box_formats import FORMATS, INF, NAN, Format, Thing, Yolo, objects_told
from factories import make_raster
from geodistill.errors import DataError, GeodistillWarning, RecipeError, UnknownNameError
from geodistill.label.boxes import Annotations, ImageBoxes
from geodistill.label.formats.detection import FORMATS as KNOWN
from geodistill.label.formats.detection import read_boxes
from geodistill.label.tiles import annotation_files, annotation_lists

SIZE = (120, 90)
"""Width and height of images."""


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def form(request: pytest.FixtureRequest) -> Format:
    chosen: Format = request.param
    return chosen


def read(form: Format, places: tuple[Path, Path], **options: Any) -> Annotations:
    boxes, images = places
    if isinstance(form, Yolo) and "categories" not in options:
        (boxes / "classes.txt").write_text("\n".join(form.classes[:3]), encoding="utf-8")
    return read_boxes(form.name, boxes, images, **{**form.options, **options})


def one(form: Format, folder: Path, things: Sequence[Thing], **options: Any) -> ImageBoxes:
    """Write the objects on one image and read them."""
    (image,) = read(form, form.write(folder, {"a": SIZE}, {"a": things}), **options).images
    return image


def reasons(image: ImageBoxes) -> list[str]:
    return [dropped.reason for dropped in image.dropped]


def test_every_format_is_asked() -> None:
    assert {form.name for form in FORMATS.values()} == set(KNOWN)


def test_normal(form: Format, tmp_path: Path) -> None:
    angle = 0.4 if form.oriented else 0.0
    things = [Thing(40, 30, 20, 10), Thing(70.5, 50.25, 30, 16, angle, "plane", 1), Thing(20, 60, 8, 8, difficult=2)]
    image = one(form, tmp_path, things)
    assert (image.key, image.image.name, image.width, image.height) == ("a", "a.tif", *SIZE)
    assert image.dropped == ()
    assert [box.category for box in image.boxes] == ["ship", "plane", "ship"]
    assert [box.index for box in image.boxes] == [0, 1, 2]
    assert [box.difficult for box in image.boxes] == ([0, 1, 2] if form.difficult else [0, 0, 0])
    for box, thing in zip(image.boxes, things, strict=True):
        assert box.box == pytest.approx(thing.edges, abs=1e-3)
        assert {tuple(corner) for corner in box.polygon.round(1) + 0.0} == {tuple(c) for c in thing.corners.round(1)}
        assert box.source.startswith(str(tmp_path / "boxes"))
        assert box.segmentation is None
    assert {box.kind for box in image.boxes} <= {"hbox", "rbox"}
    if form.oriented:
        assert image.boxes[1].kind == "rbox"
    if not form.bounded and form.name != "hrsc":
        assert image.boxes[0].kind == "hbox"


def test_sources_tell_objects_apart(form: Format, tmp_path: Path) -> None:
    image = one(form, tmp_path, [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16)])
    first, second = (box.source.removeprefix(str(tmp_path)) for box in image.boxes)
    assert first != second
    assert second.endswith((":2", ":object 2"))


def test_empty_annotations_and_images_without_any(form: Format, tmp_path: Path) -> None:
    places = form.write(tmp_path, {"a": SIZE, "b": SIZE, "c": SIZE}, {"a": [Thing(40, 30, 20, 10)], "b": []})
    images = read(form, places).images
    assert [image.key for image in images] == ["a", "b", "c"]
    assert [len(image.boxes) for image in images] == [1, 0, 0]


def test_no_annotation_file_changes_unnoticed(form: Format, tmp_path: Path) -> None:
    """A byte more in any file that was read, and a run is not continued over the labels."""
    boxes, images = form.write(tmp_path, {"a": SIZE, "b": SIZE}, {"a": [Thing(40, 30, 20, 10)], "b": []})
    if form.bounded:  # vector files, of which several may lie over one image
        shutil.copy(boxes / f"all{form.suffix}", boxes / f"more{form.suffix}")
    annotations = read(form, (boxes, images))

    def digests() -> tuple[str, str]:
        return annotation_files(annotations), annotation_lists(annotations)

    before = digests()
    for file in boxes.iterdir():
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert digests() != before, file.name
        file.write_bytes(content)
    assert digests() == before


def test_classes_of_a_set_may_differ_in_case(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Yolo, "classes", ("Car", "car", "plane"))
    places = form.write(
        tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10, category="car"), Thing(70, 50, 30, 16, category="Car")]}
    )
    annotations = read(form, places)
    assert [box.category for box in annotations.images[0].boxes] == ["car", "Car"]
    assert annotations.categories[:2] == ("Car", "car")
    asked = read(form, places, categories=["CAR"])
    assert [box.category for box in asked.images[0].boxes] == ["CAR", "CAR"]


def test_unknown_classes_are_dropped(form: Format, tmp_path: Path) -> None:
    things = [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16, category="plane")]
    found = read(form, form.write(tmp_path, {"a": SIZE}, {"a": things}), categories=["SHIP", "tank"])
    if form.name == "yolo":  # classes are numbers: the categories asked for are their names
        assert [box.category for box in found.images[0].boxes] == ["SHIP", "tank"]
        (tmp_path / "classes.txt").write_text("ship\nplane\n")
        found = read_boxes(form.name, tmp_path / "boxes", tmp_path / "images", categories=["SHIP", "tank"])
    (image,) = found.images
    assert [box.category for box in image.boxes] == ["SHIP"]
    assert [(d.reason, d.category) for d in image.dropped] == [("unknown class", "plane")]
    assert found.categories == ("SHIP", "tank")


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_a_class_that_the_set_does_not_name(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    image = one(form, tmp_path, [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16, category="unheard-of")])
    assert [box.category for box in image.boxes] == ["ship"]
    assert [(d.reason, d.category) for d in image.dropped] == [("unknown class", "99" if name == "coco" else "3")]


def test_malformed_annotations_are_told_with_their_place(form: Format, tmp_path: Path) -> None:
    boxes, images = form.write(tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10)]})
    (file,) = boxes.iterdir()
    for content, message in form.broken:
        file.write_text(content)
        # Beside good objects it is a warning, which the tests take for an error.
        with pytest.raises((DataError, GeodistillWarning), match=message) as caught:
            read_boxes(form.name, boxes, images, **form.options)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(form: Format, tmp_path: Path) -> None:
    boxes, images = form.write(tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10)]})
    (file,) = boxes.iterdir()
    file.write_bytes(b"\n\xff\xfe\x00\x81")
    with pytest.raises(DataError) as caught:
        read_boxes(form.name, boxes, images, **form.options)
    assert str(file) in str(caught.value)


def test_boxes_outside_the_image(form: Format, tmp_path: Path) -> None:
    things = [Thing(-50, 30, 20, 10), Thing(119, 30, 20, 10), Thing(60, 200, 10, 10)]
    found = read(form, form.write(tmp_path, {"a": SIZE}, {"a": things}))
    (image,) = found.images
    (kept,) = image.boxes
    assert kept.box == pytest.approx((109, 25, 129, 35), abs=1e-3), "a box at the edge is kept whole"
    assert len(found.unmatched if form.bounded else reasons(image)) == 2
    assert set(reasons(image)) <= {"outside the image"}


def test_an_oriented_box_whose_bounds_alone_touch_the_image(tmp_path: Path) -> None:
    image = one(FORMATS["dota"], tmp_path, [Thing(-10, -10, 40, 4, -math.pi / 4), Thing(50, 50, 9, 9)])
    assert reasons(image) == ["outside the image"]


def test_boxes_without_area(form: Format, tmp_path: Path) -> None:
    things = [Thing(40, 30, 0, 10), Thing(40, 40, 20, 0), Thing(60, 60, 0, 0), Thing(70, 50, 30, 16)]
    image = one(form, tmp_path, things)
    assert reasons(image) == ["zero area"] * 3
    assert [box.index for box in image.boxes] == [3]


def test_duplicates(form: Format, tmp_path: Path) -> None:
    thing = Thing(40, 30, 20, 10)
    turned = replace(thing, angle=math.pi) if form.oriented else thing
    image = one(form, tmp_path, [thing, thing, replace(thing, category="plane"), turned, replace(thing, x=41)])
    assert reasons(image) == ["duplicate", "duplicate"]
    assert [box.index for box in image.boxes] == [0, 2, 4]


def test_difficult_objects_can_be_left_out(form: Format, tmp_path: Path) -> None:
    things = [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16, difficult=1), Thing(20, 60, 9, 9, difficult=2)]
    image = one(form, tmp_path, things, keep_difficult=False)
    assert reasons(image) == (["difficult", "difficult"] if form.difficult else [])


def test_names_in_any_script(form: Format, tmp_path: Path) -> None:
    stem = "Zürich 船_1.5"
    found = read(form, form.write(tmp_path, {stem: SIZE}, {stem: [Thing(40, 30, 20, 10, category="Häfen")]}))
    (image,) = found.images
    assert image.key == stem
    assert [box.category for box in image.boxes] == ["Häfen"]
    assert "Häfen" in found.categories


def test_line_ends_of_windows_and_byte_order_marks(form: Format, tmp_path: Path) -> None:
    things = [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16, category="plane")]
    places = form.write(tmp_path, {"a": SIZE}, {"a": things})
    for file in places[0].iterdir():
        if file.suffix != ".gpkg":
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [box.category for box in read(form, places).images[0].boxes] == ["ship", "plane"]


def test_coordinates_that_are_not_finite(form: Format, tmp_path: Path) -> None:
    things = [Thing(NAN, 30, 20, 10), Thing(40, 30, 20, 10), Thing(40, INF, 20, 10), Thing(40, 30, 20, -INF)]
    if form.name == "geojson":  # written as text: the writer of the library refuses them
        pytest.skip("asked in test_geo")
    image = one(form, tmp_path, things)
    assert len(image.boxes) == 1
    assert set(reasons(image)) <= {"not finite", "zero area"}
    assert reasons(image).count("not finite") >= 2


def test_images_that_cannot_be_opened_lose_nothing(form: Format, tmp_path: Path) -> None:
    things = {"a": [Thing(40, 30, 20, 10)], "b": [Thing(40, 30, 20, 10), Thing(70, 50, 30, 16)]}
    places = form.write(tmp_path, {"a": SIZE, "b": SIZE}, things)
    (places[1] / "a.tif").write_bytes(b"no image")
    found = read(form, places)
    assert [(image.width, image.height) for image in found.images] == [(0, 0), SIZE]
    if form.bounded:  # nobody knows where the image would have lain
        assert objects_told(found) + len(found.unmatched) >= 2
    else:
        assert reasons(found.images[0]) == ["unreadable image"]
    assert found.images[0].boxes == ()
    assert len(found.images[1].boxes) >= 2


def test_annotations_without_an_image(form: Format, tmp_path: Path) -> None:
    things = {stem: [Thing(40, 30, 20, 10)] for stem in "abcdefgh"}
    found = read(form, form.write(tmp_path / "some", {"a": SIZE}, things))
    assert len(found.images[0].boxes) == 1
    assert len(found.unmatched) == 7
    places = form.write(tmp_path / "none", {"z": SIZE}, things)
    with pytest.raises(DataError, match=r"no annotation (belongs to an image.* and 3 more|lies on an image)"):
        read(form, places)


def test_places_that_are_missing_or_empty(form: Format, tmp_path: Path) -> None:
    boxes, images = form.write(tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10)]})
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "town.json").touch()
    for places, message in (
        ((tmp_path / "no", images), "no boxes at"),
        ((empty, images), "no annotation in"),
        ((boxes, tmp_path / "no"), "no images at"),
        ((boxes, empty), "no image in"),
        ((images, tmp_path / "town.json"), "the images come first, their boxes after them"),
    ):
        with pytest.raises(DataError, match=message):
            read(form, places) if places[0] == boxes else read_boxes(form.name, *places, **form.options)


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_object_is_accounted_for_once(
    form: Format, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    numbers = st.floats(-150, 250, width=16)
    thing = st.builds(
        Thing,
        numbers,
        numbers,
        st.sampled_from([0.0, 5.0, 40.0]),
        st.sampled_from([0.0, 5.0, 40.0]),
        category=st.sampled_from(["ship", "plane"]),
        difficult=st.integers(0, 2),
    )
    things = {stem: data.draw(st.lists(thing, max_size=4)) for stem in "ab"}
    places = form.write(tmp_path_factory.mktemp("any"), dict.fromkeys(things, SIZE), things)
    try:
        found = read(form, places)
    except (DataError, GeodistillWarning) as error:
        if "no annotation" in str(error) or "are pixels" in str(error):
            return  # none of them lies on the image, or a share of YOLO is far outside
        raise
    assert objects_told(found) + len(found.unmatched) == sum(map(len, things.values()))


MANY = dict.fromkeys(FORMATS, 2_000) | {"dota": 40_000}
"""Boxes on one image; fewer where writing and parsing take most of the time."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), MANY.items())
def test_very_many_boxes_on_one_image(name: str, count: int, tmp_path: Path) -> None:
    form = FORMATS[name]
    rng = np.random.default_rng(1)
    places = rng.uniform(20, 1980, (count, 2)).round(2).tolist()
    written = form.write(tmp_path, {"a": (2000, 2000)}, {"a": [Thing(x, y, 8, 6) for x, y in places]})
    begin = time.process_time()
    (image,) = read(form, written).images
    seconds = time.process_time() - begin
    assert len(image.boxes) + len(image.dropped) == count
    assert len(image.boxes) > 0.999 * count
    assert seconds < count / 1000, "a millisecond each is ten times what it takes"


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">{}]><annotation>&l9;</annotation>'.format(
    "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "&b;"}">' for i in range(10))
)


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.xml])
def test_xml_that_attacks_is_refused(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    boxes, images = form.write(tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10, category="SECRET")]})
    (file,) = boxes.iterdir()
    secret = tmp_path / "secret"
    secret.write_text("plane")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    for content in (BOMB, entity + file.read_text().replace("SECRET", "&x;")):
        file.write_text(content)
        with pytest.raises(DataError, match=r"a\.xml declares entities, which is refused"):
            read_boxes(form.name, boxes, images, **form.options)


def test_the_field_of_the_class_is_named_where_there_is_a_choice(form: Format, tmp_path: Path) -> None:
    places = form.write(tmp_path, {"a": SIZE}, {"a": [Thing(40, 30, 20, 10)]})
    if form.name in ("geojson", "hrsc"):
        field = "Class_ID" if form.name == "hrsc" else "category"
        assert [box.category for box in read(form, places, category_field=field).images[0].boxes] == ["ship"]
        return
    with pytest.raises(RecipeError, match=f"--category-field kind of format {form.name}; expected format geojson or"):
        read(form, places, category_field="kind")


def test_names_of_formats(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown format of boxes 'dotta'"):
        read_boxes("dotta", tmp_path, tmp_path)
    make_raster(tmp_path / "a.tif")
    with pytest.raises(DataError, match="'small-car' is there twice"):
        read_boxes("dota", tmp_path, tmp_path, categories=["Small Car", "small_car"])
