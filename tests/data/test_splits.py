from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodistill.data.manifest import Row
from geodistill.data.splits import LEFT_OUT, SplitPlan, divide, parse_groups, source_split
from geodistill.errors import DataError, GeodistillError, UnknownNameError
from geodistill.raster import Window


def rows(*names: str, **fields: Any) -> list[tuple[str, Row]]:
    return [(name, Row(Path(name), Path(name), "", Window(0, 0, 100, 80), **fields)) for name in names]


def splits(named: list[tuple[str, Row]], plan: SplitPlan) -> dict[str, str]:
    return {str(row.image): split for row, split, _ in divide(named, plan)}


TILES = rows(*(f"Tile_{t}/images/part_{p}.jpg" for t in range(1, 7) for p in range(9)))


class TestByFile:
    @given(st.integers(3, 60), st.integers(0, 99), st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.5, 0), (1, 0, 0)]))
    @settings(deadline=None, max_examples=40)
    def test_shares_come_near_and_no_wished_split_is_empty(
        self, count: int, seed: int, fractions: tuple[float, float, float]
    ) -> None:
        found = Counter(splits(rows(*map(str, range(count))), SplitPlan(fractions=fractions, seed=seed)).values())
        for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
            assert abs(found[name] - fraction * count) < 1.5
            assert (found[name] > 0) == (fraction > 0)

    def test_same_seed_same_split_whatever_the_order(self) -> None:
        plan = SplitPlan(seed=3)
        assert splits(TILES, plan) == splits(TILES[::-1], plan)
        assert splits(TILES, plan) != splits(TILES, SplitPlan(seed=4))

    def test_too_few_images(self) -> None:
        with pytest.raises(DataError, match=r"2 images for .*at least 3; a large image is divided by --split window"):
            divide(rows("a", "b"), SplitPlan())


