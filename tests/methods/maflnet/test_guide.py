"""The commands of the guide, run as they stand on a small folder (training cut to a few tiny steps)."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from geodistill.cli import main
from geodistill.methods.maflnet.network import MaflNetwork
from geodistill.methods.maflnet.training import WEIGHTS, MaflnetRecipe
from geodistill.segmenter import Segmenter
from geodistill.training.recipe import recipe_keys
from shown import shown_blocks

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[3] / "docs" / "maflnet.md"
SHORT = shlex.split(
    "--data.crop 32 --data.batch_size 2 --data.workers 0 --data.mosaic 0 --trainer.accelerator cpu --network.width 16"
    " --trainer.max_steps 2 --trainer.val_every_steps 2 --trainer.pictures 0 --network.encoder_weights null"
)
ENCODERS = {"mafl-teacher": "test_vit(adapters=block)", "mafl-student": "test_resnet"}


def test_teacher_student_and_their_comparison(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(town.parent, tmp_path, dirs_exist_ok=True)
    commands = shown_blocks(GUIDE)[0]
    assert [command[0] for command in commands] == ["fit", "fit", "compare"]
    for command in commands:
        tiny = ["--size", "32", "--repeats", "1"]
        if command[0] == "fit":
            tiny = [*SHORT, "--network.encoder", ENCODERS[command[2]]]
        assert main(command + tiny) == 0, capsys.readouterr().err
    table = capsys.readouterr().out.splitlines()[-4:]
    assert table[1].startswith("./runs/mafl-teacher")
    assert table[2].startswith("  runs/mafl-student")
    assert table[2].endswith("%")
    assert Segmenter.load("runs/mafl-student").spec.legend.names == ("ground", "building", "water")


def test_the_guides_figures_are_the_networks() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    with torch.device("meta"):
        student = MaflNetwork(3, 6, auxiliary=False)
        for letter, size, place in (("L", "large", "block"), ("L", "large", "stage"), ("T", "tiny", "stage")):
            encoder = f"sam2_hiera_{size}(adapters={place})"
            teacher = MaflNetwork(3, 6, encoder=encoder, trained="adapters", auxiliary=False)
            total = sum(p.numel() for p in teacher.parameters())
            trained = sum(p.numel() for p in teacher.parameters() if p.requires_grad)
            assert f"| teacher, Hiera-{letter}, one adapter per {place} | {total:,} | {trained:,} |" in text
    assert f"| {sum(p.numel() for p in student.parameters()):,} |" in text


def test_every_key_that_the_guide_names_is_a_key() -> None:
    known = set(recipe_keys(MaflnetRecipe))
    parts = "network|losses|schedule|teacher|optimizer|data|trainer"
    found = re.findall(rf"`((?:{parts})\.[\w.]+)", GUIDE.read_text(encoding="utf-8"))
    named = [key for key in found if not key.endswith(".py")]
    assert len(named) > 15
    known |= {f"losses.weights.{term}" for term in WEIGHTS}
    assert [key for key in named if key.rstrip(".") not in known] == []
