from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodistill.errors import DataError
from geodistill.legend_entries import parse_colour
from geodistill.spec import IGNORE_INDEX, Legend, Spec, default_colours

ROOFS = Legend(("ground", "roof"), ((10, 20, 30), (200, 0, 0)), (5, 9), (0,), ((0, 0, 0),))


class TestColours:
    @given(st.tuples(*[st.integers(0, 255)] * 3))
    @settings(deadline=None, max_examples=30)
    def test_text_and_numbers_mean_the_same(self, colour: tuple[int, int, int]) -> None:
        assert parse_colour("#{:02X}{:02x}{:02x}".format(*colour)) == parse_colour(colour) == colour

    @pytest.mark.parametrize("bad", ["#12345", "red", "#gg0000", (1, 2), (0, 0, 256), (-1, 0, 0)])
    def test_refuses_what_is_no_colour(self, bad: str | tuple[int, ...]) -> None:
        with pytest.raises(DataError, match="#rrggbb"):
            parse_colour(bad)

    @given(st.integers(1, 60))
    @settings(deadline=None, max_examples=20)
    def test_default_colours_differ(self, count: int) -> None:
        assert len(set(default_colours(count))) == count


class TestLegend:
    def test_fills_in_what_is_not_given(self) -> None:
        legend = Legend(("a", "b", "c"))
        assert legend.values == (0, 1, 2)
        assert legend.ignore_values == (IGNORE_INDEX,)
        assert len(legend) == len(set(legend.colours)) == 3

    @pytest.mark.parametrize(
        ("names", "colours", "values", "ignored"),
        [
            ((), (), (), ()),
            (("a", "a"), (), (), ()),
            (("a", "b"), ((0, 0, 0),), (), ()),
            (("a", "b"), ((0, 0, 0), (0, 0, 0)), (), ()),
            (("a", "b"), (), (1, 1), ()),
            (("a", "b"), (), (0, 1), (1,)),
            (tuple(str(i) for i in range(256)), (), (), ()),
        ],
    )
    def test_refuses_lists_that_do_not_fit(
        self,
        names: tuple[str, ...],
        colours: tuple[tuple[int, int, int], ...],
        values: tuple[int, ...],
        ignored: tuple[int, ...],
    ) -> None:
        with pytest.raises(DataError):
            Legend(names, colours, values, ignored)

    def test_values_become_indices_and_odd_ones_are_counted(self) -> None:
        indices, odd = ROOFS.indices_from_values(np.array([[5, 9, 0], [7, 7, 300]]))
        assert indices.tolist() == [[0, 1, 255], [255, 255, 255]]
        assert indices.dtype == np.uint8
        assert odd == {7: 2, 300: 1}

    def test_colours_become_indices_and_odd_ones_are_counted(self) -> None:
        rgb = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 0], [10, 20, 31]], np.uint8).T[:, None]
        indices, odd = ROOFS.indices_from_colours(rgb)
        assert indices.tolist() == [[0, 1, 255, 255]]
        assert odd == {(10, 20, 31): 1}

    @given(st.integers(1, 40), st.integers(0, 2**32 - 1))
    @settings(deadline=None, max_examples=25)
    def test_painting_is_undone_by_reading_the_colours(self, classes: int, seed: int) -> None:
        legend = Legend(tuple(f"c{i}" for i in range(classes)), ignore_colours=((0, 0, 0),))
        indices = np.random.default_rng(seed).integers(0, classes + 1, (7, 5)).astype(np.uint8)
        indices[indices == classes] = IGNORE_INDEX
        read, odd = legend.indices_from_colours(np.moveaxis(legend.paint(indices), -1, 0))
        assert np.array_equal(read, indices)
        assert not odd

    def test_round_trip_through_json(self) -> None:
        assert Legend.from_dict(json.loads(json.dumps(ROOFS.to_dict()))) == ROOFS
        with pytest.raises(DataError, match="nmaes"):
            Legend.from_dict({"nmaes": []})


