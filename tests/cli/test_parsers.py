"""What every verb's command line promises: help, defaults, choices, groups; values without flags; old forms; shells."""

import json
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import get_args

import pytest

from geodistill.cli import VERBS, main
from geodistill.cli.arguments import Group, VerbParser, parse
from geodistill.cli.completion import bash, fish, verb_parsers, zsh
from geodistill.errors import GeodistillError
from tiny import tiny_networks, tiny_segmenter

PARSERS = dict(verb_parsers(VERBS))


@pytest.mark.parametrize("verb", PARSERS)
def test_every_option_has_help_a_default_or_required_and_a_group(verb: str) -> None:
    parser = PARSERS[verb]
    text = " ".join(parser.format_help().split())
    known = {option.action.dest for option in parser.options}
    assert {action.dest for action in parser._actions} == known | {"help"}
    for option in parser.options:
        written = str(option.action.help)
        assert written.split(" (")[0]
        assert written.endswith((f"(default: {option.default})".replace("%", "%%"), "(required)")), option.name
        assert option.group in get_args(Group)
        assert f"{option.group}:" in text
        assert all(choice in written for choice in option.choices)
        default = option.action.default
        assert not option.choices or default is None or default in option.choices


def test_up_to_ten_that_matter_come_first() -> None:
    for verb, parser in PARSERS.items():
        if len(parser.options) > 20 and verb not in ("prompts",):
            assert parser.options[0].group == "most used", verb
            assert 8 <= sum(option.group == "most used" for option in parser.options) <= 10, verb


def typed(verb: str, *argv: str) -> Namespace:
    return parse(PARSERS[verb], argv)


def test_values_stand_without_their_flags() -> None:
    args = typed("predict", "a.tif", "--model", "m", "b.tif", "--confidence", "c.tif", "--out", "o")
    assert (args.input, args.model, args.out, args.confidence) == (["a.tif", "b.tif", "c.tif"], "m", "o", True)
    assert typed("predict", "--lonlat", "-3.5", "50", "a.tif", "--model=m", "--out", "o").input == ["a.tif"]
    args = typed("evaluate", "runs/student", "manifest.parquet", "--split", "val")
    assert (args.model, args.manifest, args.split) == ("runs/student", "manifest.parquet", "val")
    assert typed("data check", "m.parquet").manifest == typed("data check", "--manifest", "m.parquet").manifest
    assert typed("data scan", "town").images == ["town"]
    assert typed("fit", "ktda-folder", "--out", "run").config == "ktda-folder"


@pytest.mark.parametrize(
    ("verb", "argv", "says"),
    [
        ("predict", ["a.tif", "--input", "b.tif", "--model", "m", "--out", "o"], "both a.tif and --input"),
        ("data check", ["a", "--manifest", "b"], "both a and --manifest"),
        ("evaluate", ["a", "b", "c"], "not understood: c"),
        ("evaluate", ["a"], "required: --manifest"),
        ("predict", ["a", "--model", "m", "--out", "o", "--blend", "cosin"], "one of cosine"),
        ("predict", ["a", "--modle", "m", "--out", "o"], "such as --model"),
        ("compare", ["a", "--split", "tset"], "one of test, train, val"),
        ("label build", ["--bxes", "a.json", "--images", "i", "--out", "o"], "'--bxes'.* such as --boxes"),
    ],
)
def test_mistakes_name_what_would_be_right(verb: str, argv: list[str], says: str) -> None:
    with pytest.raises(GeodistillError, match=says):
        parse(PARSERS[verb], argv)


@pytest.mark.parametrize(
    ("argv", "value"),
    [(["yes"], True), (["no"], False), (["true"], True), ([], True)],
)
def test_old_forms_keep_working_with_a_notice(argv: list[str], value: bool, capsys: pytest.CaptureFixture[str]) -> None:
    args = typed("label build", "i", "b", "--out", "o", "--keep-component", *argv)
    assert args.keep_component is value
    assert capsys.readouterr().err.count("is now written") == len(argv)
    assert typed("label build", "i", "b", "--out", "o", "--fill-holes=no").fill_holes is False
    assert typed("label build", "i", "b", "--out", "o", "--no-fill-holes").fill_holes is False
    assert typed("label build", "i", "b", "--out", "o").fill_holes is None


def test_info_says_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert {"geodistill", "python", "system", "packages", "devices", "gdal", "gdal_drivers", "extras"} <= about.keys()
    assert {"free_memory_gib", "free_disk_gib"} <= about.keys()
    assert "GTiff" in about["gdal_drivers"]
    assert main(["info"]) == 0
    assert "gdal_drivers" in capsys.readouterr().out


