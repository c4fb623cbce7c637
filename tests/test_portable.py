"""The whole way without what only POSIX has: no fcntl and its like, no fork, processes spawned."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

from towns import write_boxes, write_town

ELSEWHERE = Path(__file__).parent / "support" / "elsewhere"
TINY = shlex.split(
    "--network.encoder test_resnet --network.decoder_channels 16 --trainer.max_steps 3 --trainer.val_every_steps 3"
    " --trainer.accelerator cpu --trainer.pictures 0 --data.crop 32 --data.batch_size 2 --data.workers 1"
)


def run(code: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ELSEWHERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *code], input=given, capture_output=True, text=True, check=False, env=environment
    )


def test_the_stand_in_has_neither_posix_modules_nor_fork() -> None:
    code = (
        "import multiprocessing, os\n"
        "for name in ('fcntl', 'pwd', 'grp', 'resource', 'termios'):\n"
        "    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError: continue\n"
        "    raise SystemExit(name)\n"
        "assert not hasattr(os, 'fork') and multiprocessing.get_start_method() == 'spawn'\n"
    )
    done = run(["-c", code])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_from_a_folder_to_a_map_and_from_boxes_to_masks(tmp_path: Path) -> None:
    town, out = tmp_path / "town", tmp_path / "out"
    write_town(town, count=6, size=64)
    (tmp_path / "legend.yaml").write_text("classes: {ground: 0, building: 1}\n")
    names = sorted(path.name for path in (town / "images").iterdir())
    write_boxes(tmp_path / "boxes.json", names)
    manifest = str(out / "manifest.parquet")
    model = ["--model", str(out / "run")]
    scan = ["--images", str(town / "images"), "--masks", str(town / "masks"), "--legend", str(tmp_path / "legend.yaml")]
    boxes = ["--images", str(town / "images"), "--boxes", str(tmp_path / "boxes.json"), "--format", "coco"]
    grabcut = ["--segmenter", "grabcut", "--background", "ground", "--workers", "2"]
    commands = [
        ["data", "scan", *scan, "--out", manifest],
        ["fit", "--config", "supervised-folder", "--data.manifest", manifest, *TINY, "--out", str(out / "run")],
        ["evaluate", *model, "--manifest", manifest, "--split", "val", "--out", str(out / "val")],
        ["predict", *model, "--input", str(town / "images" / names[0]), "--out", str(out / "map.tif")],
        ["label", "build", *boxes, *grabcut, "--out", str(out / "labels")],
    ]
    done = run([str(ELSEWHERE / "run_all.py")], json.dumps(commands))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "val" / "metrics.json").is_file()
    with rasterio.open(out / "map.tif") as scene_map, rasterio.open(town / "images" / names[0]) as scene:
        assert (scene_map.shape, scene_map.crs) == (scene.shape, scene.crs)
    assert len(list((out / "labels").rglob("t*.tif"))) >= len(names)
