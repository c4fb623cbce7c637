from __future__ import annotations

from pathlib import Path

import pytest

from geodistill.label.accounts import NO_TILE, UNREADABLE, AccountingError, Accounts
from geodistill.label.boxes import Box, Dropped, ImageBoxes, rectangle
from geodistill.label.tile_records import GroundPlace, TileFiles, TileRecord
from geodistill.raster import Window


def image(key: str, boxes: int, dropped: tuple[str, ...] = ()) -> ImageBoxes:
    made = tuple(Box(rectangle(0, 0, 2, 2), "ship", 0, "here", "hbox", index) for index in range(boxes))
    lost = tuple(Dropped(reason, "dock", "here") for reason in dropped)  # type: ignore[arg-type]
    return ImageBoxes(key, Path(f"{key}.png"), 8, 8, made, lost)


def tile(outcomes: list[tuple[int, str]], changes: dict[str, dict[str, int]] | None = None) -> TileRecord:
    labelled = [index for index, reason in outcomes if not reason]
    files = TileFiles("", ("gray/a.png",), {}, ("red",), GroundPlace(), ({},) * len(labelled)) if labelled else None
    return TileRecord("a", Window(0, 0, 8, 8), "", [], tuple(outcomes), changes or {}, (3, 2, 1), files)


def test_a_box_in_two_tiles_is_one_box() -> None:
    accounts = Accounts()
    accounts.add(image("a", 3), [tile([(0, ""), (1, "empty mask")]), tile([(0, ""), (1, ""), (2, "leaves the box")])])
    assert accounts.boxes() == {"in": 3, "labelled": 2, "dropped": {"leaves the box": 1}}
    assert accounts.instances == 3
    assert (accounts.overlapping, accounts.between_classes, accounts.hidden) == (6, 4, 2)


def test_the_first_reason_is_told_where_no_tile_gave_a_label() -> None:
    accounts = Accounts()
    accounts.add(image("a", 2), [tile([(0, "empty mask")]), tile([(0, "leaves the box")])])
    assert accounts.boxes()["dropped"] == {"empty mask": 1, NO_TILE: 1}
    assert accounts.images["empty"] == 1


def test_everything_the_reader_dropped_is_in_the_sums() -> None:
    accounts = Accounts()
    images = [image("a", 1, ("duplicate", "zero area")), image("b", 0, ("duplicate",)), image("c", 2)]
    accounts.add(images[0], [tile([(0, "")])])
    accounts.add(images[1], [tile([])])
    assert not accounts.add(images[2], [tile([(0, "")]), TileRecord("c", Window(0, 0, 8, 8), "it is truncated")])
    accounts.check(images, 4)
    told = accounts.to_dict()
    assert told["images"] == {"in": 3, "labelled": 1, "empty": 1, "failed": 1}
    assert told["boxes"] == {"in": 6, "labelled": 1, "dropped": {"duplicate": 2, UNREADABLE: 2, "zero area": 1}}
    assert told["tiles"] == {"in": 4, "labelled": 1, "empty": 1, "failed": 2, "written": 1}
    assert told["classes"]["dock"] == {
        "in": 3,
        "labelled": 0,
        "dropped": {"duplicate": 2, "zero area": 1},
        "changed": {"fell back to the box": 0, "kept one component": 0, "filled holes": 0},
    }
    assert told["failures"] == [{"key": "c", "image": "c.png", "error": "it is truncated"}]


def test_changes_are_counted_by_class() -> None:
    accounts = Accounts()
    changes = {"ship": {"filled holes": 2}, "dock": {"kept one component": 1}}
    accounts.add(image("a", 1), [tile([(0, "")], changes=changes), tile([(0, "")], changes=changes)])
    assert accounts.classes["ship"].to_dict()["changed"]["filled holes"] == 4
    assert accounts.classes["dock"].to_dict()["changed"]["kept one component"] == 2


@pytest.mark.parametrize("lost", ["image", "box", "tile"])
def test_what_got_lost_is_an_error(lost: str) -> None:
    accounts = Accounts()
    given = [image("a", 2), image("b", 1)]
    accounts.add(given[0] if lost != "box" else image("a", 1), [tile([(0, "")])])
    if lost != "image":
        accounts.add(given[1], [tile([(0, "")])] if lost != "tile" else [])
    with pytest.raises(AccountingError, match="went in"):
        accounts.check(given, 2)
