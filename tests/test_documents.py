"""The commands that the documents show, run as they stand on a small folder (training cut to a few tiny steps)."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import rasterio

from geodistill.cli import main
from geodistill.segmenter import Segmenter
from geodistill.synthetic import REGIONS, write_dataset
from shown import shown_blocks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHORT = shlex.split(
    "--network.encoder test_resnet --network.encoder_weights null --trainer.max_steps 2 --trainer.accelerator cpu"
    " --data.crop 32 --data.batch_size 2 --data.workers 0"
)


def test_readme_and_guide_show_the_same_four_commands() -> None:
    commands = shown_blocks(ROOT / "docs" / "own-folder.md")[0]
    assert shown_blocks(ROOT / "README.md")[0] == commands
    assert [command[0] for command in commands] == ["data", "fit", "evaluate", "predict"]


def test_the_four_commands_lead_from_a_folder_to_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset("town", REGIONS["north"], 8, 64)
    shutil.move("town/legend.yaml", "legend.yaml")
    shutil.copy("town/images/north_0000.tif", "scene.tif")
    for command in shown_blocks(ROOT / "docs" / "own-folder.md")[0]:
        assert main(command + (SHORT if command[0] == "fit" else [])) == 0, capsys.readouterr().err
    assert Segmenter.load("runs/student").spec.classes == 7
    assert Path("runs/student/test/metrics.json").is_file()
    with rasterio.open("map.tif") as found, rasterio.open("scene.tif") as scene:
        assert (found.crs, found.transform, found.shape) == (scene.crs, scene.transform, scene.shape)


def test_kdas_two_commands_lead_from_images_to_a_segmenter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset("town", REGIONS["north"], 6, 64)
    assert main(["data", "scan", "--images", "town/images", "--unlabelled", "--out", "images.parquet"]) == 0
    assert main(["data", "scan", "--images", "town", "--legend", "town/legend.yaml", "--out", "labels.parquet"]) == 0
    common = "--network.encoder test_resnet --trainer.accelerator cpu --data.crop 32 --data.batch_size 2"
    common += " --data.workers 0 --losses.phase.discriminator.encoder test_vit --losses.phase.discriminator.width 16"
    common += " --losses.phase.discriminator.weights null"
    first, second = shown_blocks(ROOT / "docs" / "kda.md")[0]
    short = "--teacher.encoder test_vit --teacher.weights null --losses.phase.steps 2"
    assert main([*first, *shlex.split(f"{common} {short}")]) == 0, capsys.readouterr().err
    assert main([*second, *shlex.split(f"{common} --trainer.max_steps 2")]) == 0, capsys.readouterr().err
    assert Segmenter.load("runs/landslide").name == "kda"


def test_teacher_and_students_train_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset("town", REGIONS["north"], 6, 64)
    assert main(["data", "scan", "--images", "town", "--legend", "town/legend.yaml", "--out", "manifest.parquet"]) == 0
    short = "--network.encoder test_resnet --trainer.max_steps 2 --trainer.accelerator cpu --data.crop 32"
    short += " --data.batch_size 2 --data.workers 0"
    for command in shown_blocks(ROOT / "docs" / "distil.md")[0]:
        assert main([*command, *shlex.split(short)]) == 0, capsys.readouterr().err
    assert Segmenter.load("runs/again").spec.classes == 7
    assert len(list(Path("cache").iterdir())) == 1


def test_the_guides_legend_is_a_legend(tmp_path: Path) -> None:
    from geodistill.spec import Legend

    guide = (ROOT / "docs" / "own-folder.md").read_text(encoding="utf-8")
    (tmp_path / "legend.yaml").write_text(re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[0])
    legend = Legend.load(tmp_path / "legend.yaml")
    assert legend.names == ("background", "building", "road")
    assert legend.ignore_values == (255,)
