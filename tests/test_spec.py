from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodistill.errors import DataError
from geodistill.spec import IGNORE_INDEX, Legend, Spec, default_colours, parse_colour

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

    def test_json_is_yaml(self, tmp_path: Path) -> None:
        assert self.load(tmp_path, '{"classes": {"a": 3, "b": 4}}').values == (3, 4)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("classes: [", "cannot be read"),
            ("[a, b]", "'classes'"),
            ("classes: [a]\ncolours: [b]", "colours"),
            ("classes: a", "list of names"),
            ("classes: {a: 1, b: '#000000'}", "1 of 2 classes"),
            ("classes: {a: true}", "colour"),
            ("classes: {a: red}", "#rrggbb"),
        ],
    )
    def test_refuses_in_one_line(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            self.load(tmp_path, text)
        assert "\n" not in str(caught.value)

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
