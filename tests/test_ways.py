"""How many files a reader opens to follow a command: those of which at least one function runs."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from towns import write_boxes, write_town

SCRIPT = Path(__file__).parent / "support" / "files_run.py"
SPEC = Spec(Legend(("ground", "building")), ("red", "green", "blue"), (90.0,) * 3, (40.0,) * 3)
MODEL = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
TINY = shlex.split(
    "--network.encoder test_resnet --network.decoder_channels 16 --teacher.encoder test_vit --teacher.weights null"
    " --losses.phase.steps 1 --trainer.max_steps 1 --trainer.val_every_steps 1 --trainer.accelerator cpu"
    " --trainer.pictures 0 --data.crop 32 --data.batch_size 2 --data.workers 0"
)


@pytest.mark.slow
def test_a_command_is_followed_through_few_files(tmp_path: Path) -> None:
    town, out, manifest = tmp_path / "town", tmp_path / "out", str(tmp_path / "manifest.parquet")
    write_town(town, count=6, size=64)
    names = sorted(path.name for path in (town / "images").iterdir())
    write_boxes(tmp_path / "boxes.json", names)
    Segmenter("supervised", MODEL, SPEC, 64, {}).save(tmp_path / "model")
    images, masks = str(town / "images"), str(town / "masks")
    boxes = ["--images", images, "--boxes", str(tmp_path / "boxes.json"), "--format", "coco", "--background", "ground"]
    scene = ["--model", str(tmp_path / "model"), "--input", str(town / "images" / names[0]), "--backend", "torch"]
    commands = [
        ["data", "scan", "--images", images, "--masks", masks, "--out", manifest],
        ["predict", *scene, "--out", str(out / "map.tif")],
        ["fit", "--config", "ktda-folder", "--data.manifest", manifest, *TINY, "--out", str(out / "run")],
        ["label", "build", *boxes, "--segmenter", "grabcut", "--tile", "48", "--out", str(out / "labels")],
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], input=json.dumps(commands), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, predict, fit, label = json.loads(done.stdout.splitlines()[-1])
    assert len(predict) <= 40, predict
    assert len(fit) <= 50, fit
    assert len(label) <= 39, label
