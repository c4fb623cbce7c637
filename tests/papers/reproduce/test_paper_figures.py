"""Pictures from rows that ran, and heat maps over images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from geodistill.cli import main
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.explain.feature_maps import class_activation, feature_heat, overlay
from geodistill.papers.reproduce import table_data
from geodistill.papers.reproduce.paper_figures import PICTURES
from paper_tables import draw, reproduce
from tiny import tiny_networks, tiny_segmenter

TINY = ["trainer.max_steps=2", "data.crop=32", "data.batch_size=2", "losses.phase.steps=2"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of KDA's Table III, run at smoke scale."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_data, "SIDE", 48)
        rows = ["KD / Dinov2-L", "KDA(Ours) / Dinov2-L"]
        assert [row.state for row in reproduce("kda/3", folder, rows=rows, overrides=TINY).rows].count("done") == 2
    return folder


def test_every_kind_is_drawn_from_the_rows_that_ran(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)
    paths = draw("kda/3", out, overrides=TINY)
    assert [path.name for path in paths] == [f"kda-III-smoke-{kind}.png" for kind in PICTURES]
    sizes = {kind: cv2.imread(str(path)).shape for kind, path in zip(PICTURES, paths, strict=True)}
    column = 256 + 6
    # Image, truth, and map and errors of two rows; image, truth, two rows and their one teacher.
    assert sizes["maps"][1] == 6 * column - 6
    assert sizes["heat"][1] == 5 * column - 6
    assert sizes["activation"][1] == 4 * column - 6
    assert sizes["maps"][0] > 2 * column  # the two test images of the six made-up ones


def test_one_kind_by_the_verb(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)
    command = ["reproduce", "kda/3", "--out", str(out), "--set", *TINY, "--figure", "labels"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "kda-III-smoke-labels.png")
    with pytest.raises(UnknownNameError, match="kind of picture 'mapz'"):
        draw("kda/3", out, ["mapz"], overrides=TINY)


def test_a_table_no_row_of_which_ran_has_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="pictures of ktda/II, no row of which ran"):
        draw("ktda/2", tmp_path / "out")


def test_heat_is_a_share_and_is_highest_where_features_are_largest() -> None:
    with tiny_networks():
        segmenter = tiny_segmenter(tile=16)
        with pytest.raises(RecipeError, match="a network with an encoder"):
            feature_heat(segmenter, np.zeros((segmenter.spec.channels, 16, 16), np.float32))
    picture = np.full((4, 4, 3), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1
    shown = overlay(picture, heat)
    assert shown[0, 0].argmax() == 0  # red
    assert shown[3, 3].argmax() == 2  # blue
    assert class_activation.__doc__
