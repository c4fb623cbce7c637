"""A flag that would do nothing is refused: whoever gives it believes that it did something."""

from pathlib import Path

import pytest

from geodistill.cli import main
from geodistill.data.splits import SplitPlan
from geodistill.errors import DataError

SCAN = ["data", "scan", "--images", "town", "--out", "m.parquet"]
SET = ["data", "scan", "--dataset", "potsdam", "--root", "potsdam", "--out", "m.parquet"]
EXPORT = ["export", "--model", "m", "--out", "o", "--to"]
PREDICT = ["predict", "--model", "m", "--input", "a.tif", "--out", "o.tif"]
LABEL = ["--images", "i", "--boxes", "b.json", "--format", "coco"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([*SCAN, "--official-split", "val-2_10"], "--official-split without --dataset"),
        ([*SCAN, "--root", "x", "--partial"], "--root and --partial without --dataset"),
        ([*SET, "--images", "town"], "--images with --dataset"),
        ([*SET, "--split", "group"], "--split with --dataset"),
        ([*SET, "--fractions", "0.5", "0.25", "0.25"], "--fractions with --dataset"),
        ([*SET, "--legend", "l.yaml", "--seed", "3"], "--legend and --seed with --dataset"),
        ([*EXPORT, "stac", "--int8", "m.parquet"], "--int8 with --to stac"),
        ([*EXPORT, "qgis", "--opset", "20"], "--opset with --to qgis"),
        ([*EXPORT, "onnx", "--licence", "mit"], "--licence with --to onnx"),
        ([*EXPORT, "hub", "--resolution", "30"], "--resolution with --to hub"),
        ([*EXPORT, "onnx", "--split", "test"], "--split without --int8"),
        ([*PREDICT, "--address", "auto"], "--address without --engine ray"),
        ([*PREDICT, "--gpus", "1"], "--gpus without --engine ray"),
        ([*PREDICT, "--min-area", "4"], "--min-area without --vector"),
        ([*PREDICT, "--tile", "64", "--classes", "a,b"], "--classes and --tile without an ONNX file as --model"),
        (["label", "build", *LABEL, "--out", "o", "--address", "auto"], "--address without --engine ray"),
        (["label", "ablate", *LABEL, "--gpus", "1"], "--gpus without --engine ray"),
        (["compare", "a", "--split", "val"], "--split without --manifest"),
        (["prompts", "--zone", "Cfb", "--llm-model", "m", "--yes"], "--llm-model and --yes without --llm"),
        (["fit", "--find-rate", "r.png", "--out", "o", "--restart"], "--out and --restart with --find-rate"),
        (
            ["reproduce", "samrs/2", "--list", "--arithmetic", "--seeds", "3", "--gsd", "5", "--padding-as", "car"],
            "--arithmetic and --seeds and --gsd and --padding-as with --list",
        ),
        (
            ["reproduce", "kda/1", "--list", "--json", "--rows", "nosuch", "--root", "/nonexist", "--scale", "full"],
            "--root and --rows and --scale with --list",
        ),
        (["reproduce", "--list", "--figure"], "--figure with --list"),
        (["reproduce", "--list", "--as", "released", "--set", "a=1"], "--as and --set with --list"),
        (["reproduce", "--list", "-o", "x", "--scored-layout", "e"], "--out and --scored-layout with --list"),
        (["reproduce", "kda/3", "--figure", "maps", "--json", "--arithmetic"], "--arithmetic and --json with --figure"),
        (["reproduce", "kda/3", "--json", "--arithmetic"], "--arithmetic with --json, which says it always"),
        (
            ["prompts", "--lonlat", "10", "50", "--text-encoder", "nosuch/thing", "--kind", "none"],
            "--kind and --text-encoder without classes (--legend or --classes)",
        ),
        (
            ["prompts", "--zone", "Cfb", "--llm", "http://127.0.0.1:9/v1", "--answers", "a.json"],
            "--llm and --answers without classes (--legend or --classes)",
        ),
        (["prompts", "--zone", "Cfb", "--seasons"], "--seasons without --manifest"),
    ],
)
def test_it_is_told_before_anything_is_opened(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"geodistill: error: {says}; expected flags that have an effect; leave ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "idle", "says"),
    [
        ("file", {"group_regex": r"Tile_\d"}, "group_regex for a split by file; expected a split by group"),
        ("file", {"block_size": 50.0}, "block_size for a split by file; expected a split by block or window"),
        (
            "group",
            {"group_regex": "a", "lists": Path("lists")},
            "lists for a split by group; expected a split by lists",
        ),
        ("lists", {"lists": Path("lists"), "group_file": Path("g.csv")}, "group_file for a split by lists"),
        ("window", {"block_size": 9.0, "groups": {"val": ["a"]}}, "groups for a split by window; expected .* or block"),
    ],
)
def test_a_split_looks_at_all_that_is_given(kind: str, idle: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        SplitPlan(kind, **idle)  # type: ignore[arg-type]
