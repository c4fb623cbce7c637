"""Pictures from rows that ran, and heat maps over images."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geodistill.cli import main
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.explain.feature_maps import class_activation, feature_heat, overlay
from geodistill.papers.command import PICTURE_KINDS
from geodistill.papers.reproduce import paper_figures, table_data
from geodistill.papers.reproduce.paper_figures import PICTURES
from geodistill.papers.reproduce.ran_rows import RanRows
from geodistill.segmenter import Segmenter
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


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(PICTURES) == PICTURE_KINDS
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    words = capsys.readouterr().out.replace(",", "").split()
    assert set(PICTURES) <= set(words)
    assert main(["reproduce", "kda/3", "--figure", "mapz"]) == 2
    assert "value of --figure 'mapz'; expected a known value of --figure, such as maps" in capsys.readouterr().err


@pytest.mark.slow
def test_every_kind_is_drawn_from_the_rows_that_ran(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)
    paths = draw("kda/3", out, overrides=TINY)
    kinds = [kind for kind in PICTURES if kind != "zones"]  # no row here reads the text of a climate zone
    assert [path.name for path in paths] == [f"kda-III-smoke-{kind}.png" for kind in kinds]
    sizes = {kind: cv2.imread(str(path)).shape for kind, path in zip(kinds, paths, strict=True)}
    column = 256 + 6
    # Image, truth, and map and errors of two rows; image, truth, two rows and their one teacher.
    assert sizes["maps"][1] == 6 * column - 6
    assert sizes["heat"][1] == 5 * column - 6
    assert sizes["activation"][1] == 4 * column - 6
    assert sizes["maps"][0] > 2 * column  # the two test images of the six made-up ones
    # The class that is spoken for stands above each of them.
    assert sizes["activation"][0] == sizes["heat"][0] + 2 * 22


@pytest.mark.slow
def test_one_kind_by_the_verb(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)
    command = ["reproduce", "kda/3", "--out", str(out), "--set", *TINY, "--figure", "labels"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "kda-III-smoke-labels.png")
    with pytest.raises(UnknownNameError, match="kind of picture 'mapz'"):
        draw("kda/3", out, ["mapz"], overrides=TINY)


@pytest.mark.slow
def test_a_map_under_another_zones_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)
    row = {"rows": ["MetaSegNet"], "overrides": TINY[:-1]}
    assert [one.state for one in reproduce("metasegnet/6", tmp_path, **row).rows].count("done") == 1
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(paper_figures, "panel_grid", lambda *given, **more: told.append({"given": given, **more}))
    draw("metasegnet/6", tmp_path, ["zones", "maps", "activation"], **row)
    zones, maps, activation = told
    panels, titles, legend, _ = zones["given"]
    # Table VI scores the two classes that both sets have, under the scored set's names.
    assert legend.names == ("building", "tree", "(other)")
    assert titles[2:] == ["MetaSegNet: own zone", "another zone", "what differs (red)"]
    assert all(len(panel) == 5 for panel in panels)
    for caption in zones["captions"]:
        own, other = re.fullmatch(r"own zone (\w+), another (\w+)", caption).groups()  # type: ignore[union-attr]
        assert own != other
    assert all(len(panel) == 4 for panel in maps["given"][0])
    assert set(activation["captions"]) <= {"for building", "for tree"}


def test_another_zone_is_no_other_season_of_the_same() -> None:
    keys = ("Cfa/summer", "Cfa/winter", "BWh/summer", "BWh/winter")
    text = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.1]]])  # the seasons are least alike
    network = SimpleNamespace(text=text, present=torch.ones(4, 1))
    ran = RanRows(cast(Any, None), {}, Path())
    ran.__dict__["models"] = {"row": SimpleNamespace(prompts=keys, network=SimpleNamespace(network=network))}
    ran.__dict__["places"] = {"row": SimpleNamespace(prompt_of=int)}
    ran.__dict__["tiles"] = [SimpleNamespace(row=0), SimpleNamespace(row=3)]
    assert ran.prompts("row") == ([0, 3], [2, 1])


@pytest.mark.slow
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


class TwoMaps(nn.Module):
    """An encoder whose last map is the first two bands, and two classes whose logits are one map each."""

    name = "two maps"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _FirstTwo()

    @property
    def network(self) -> SimpleNamespace:
        return SimpleNamespace(network=self)

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder(image)[-1]


class _FirstTwo(nn.Module):
    """Frozen, as a foundation model under a head is."""

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        return [image[:, :2]]


def test_heat_is_the_size_of_features_and_evidence_the_map_that_speaks_for_the_class() -> None:
    image = np.zeros((3, 2, 2), np.float32)
    image[0] = [[3, 0], [0, 6]]
    image[1] = [[4, 5], [0, 8]]
    image[2] = 100  # no part of the features
    model = cast(Segmenter, TwoMaps())
    # Norms are 5, 5, 0 and 10. A logit's gradient is 1 in its own map and 0 in the other.
    np.testing.assert_allclose(feature_heat(model, image), [[0.5, 0.5], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(class_activation(model, image, 0), [[0.5, 0], [0, 1]], atol=1e-6)
    np.testing.assert_allclose(class_activation(model, image, 1), [[0.5, 0.625], [0, 1]], atol=1e-6)
