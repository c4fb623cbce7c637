"""The Hub's layout: opens where it lies and from the Hub's own cache, offline; the card says what the model is."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from geodistill.cli import main
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import DataError, OutputError
from geodistill.exports.card import read_scores
from geodistill.exports.exporters import ExportOptions
from geodistill.exports.hub import CARD, CONFIG, export_hub
from geodistill.folders import MARKER, mark_folder
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from tiny import tiny_spec

UNET = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


def test_the_directory_opens_as_a_segmenter(segmenter: Segmenter, tmp_path: Path) -> None:
    path = export_hub(segmenter, tmp_path / "fields", ExportOptions())
    assert sorted(p.name for p in path.iterdir()) == sorted([CARD, CONFIG, MARKER, WEIGHTS, DESCRIPTION])
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(Segmenter.load(path)(image), segmenter(image))


def test_the_card_says_what_the_model_is(segmenter: Segmenter, tmp_path: Path) -> None:
    segmenter.provenance = {"manifest": "/secret/fields.parquet", "scores": {"validation_miou": None}, "step": 7}
    card = ModelCard.load(
        export_hub(segmenter, tmp_path / "fields", ExportOptions(licence="mit", scores={"miou": 0.75})) / CARD
    )
    assert card.data.library_name == "geodistill"
    assert card.data.license == "mit"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("fields.parquet", "miou", 0.75)
    for said in ("# fields", "| 1 | c1 |", "| b2 | 0 | 60 |", "| miou | 75.00 |", "32 x 32 pixels", '"steps": 7'):
        assert said in card.text
    assert "/secret" not in card.content


def test_names_are_shown_and_never_obeyed(segmenter: Segmenter, tmp_path: Path) -> None:
    names = (
        "<script>alert(1)</script>",
        "a\n# A heading\n\n---\n",
        "[x](javascript:alert(1)) ![y](http://example.org/p.png) | cell | `c` www.example.org <img src=x>\x1b[2J\ud800",
    )
    segmenter.spec = Spec(Legend(names), ("<b>", "*b*", "b"), gsd=1.0)
    segmenter.provenance = {"scores": {"<i>x</i>": 0.5, "nan": float("nan")}, "manifest": "/x/```\n<b>.parquet"}
    card = ModelCard.load(export_hub(segmenter, tmp_path / "[a](b)", ExportOptions()) / CARD)
    parser = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    tokens = parser.parse(card.text)
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "hr", "em_open"}
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(headings) == 3
    cells = ["".join(c.content for c in t.children or ()) for t in tokens if t.type == "inline"]
    assert "<script>alert(1)</script>" in cells
    assert "a # A heading ---" in cells
    assert "\x1b" not in card.content


def test_the_hub_finds_what_it_counts_by(segmenter: Segmenter, tmp_path: Path) -> None:
    held = json.loads((export_hub(segmenter, tmp_path / "fields", ExportOptions()) / CONFIG).read_text())
    assert held["library_name"] == "geodistill"
    assert held["id2label"] == {"0": "c0", "1": "c1", "2": "c2"}


@pytest.mark.parametrize(
    "text", ["[" * 5000, '{"miou": 1e400, "mf1": 0, "oa": 0}', '{"miou": 7, "mf1": 0, "oa": 0}', "{}"]
)
def test_scores_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match="metrics"):
        read_scores(tmp_path / "metrics.json")


def test_a_card_without_scores(segmenter: Segmenter, tmp_path: Path) -> None:
    card = ModelCard.load(export_hub(segmenter, tmp_path / "fields", ExportOptions()) / CARD)
    assert "model-index" not in card.content
    assert "| score |" not in card.text


@pytest.mark.slow
def test_it_opens_by_name_from_the_hubs_cache_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``snapshot_download`` left it on a machine that has no way to the Hub now."""
    segmenter = Segmenter("supervised", UNET, tiny_spec(), 32, {})
    cached = tmp_path / "hub" / "models--someone--fields"
    export_hub(segmenter, cached / "snapshots" / "abc123", ExportOptions())
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert Segmenter.load("someone/fields").tile == 32


def test_an_earlier_export_is_replaced_and_nothing_else(segmenter: Segmenter, tmp_path: Path) -> None:
    export_hub(segmenter, tmp_path / "fields", ExportOptions(licence="mit"))
    export_hub(segmenter, tmp_path / "fields", ExportOptions(licence="apache-2.0"))
    assert "apache-2.0" in (tmp_path / "fields" / CARD).read_text()
    card = tmp_path / "fields" / CARD
    card.write_text(card.read_text() + "my words")
    with pytest.raises(OutputError, match=r"README\.md was edited"):
        export_hub(segmenter, tmp_path / "fields", ExportOptions())
    assert card.read_text().endswith("my words")
    (tmp_path / "file").write_text("")
    segmenter.save(tmp_path / "model")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_text("days of work")
    mark_folder(tmp_path / "run", "run of fit", ["*"])
    for place, says in (
        (tmp_path, "what geodistill did not write there"),
        (tmp_path / "file", "no place for a model"),
        (tmp_path / "model", "holds a Segmenter; expected a new folder, or a model for the Hub"),
        (tmp_path / "run", "holds a run of fit"),
    ):
        with pytest.raises(OutputError, match=says):
            export_hub(segmenter, place, ExportOptions())
    assert (tmp_path / "run" / "last.ckpt").read_text() == "days of work"


def test_the_command_line(segmenter: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segmenter.save(tmp_path / "model")
    out = tmp_path / "fields"
    command = ["export", "--model", str(tmp_path / "model"), "--to", "hub", "--out", str(out), "--licence", "mit"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert Segmenter.load(out).spec == segmenter.spec


@pytest.mark.slow
def test_one_prompt_of_several_can_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"encoder": "test_convnext", "text_tokens": 9, "text_width": 12, "width": 16, "heads": 2}
    segmenter = Segmenter("metasegnet", small | {"prompts": ["Af", "Cfb"]}, tiny_spec(), 32, {})
    segmenter.network.network.set_text([torch.randn(4, 12), torch.randn(6, 12)])
    segmenter.save(tmp_path / "model")
    command = ["export", "--model", str(tmp_path / "model"), "--out"]
    assert main([*command, str(tmp_path / "q.onnx"), "--to", "qgis"]) == 2
    assert "a model with a prompt for each of Af, Cfb; expected one of them" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "fields"), "--to", "hub", "--zone", "Cfb"]) == 0
    one, image = Segmenter.load(tmp_path / "fields"), torch.rand(1, 3, 32, 32)
    assert one.prompts == ("Cfb",)
    with torch.no_grad():
        torch.testing.assert_close(one(image), segmenter(image, torch.tensor([1])), atol=1e-5, rtol=1e-5)
