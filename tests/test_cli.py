"""The command line as a user meets it: help, one-line errors, exit statuses."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from factories import make_raster
from geodistill import __version__
from geodistill.cli import VERBS, main
from geodistill.data.manifest import Manifest
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.recipe import list_recipes, load_recipe

SPEC = Spec(Legend(("ground", "building")), ("red", "green", "blue"))
MODEL = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 8}


@pytest.mark.parametrize("verb", [v for v in VERBS if v not in ("assess", "data", "label")])
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"geodistill {verb}" in text
    assert "example:" in text


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"geodistill {verb}" in text for verb in VERBS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from geodistill.cli import main; main(['--help']);"
        "print([m for m in ('torch', 'rasterio', 'lightning', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"geodistill {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", list_recipes())
def test_print_config_gives_a_recipe_that_is_read_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ["--trainer.max_steps", "7", "--losses.weights.ce", "0.3"]
    assert main(["fit", "--config", name, *change, "--print_config"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (tmp_path / "printed.yaml").write_text(printed.out)
    assert load_recipe(tmp_path / "printed.yaml") == load_recipe(name, change)
    assert list(tmp_path.iterdir()) == [tmp_path / "printed.yaml"]


@pytest.mark.parametrize(("words", "method"), [(["a.parquet"], "supervised"), (["ktda-folder", "a.parquet"], "ktda")])
def test_fit_takes_a_manifest_without_a_flag(words: list[str], method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words, "--print_config"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out)
    assert (recipe["method"], recipe["data"]["manifest"]) == (method, "a.parquet")


def test_fit_takes_the_folder_of_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Manifest((), ("red",)).save(tmp_path / "manifest.parquet")
    for words in ([], ["ktda-folder"]):
        assert main(["fit", *words, str(tmp_path), "--print_config"]) == 0
        recipe = yaml.safe_load(capsys.readouterr().out)
        assert recipe["data"]["manifest"] == str(tmp_path / "manifest.parquet")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["fti"], "such as fit"),
        (["data", "scam"], "scan"),
        (["predict", "--modle", "x"], "--modle"),
        (["predict", "--model", "x"], "required: --input, --out"),
        (["recipes", "no-such-recipe"], "unknown recipe 'no-such-recipe'"),
        (["inspect", "no-such-recipe"], "unknown recipe"),
        (["fit", "--config", "missing.yaml", "--out", "run"], "missing.yaml cannot be read"),
        (["fit", "--config", "ktda-folder", "--trainer.max_stepz", "3"], "trainer.max_steps"),
        (["fit", "--config", "ktda-folder", "--trainer.max_steps", "soon"], "soon"),
        (["fit", "--config", "ktda-folder"], "fit without --out"),
        (["fit", ".", "--out", "run"], "'geodistill data scan .' makes one"),
        (["fit", "student", "a.parquet", "--data.manifest", "b.parquet"], "both a.parquet and --data.manifest"),
        (["fit", "--method", "ktba"], "ktda"),
        (["encoders", "resnet"], "'resnet*'"),
        (["datasets", "vaihing"], "such as vaihingen; 'geodistill datasets' lists them"),
    ],
)
def test_a_mistake_is_told_on_one_line_with_status_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("geodistill: error: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(argv: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geodistill.cli.fit.fit", stop)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "geodistill: stopped\n"


def test_our_own_errors_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("geodistill.cli.fit.fit", fail)
    with pytest.raises(RuntimeError, match="ours"):
        main(["fit"])


def test_recipes_are_listed_with_a_whole_sentence_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list_recipes()
    assert all(line.endswith(".") for line in lines)
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in lines}) == 1
    assert any(line.endswith("KTDA on L8-Biome (clear, shadow, thin cloud, cloud; 512 px).") for line in lines)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["fit", "a.parquet", "student", "--out", "run"], "a.parquet is a Parquet file, such as a manifest"),
        (["run", "a.parquet"], "a recipe, project or model comes first, and its manifest after it"),
        (["inspect", "a.parquet"], "a.parquet is a Parquet file, such as a manifest"),
        (["predict", "run", "--model", "scene.tif", "--out", "map.tif"], "the file scene.tif as a model"),
        (["evaluate", "a.parquet", "run"], "a model comes first, its manifest after it"),
        (["predict", "scene.tif", "--model", "run", "--bands", "4", "3", "2", "--out", "m.tif"], "write --bands 4,3,2"),
    ],
)
def test_arguments_in_each_others_place_are_named(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"a": ["x", "\u00e9"]}), "a.parquet")
    Segmenter("supervised", MODEL, SPEC, 64, {}).save("run")
    make_raster(tmp_path / "scene.tif")
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