class TestByGroup:
    def test_named_outright(self) -> None:
        groups = parse_groups("val=Tile_4 test=Tile_5,Tile_6")
        found = splits(TILES, SplitPlan("group", group_regex=r"Tile_\d", groups=groups))
        assert {name[5]: split for name, split in found.items()} == {
            "1": "train", "2": "train", "3": "train", "4": "val", "5": "test", "6": "test"
        }  # fmt: skip

    def test_groups_not_named_are_left_out_where_train_is_named(self) -> None:
        plan = SplitPlan("group", group_regex=r"Tile_(\d)", groups={"train": ["1"], "val": ["2"]})
        assert Counter(splits(TILES, plan).values()) == {"train": 9, "val": 9, LEFT_OUT: 36}

    def test_by_chance_they_stay_together(self) -> None:
        found = divide(TILES, SplitPlan("group", group_regex=r"Tile_\d"))
        of_group = {group: {split for _, split, g in found if g == group} for _, _, group in found}
        assert all(len(held) == 1 for held in of_group.values())
        assert {split for _, split, _ in found} == {"train", "val", "test"}

    def test_official_folders_need_no_naming(self) -> None:
        official = rows("train/images/a", "train/images/b", "val/images/c")
        found = splits(official, SplitPlan("group", group_regex="train|val"))
        assert list(found.values()) == ["train", "train", "val"]

    def test_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "groups.csv").write_text("a.png,north\nb,south\nd/c.png, south\n")
        plan = SplitPlan("group", group_file=tmp_path / "groups.csv", groups={"test": ["south"]})
        assert list(splits(rows("d/a.png", "d/b.png", "d/c.png"), plan).values()) == ["train", "test", "test"]

    def test_the_longest_path_of_a_file_counts(self, tmp_path: Path) -> None:
        plan = SplitPlan("group", group_file=tmp_path / "groups.csv", groups={"train": ["north"], "test": ["south"]})
        lines = ["image,group", "a.png,north", "sub/a.png,south", "b,north", "c.png,south"]
        plan.group_file.write_text("\n".join(lines))
        named = rows("images/a.png", "images/sub/a.png", "images/b.png", "images/c.png")
        assert list(splits(named, plan).values()) == ["train", "test", "train", "test"]
        assert list(splits(named[1:], plan).values()) == ["test", "train", "test"]
        plan.group_file.write_text("\n".join(line for line in lines if "sub" not in line))
        assert list(splits(named, plan).values()) == ["train", "train", "train", "test"]
        plan.group_file.write_text("images/a,north\na.png,south\nbb.png,north\nc.png,south")
        with pytest.raises(DataError, match=r"1 image such as images/b\.png; .*'bb\.png' names no image"):
            divide(named, plan)
        plan.group_file.write_text("image,group\nimages/a,north\na.png,south\nc.png,south\nbb.png,north")
        with pytest.raises(DataError, match=r"1 image such as images/b\.png; .*'bb\.png' names no image"):
            divide([*named[:1], *named[2:]], plan)
        plan.group_file.write_text("a.png,north\nb.png,north\na,south")
        with pytest.raises(DataError, match="'a' is in the groups north and south"):
            divide(rows("a.png", "b.png"), plan)

    def test_a_whole_path_in_a_file_means_no_image_below(self, tmp_path: Path) -> None:
        plan = SplitPlan("group", group_file=tmp_path / "groups.csv", groups={"test": ["south"]})
        plan.group_file.write_text("a.png,north\nb.png,south")
        with pytest.raises(DataError, match=r"no group for 1 image such as sub/a\.png"):
            divide(rows("a.png", "sub/a.png", "b.png"), plan)

    @pytest.mark.parametrize(("first", "named"), [("aa.png,north", True), ("image,group", False)])
    def test_a_first_line_is_a_header_or_mistyped(self, first: str, named: bool, tmp_path: Path) -> None:
        plan = SplitPlan("group", group_file=tmp_path / "groups.csv")
        plan.group_file.write_text(f"{first}\nb.png,north\nc.png,south")
        with pytest.raises(DataError, match=r"no group for 1 image such as a\.png") as caught:
            divide(rows("a.png", "b.png", "c.png"), plan)
        assert ("'aa.png' names no image" in str(caught.value)) is named
        assert "'image'" not in str(caught.value)

    def test_val_from_train(self) -> None:
        plan = SplitPlan("group", group_regex=r"Tile_\d", groups={"test": ["Tile_6"]}, val_from_train=0.2)
        found = splits(TILES, plan)
        assert Counter(found.values()) == {"train": 36, "val": 9, "test": 9}
        assert all(split == "test" for name, split in found.items() if "Tile_6" in name)

    def test_mistakes_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match="Tile_9"):
            divide(TILES, SplitPlan("group", group_regex=r"Tile_\d", groups={"val": ["Tile_9"]}))
        with pytest.raises(DataError, match="no group for 54 images"):
            divide(TILES, SplitPlan("group", group_regex="Region"))
        with pytest.raises(DataError, match="in both val and test"):
            divide(TILES, SplitPlan("group", group_regex=r"Tile_\d", groups={"val": ["Tile_1"], "test": ["Tile_1"]}))
        with pytest.raises(DataError, match="regular expression"):
            divide(TILES, SplitPlan("group", group_regex="("))
        with pytest.raises(DataError, match="cannot be read"):
            divide(TILES, SplitPlan("group", group_file=tmp_path / "none.csv"))
        with pytest.raises(DataError, match="split=group"):
            parse_groups("Tile_4")


class TestByBlock:
    def test_files_of_one_block_stay_together(self) -> None:
        # 0.001 degrees are 111 m: five columns of files, four files within 40 m of each other in each.
        named = [
            pair
            for column in range(5)
            for i in range(4)
            for pair in rows(f"{column}_{i}", lon=30 + 0.004 * column + 1e-4 * i, lat=0.0005)
        ]
        found = divide(named, SplitPlan("block", block_size=222))
        assert len({group for _, _, group in found}) == 5
        for column in range(5):
            of_column = {(split, group) for row, split, group in found if str(row.image)[0] == str(column)}
            assert len(of_column) == 1

    def test_needs_a_place_on_the_ground(self) -> None:
        with pytest.raises(DataError, match="without a place"):
            divide(TILES, SplitPlan("block", block_size=100))


