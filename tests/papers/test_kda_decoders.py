"""The decoder table, as rows and on the command line."""

from __future__ import annotations

import json

import pytest

from geodistill.cli import main
from geodistill.errors import RecipeError
from geodistill.papers.kda_decoders import printed, weigh_decoders


@pytest.mark.slow
def test_decoders_with_a_published_form_have_the_published_counts() -> None:
    table = weigh_decoders("kda-landslide", size=224)
    rows = {row.decoder: row for row in table.rows}
    assert sorted(rows) == ["dcf", "segformer", "segnext", "unet", "upernet"]
    assert printed("decoder_parameters")["upernet"] == 0.97
    for decoder in ("dcf", "segformer"):
        row = rows[decoder]
        assert row.published_parameters == pytest.approx(row.parameters / 1e6, abs=0.005)
        assert row.published_gflops == printed("gflops")[decoder]
        # Two operations a multiply-add; attention is counted here and not in the paper.
        assert 2 * row.macs / 1e9 == pytest.approx(row.published_gflops, rel=0.03)
    assert all(row.whole - row.parameters == 66_140_800 for row in rows.values())
    text = table.to_text()
    assert "267,106" in text
    assert len({len(line) for line in text.splitlines()}) == 1


@pytest.mark.slow
def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "kda-landslide", "--decoders", "--size", "64", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["decoder"] == "dcf"
    assert rows[0]["parameters"] == 267_106


def test_recipes_of_other_methods_are_refused() -> None:
    with pytest.raises(RecipeError, match="a recipe of supervised"):
        weigh_decoders("supervised-folder")