class TestLegendFile:
    def load(self, tmp_path: Path, text: str) -> Legend:
        path = tmp_path / "legend.yaml"
        path.write_text(text)
        return Legend.load(path)

    def test_names_alone(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, "classes: [ground, roof]").values == (0, 1)

    def test_colours_values_and_ignored(self, tmp_path: Path) -> None:
        text = """
        classes:
          ground: {colour: "#0a141e", value: 5}
          roof: {color: [200, 0, 0], value: 9}
        ignore: ["#000000", 0]
        """
        assert self.load(tmp_path, text) == ROOFS

    def test_a_mapping_is_read_as_a_file_is(self) -> None:
        assert Legend.from_classes({"classes": {"a": 3, "b": 4}, "ignore": [7]}).ignore_values == (7,)
        with pytest.raises(DataError, match="legend of a mapping; expected a mapping with the key 'classes'"):
            Legend.from_classes({"clases": ["a"]})

    def test_json_is_yaml(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, '{"classes": {"a": 3, "b": 4}}').values == (3, 4)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("classes: [", "is not YAML"),
            ("[a, b]", "'classes'"),
            ("classes: [a]\ncolours: [b]", "colours"),
            ("classes: a", "list of names"),
            ("classes: {a: 1, b: '#000000'}", "1 of 2 classes"),
            ("classes: {a: true}", "colour"),
            ("classes: {a: red}", "#rrggbb"),
            ("classes: {a: 0.5}", "entry 0.5; expected a colour '#rrggbb' or a whole number"),
            ("classes: {a: [1, 2, x]}", r"colour \[1, 2, 'x'\]"),
            ("classes: {a: [1.0, 2, 3]}", "three integers"),
            ("classes: {a: {colour: 7}}", "colour 7"),
            ("classes: {a: {value: .inf}}", "entry inf"),
            ("classes: {a: {value: .nan}}", "entry nan"),
            ("classes: {a: {color: '#000000', valeu: 3}}", "entry with valeu"),
            ("classes: {a: 12345678901234567890123}", "whole numbers of up to 32 bits"),
            ("classes: {a: 1, b: 1}", "value 1 for two classes"),
            ("classes: [a, b, a]", "class 'a' twice"),
            ("classes: {1: 0, '1': 1}", "class '1' twice"),
            ("classes: {a: 0, a: 1}", "stands twice"),
            ("classes: [{name: a, colour: '#102030'}]", "a mapping from name to colour or value"),
            ("classes: [yes, no]", "called True; expected a name; put it in quotes"),
            ("classes: {a: 0}\nignore: 255", r"ignore: 255; expected a list, such as 'ignore: \[255\]'"),
            ("classes: {a: 1}\nignore: 0", "ignore: 0; expected a list"),
            ("classes: {a: 0}\nignore: {b: 1}", "expected a list"),
            ("classes: {a: 0}\nignore: [x]", "colour 'x'"),
            ("classes: []", "0 classes"),
            ("classes: {}", "0 classes"),
            ("classes: ['']", "not empty"),
            ("classes: " + "[" * 300 + "]" * 300, "nested"),
        ],
    )
    def test_refuses_in_one_line(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            self.load(tmp_path, text)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    def test_a_legend_of_thousands_of_classes_is_refused_in_short(self, tmp_path: Path) -> None:
        names = [f"class number {i}" for i in range(5000)]
        with pytest.raises(DataError, match=r"5000 classes .*and 4992 more.*1 to 255 classes") as caught:
            self.load(tmp_path, json.dumps({"classes": names}))
        assert len(str(caught.value)) < 500
        with pytest.raises(DataError) as caught:
            Legend(tuple(names[:200]), values=tuple(range(199)))
        assert len(str(caught.value)) < 500

    def test_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / "legend.yaml").write_bytes("classes: [for\xeat]".encode("latin-1"))
        with pytest.raises(DataError, match="not UTF-8"):
            Legend.load(tmp_path / "legend.yaml")

    def test_negative_values_and_wide_ones_are_values(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, "classes: {a: -1, b: 300.0}").values == (-1, 300)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            Legend.load(tmp_path / "none.yaml")


class TestSpec:
    def test_normalisation_defaults_to_none(self) -> None:
        spec = Spec(ROOFS, ("red", "nir"))
        assert (spec.mean, spec.std) == ((0.0, 0.0), (1.0, 1.0))
        assert (spec.channels, spec.classes) == (2, 2)

    @pytest.mark.parametrize(
        ("bands", "mean", "std"),
        [((), (), ()), (("a",), (1.0, 2.0), ()), (("a",), (), (0.0,)), (("a", "b"), (), (1.0, -1.0))],
    )
    def test_refuses_lists_that_do_not_fit(
        self, bands: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        with pytest.raises(DataError):
            Spec(ROOFS, bands, mean, std)

    @pytest.mark.parametrize("gsd", [None, 0.3])
    def test_round_trip_through_json(self, gsd: float | None) -> None:
        spec = Spec(ROOFS, ("red", "nir"), (1.5, 2.5), (0.5, 3.0), gsd)
        assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec

    @pytest.mark.parametrize(
        ("mean", "std", "gsd"),
        [
            (float("nan"), 1.0, None),
            (float("inf"), 1.0, None),
            (0.0, float("nan"), None),
            (0.0, float("inf"), None),
            (0.0, 1.0, float("nan")),
            (0.0, 1.0, 0.0),
            (0.0, 1.0, -1.0),
            ("0", 1.0, None),
            (0.0, True, None),
            (None, 1.0, None),
            (0.0, 1.0, "1"),
        ],
    )
    def test_refuses_numbers_that_nothing_can_be_computed_with(self, mean: float, std: float, gsd: float) -> None:
        data = {"legend": ROOFS.to_dict(), "bands": ["red"], "mean": [mean], "std": [std], "gsd": gsd}
        with pytest.raises(DataError):
            Spec.from_dict(data)
        with pytest.raises(DataError):
            Spec(ROOFS, ("red",), (mean,), (std,), gsd)

    @pytest.mark.parametrize(
        "change",
        [
            {"legend": None},
            {"legend": {}},
            {"legend": {"names": 5}},
            {"legend": {"names": [5]}},
            {"legend": {"names": ["a"], "values": [None]}},
            {"legend": {"names": ["a"], "colours": [[1, 2, 3.5]]}},
            {"bands": 5},
            {"bands": [5]},
            {"mean": 0.0},
            {"std": None},
        ],
    )
    def test_refuses_other_shapes(self, change: dict[str, object]) -> None:
        data = Spec(ROOFS, ("red",)).to_dict()
        with pytest.raises(DataError):
            Spec.from_dict(data | change)
        with pytest.raises(DataError):
            Spec.from_dict({key: value for key, value in data.items() if key not in change})