class TestByWindow:
    @given(st.integers(1, 300), st.integers(1, 300), st.integers(20, 400))
    @settings(deadline=None, max_examples=30)
    def test_windows_cover_the_scene_once(self, height: int, width: int, size: int) -> None:
        scene = [("scene", Row(Path("scene"), None, "", Window(0, 0, height, width)))]
        plan = SplitPlan("window", (1, 0, 0), block_size=size, block_unit="pixels")
        areas = [row.window for row, _, _ in divide(scene, plan)]
        covered = {(r, c) for w in areas for r in (w.row, w.row + w.height - 1) for c in (w.col, w.col + w.width - 1)}
        assert sum(w.height * w.width for w in areas) == height * width
        assert {(0, 0), (height - 1, width - 1)} <= covered

    def test_metres_become_pixels(self) -> None:
        found = divide(rows("a", gsd=0.5), SplitPlan("window", block_size=20))
        assert {(row.window.height, row.window.width) for row, _, _ in found} <= {(33, 40), (34, 40), (50, 40)}
        with pytest.raises(DataError, match="block size in pixels"):
            divide(rows("a"), SplitPlan("window", block_size=20))


class TestFromLists:
    def write(self, folder: Path, **lists: str) -> SplitPlan:
        for split, text in lists.items():
            (folder / f"{split}.txt").write_text(text)
        return SplitPlan("lists", lists=folder)

    def test_by_path_name_or_stem(self, tmp_path: Path) -> None:
        plan = self.write(tmp_path, train="x/a.tif\nb.tif\n", test="\nc\n")
        found = splits(rows("x/a.tif", "x/b.tif", "x/c.tif", "x/d.tif"), plan)
        assert list(found.values()) == ["train", "train", "test", LEFT_OUT]

    def test_a_whole_path_means_no_image_below(self, tmp_path: Path) -> None:
        plan = self.write(tmp_path, train="a.png\nb.png\n", val="sub/a.png\n", test="c.png\n")
        named = rows("a.png", "b.png", "c.png", "sub/a.png")
        assert list(splits(named, plan).values()) == ["train", "train", "test", "val"]
        plan = self.write(tmp_path, val="b\n", train="a\n")
        assert list(splits(named, plan).values()) == ["train", "val", "test", LEFT_OUT]

    def test_an_image_may_be_named_twice_in_one_list(self, tmp_path: Path) -> None:
        plan = self.write(tmp_path, train="a\nsub/a.png\n", val="b.png\nsub/b\nb\n")
        named = rows("sub/a.png", "sub/b.png")
        assert list(splits(named, plan).values()) == ["train", "val"]
        for other in ("a", "a.png", "sub/a"):
            with pytest.raises(DataError, match=r"in the lists (train and val|val and train)"):
                divide(named, self.write(tmp_path, val=f"{other}\nb.png\n"))

    def test_mistakes_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"train\.txt, val\.txt or test\.txt"):
            divide(rows("a"), SplitPlan("lists", lists=tmp_path))
        with pytest.raises(DataError, match="'z', which fits 0 images"):
            divide(rows("a"), self.write(tmp_path, train="z"))
        with pytest.raises(DataError, match="'a', which fits 2 images"):
            divide(rows("x/a", "y/a"), self.write(tmp_path, train="a"))
        with pytest.raises(DataError, match="in the lists train and val"):
            divide(rows("a"), self.write(tmp_path, train="a", val="a"))


@pytest.mark.parametrize(
    "fields",
    [
        {"fractions": (0.5, 0.5, 0.5)},
        {"fractions": (1.5, -0.5, 0)},
        {"kind": "group"},
        {"kind": "random"},
        {"block_unit": "feet"},
        {"kind": "block"},
        {"kind": "window", "block_size": 0},
        {"kind": "block", "block_size": 5, "block_unit": "pixels"},
        {"kind": "lists"},
        {"groups": {"dev": ["a"]}},
        {"val_from_train": 1.0},
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(GeodistillError):
        SplitPlan(**fields)


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("JPEGImages-test/1.jpg", "test"),
        ("JPEGImages-trainval/1.jpg", ""),
        ("DOTA/train/images/P1.png", "train"),
        ("val/part1/images/0.tif", "val"),
        ("train/val/0.tif", ""),
        ("test.png", ""),
        ("latest/1.png", ""),
    ],
)
def test_folders_name_splits(key: str, split: str) -> None:
    assert source_split(key) == split


def test_plans_as_python_writes_them(tmp_path: Path) -> None:
    assert SplitPlan(kind="lists", lists=str(tmp_path)).lists == tmp_path  # type: ignore[arg-type]
    with pytest.raises(DataError, match="three numbers"):
        SplitPlan(fractions=[0.8, 0.2])  # type: ignore[arg-type]
