"""What the documents show: every command is one of the program's, every page's lines are run by some test."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import geodistill as gd
from detection_sets import make_detection_set
from factories import make_raster
from geodistill.cli import VERBS, main
from geodistill.cli.arguments import parse
from geodistill.cli.completion import verb_parsers
from geodistill.cli.fit import split_flags
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.project.project_file import read_project
from geodistill.project.wiring import wire
from geodistill.segmenter import Segmenter
from geodistill.training import recipe as recipes
from house_files import documents
from map_style import Towns
from shown import shown_blocks
from tiny import tiny_spec
from towns import write_town
from where import ROOT

DOCS = ROOT / "docs"
PARSERS = dict(verb_parsers(VERBS))
HERE = "test_snippets.py"
RUN_BY = {
    "README.md": "test_documents.py",
    "areas.md": "change/test_areas_document.py",
    "distil.md": "test_documents.py",
    "export.md": "exports/test_document.py",
    "kda.md": "test_documents.py",
    "labels.md": "label/test_label_docs.py",
    "maflnet.md": "methods/maflnet/test_guide.py",
    "metasegnet.md": HERE,
    "own-folder.md": "test_documents.py",
    "predict.md": "inference/test_predict_document.py",
    "project.md": "project/test_draft.py",
    "python.md": "test_examples.py",
    "report.md": HERE,
    "reproduce.md": "papers/reproduce/test_listing.py",
    "review.md": "review/test_review_docs.py",
    "segmenters.md": "label/segmenters/test_segmenters_docs.py",
    "sep.md": "methods/sep/test_sep_guide.py",
}
"""The test that runs what a page shows."""


def blocks_of(page: Path, language: str) -> list[str]:
    """Return a page's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def save_model(folder: str) -> None:
    """Write an untrained model of the pages' bands."""
    network = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    spec = replace(tiny_spec(std=60.0), bands=("red", "green", "blue"))
    Segmenter("supervised", network, spec, 32, {}).save(folder)


def shown_commands() -> list[tuple[str, list[str]]]:
    """Return every command of the documents, with the page that shows it."""
    pages = [page for page in documents() if page.name != "CONTRIBUTING.md"]
    return [(page.name, command) for page in pages for block in shown_blocks(page) for command in block]


@pytest.mark.parametrize(("page", "command"), shown_commands(), ids=lambda value: " ".join(value)[:60])
def test_every_command_shown_is_understood(page: str, command: list[str]) -> None:
    count = 2 if command[0] in ("label", "data", "assess") else 1
    parser, argv = PARSERS[" ".join(command[:count])], command[count:]
    if command[0] == "fit":
        names = [flag.lstrip("-") for option in parser.options for flag in option.action.option_strings]
        argv, keys = split_flags(argv, names)
        assert all(key.startswith("--") for key in keys[:1])
    args = parse(parser, argv)
    if command[0] == "fit":
        assert args.config in recipes.list_recipes(), page


def test_every_page_with_lines_to_run_has_a_test_that_reads_it() -> None:
    shows = {page.name for page in documents() if shown_blocks(page) or blocks_of(page, "python")}
    assert shows - {"CONTRIBUTING.md", "CHANGELOG.md"} == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert page.removesuffix(".md") in (ROOT / "tests" / test).read_text(encoding="utf-8"), page


def test_the_project_shown_is_one(tmp_path: Path) -> None:
    """The commands of the page are run by project/test_draft.py and, with real stages, by project/test_killed.py."""
    (tmp_path / "town.yaml").write_text(blocks_of(DOCS / "project.md", "yaml")[0], encoding="utf-8")
    stages = list(wire(read_project(tmp_path / "town.yaml")))
    assert stages == ["label", "check", "teacher", "distil", "evaluate", "predict", "export", "report"]


def test_prompts_are_told_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scene", "other"):
        make_raster(tmp_path / f"{name}.tif")
    write_town(tmp_path / "town", 3)
    gd.scan("town", out="manifest.parquet", legend=["ground", "building"], progress=False)
    for command in shown_blocks(DOCS / "metasegnet.md")[0]:
        assert main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "Am (tropical monsoon), from coordinate at 39.2000, -6.1000" in said
    assert "aachen" in said


@pytest.mark.slow
def test_reports_are_written_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "report.md"
    for name in ("student", "alone"):
        save_model(f"runs/{name}")
    make_detection_set(tmp_path / "town", 2)
    for name in ("city", "tile"):
        make_raster(tmp_path / f"{name}.tif", height=80, width=80)
    commands = [command for block in shown_blocks(page) for command in block]
    for command in commands:
        if command[0] in ("report", "label", "predict"):  # explain/test_explain.py runs the other
            quick = ["--no-speed"] if command[0] == "report" else []
            assert main([*command, *quick]) == 0, capsys.readouterr().err
    read, written = blocks_of(page, "python")
    exec(written, {})
    assert Path("report.html").is_file()
    # What the page reads out of a report, of one that holds scores.
    figures = {"scores": {"miou": 0.5, "intervals": {"miou": [0.4, 0.6]}}, "confidence": {"calibration": {"ece": 0.1}}}
    Path("report.html").write_text(f'<script id="figures">{json.dumps(figures)}</script>', encoding="utf-8")
    exec(read, {})
    assert capsys.readouterr().out.endswith("0.5 [0.4, 0.6] 0.1\n")


@pytest.mark.slow
def test_maps_and_datasets_in_python_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("runs/student/segmenter")
    make_raster(tmp_path / "scene.tif")
    found: dict[str, Any] = {}
    exec(blocks_of(DOCS / "predict.md", "python")[0], found)
    assert found["scene_map"].path == Path("map.tif")
    shutil.rmtree("runs")
    small = ["--network.encoder", "test_resnet", "--trainer.max_steps", "1", "--trainer.accelerator", "cpu"]
    full = recipes.load_recipe
    monkeypatch.setattr(recipes, "load_recipe", lambda name: full(name, small))
    config, made = DataConfig(crop=32, batch_size=2, workers=0), DataModule.of_datasets
    monkeypatch.setattr(DataModule, "of_datasets", lambda *sets, bands: made(*sets, config, bands=bands))
    names: dict[str, Any] = {f"{split}_dataset": Towns(4, seed=k) for k, split in enumerate(("train", "val", "test"))}
    exec(blocks_of(DOCS / "own-folder.md", "python")[0], names)
    assert len(names["scores"].iou) == 3


def test_the_legend_and_teachers_shown_are_read(tmp_path: Path) -> None:
    text = blocks_of(DOCS / "distil.md", "yaml")[0]
    assert set(yaml.safe_load(text)) == {"teacher", "teachers", "losses"}
    base = yaml.safe_load(recipes.recipe_text("distil-folder"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(base | yaml.safe_load(text)), encoding="utf-8")
    loaded = recipes.load_recipe(tmp_path / "recipe.yaml", [])
    assert set(loaded.teachers) == {"big"}