def complete(script: Path, *words: str) -> set[str]:
    line = " ".join(f"'{word}'" for word in words)
    code = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _geodistill"
    code += "; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, cwd=script.parent)
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_options_choices_and_files(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(bash(VERBS), encoding="utf-8")
    assert complete(script, "geodistill", "pre") == {"predict"}
    assert complete(script, "geodistill", "data", "s") == {"scan", "stats", "submission"}
    assert complete(script, "geodistill", "predict", "--res") == {"--resume"}
    assert complete(script, "geodistill", "predict", "--gsd", "") == {"auto", "native", "model"}
    assert complete(script, "geodistill", "label", "build", "--form") == {"--format"}
    assert complete(script, "geodistill", "predict", "compl") == {"completion.bash"}
    assert complete(script, "geodistill", "completion", "f") == {"fish"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_offers_what_bash_offers_and_files_behind_it(tmp_path: Path) -> None:
    script = tmp_path / "completion.zsh"
    script.write_text(zsh(VERBS), encoding="utf-8")
    # Stand-ins for what only an interactive zsh has: print what is offered, files as a word.
    code = "compdef() { }; compadd() { print -r -- ${@[2,-1]}; (( $# > 1 )) }; _files() { print FILES }; "
    code += f". {script}"
    asked = ["data ''", "predict --gsd ''", "label build --format ''", "nothing ''"]
    for line in asked:
        code += f"; words=(geodistill {line}); CURRENT=$#words; _geodistill"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    data, gsd, formats, files = (line.split() for line in done.stdout.split("\n") if line)
    assert {"scan", "check", "stats"} <= set(data)
    assert gsd == ["auto", "native", "model"]
    assert {"coco", "voc"} <= set(formats)
    assert files == ["FILES"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_by_the_words_before(tmp_path: Path) -> None:
    script = tmp_path / "completion.fish"
    script.write_text(fish(VERBS), encoding="utf-8")
    lines = {
        "geodistill pre": {"predict"},
        "geodistill data s": {"scan", "stats", "submission"},
        "geodistill predict --res": {"--resume"},
        "geodistill predict --gsd ": {"auto", "native", "model"},
        "geodistill label export --opse": set(),  # the option of another verb of that name
        "geodistill predict data c": {"completion.fish"},
        "geodistill completion f": {"fish"},
    }
    code = f"source {script}; " + "; ".join(f"complete -C '{line}'; echo ." for line in lines)
    done = subprocess.run(["fish", "-N", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    found = [{line.partition("\t")[0] for line in part.splitlines() if line} for part in done.stdout.split(".\n")]
    assert found[:-1] == list(lines.values())


def test_fish_names_every_option() -> None:
    text = fish(VERBS)
    for verb, parser in PARSERS.items():
        assert all(f" -l {o.name[2:]}" in text for o in parser.options if o.name.startswith("--")), verb
    # A short flag is fish's -s with one letter; none is left as a long one with a dash.
    short = [line for line in text.splitlines() if "__geodistill_after predict'" in line and " -s o " in line]
    assert len(short) == 1
    assert " -l -" not in text


@pytest.mark.parametrize("lon", ["-.12", "-0.12", "-12", "-12.", "-1e-3", "-1.5E+1", "-.5e1"])
@pytest.mark.parametrize("typed", [["scene.tif"], []])
def test_a_negative_number_is_no_flag(lon: str, typed: list[str]) -> None:
    args = parse(PARSERS["prompts"], ["--lonlat", lon, "-.5", *typed, "--zone", "Cfb"])
    assert (args.lonlat, args.zone, args.input) == ([float(lon), -0.5], "Cfb", typed or None)


@pytest.mark.parametrize("text", ["²", "①", "-1", "1.0"])
@pytest.mark.parametrize("verb", ["predict --input a.tif --out b.tif --batch", "export --to onnx --out o --size"])
def test_a_digit_that_is_no_number_is_refused(
    verb: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    *command, flag = verb.split()
    with tiny_networks():
        tiny_segmenter().save("m")
        assert main([*command, "--model", "m", f"{flag}={text}"]) == 2
    assert f"{flag} {text}; expected a number" in capsys.readouterr().err


def test_a_parser_without_typed_values_refuses_them() -> None:
    with pytest.raises(GeodistillError, match="not understood: x"):
        parse(VerbParser("none", "", ""), ["x"])
