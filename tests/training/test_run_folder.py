"""What `fit` does with the folder that it is given: nothing to what is not its own, and no run on other inputs."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

from forked import run_function
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import ArtifactError, BusyError, OutputError, RecipeError
from geodistill.folders import foreign_files, hold_folder, mark_folder, remove
from geodistill.methods.schema import Recipe
from geodistill.training import folder as run_folder
from geodistill.training.fit import fit
from geodistill.training.folder import prepare_run, run_identity
from geodistill.training.recipe import load_recipe, recipe_dict
from killed_fit import fit_killed, fit_without_temporary_files
from towns import LEGEND, write_town

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_town(folder, count=4, size=48)
    scan(folder, out=folder / "manifest.parquet", legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
    return folder


@pytest.fixture
def recipe(own_town: Path, tmp_path: Path) -> Recipe:
    """Saved at steps 2 and 4, validated at 4."""
    path = tmp_path / "small.yaml"
    trainer = {"max_steps": 4, "val_every_steps": 4, "save_every_steps": 2, "accelerator": "cpu", "pictures": 0}
    data = {"manifest": str(own_town / "manifest.parquet"), "crop": 32, "batch_size": 2, "workers": 0}
    network = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8}
    path.write_text(yaml.safe_dump({"method": "supervised", "data": data, "network": network, "trainer": trainer}))
    return load_recipe(path)


@pytest.fixture
def begun(recipe: Recipe, tmp_path: Path) -> Path:
    """A run that was killed after its first resume point."""
    assert fit_killed(recipe, tmp_path / "run", 1, "after")
    return tmp_path / "run"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_restart_leaves_a_folder_alone_that_only_looks_like_a_run(recipe: Recipe, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "images").mkdir(parents=True)
    for name in ("recipe.yaml", "thesis.doc", "images/a.tif", "checkpoints.txt"):
        (project / name).write_text("years of work")
    before = everything(project)
    for restart in (False, True):
        with pytest.raises(OutputError, match="holds no run") as told:
            fit(recipe, project, restart=restart)
        assert "--restart" not in str(told.value)
    assert everything(project) == before


def test_restart_removes_a_run_and_nothing_else(recipe: Recipe, begun: Path) -> None:
    (begun / "notes.txt").write_text("years of work")
    before = everything(begun)
    with pytest.raises(OutputError, match=r"notes\.txt"):
        fit(recipe, begun, restart=True)
    assert everything(begun) == before
    (begun / "notes.txt").unlink()
    (begun / "test").mkdir()
    (begun / "test" / "metrics.json").write_text("of an evaluation")
    mark_folder(begun / "test", "evaluation", ["metrics.json"])
    result = fit(replace(recipe, trainer=replace(recipe.trainer, seed=7)), begun, restart=True)
    assert result.steps == 4
    assert (begun / "test" / "metrics.json").read_text() == "of an evaluation"
    assert foreign_files(begun, ["test"]) == []


def test_a_run_of_a_version_without_a_key_goes_on_where_the_key_has_its_default(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_key(recipe: Recipe) -> dict[str, Any]:
        values = recipe_dict(recipe)
        assert values["data"].pop("hollow") == 0
        return values

    run = tmp_path / "run"
    with monkeypatch.context() as earlier:
        earlier.setattr(run_folder, "recipe_dict", without_a_key)
        assert fit_killed(recipe, run, 1, "after")
    other = replace(recipe, data=replace(recipe.data, hollow=0.5))
    with pytest.raises(
        RecipeError, match=r"another recipe \(data.hollow was 0.0, is 0.5\).*name its own, .*recipe.yaml"
    ):
        fit(other, run)
    assert fit(recipe, run).steps == 4


def test_a_run_without_a_term_is_of_another_recipe_than_one_with_it(recipe: Recipe, begun: Path) -> None:
    saved = yaml.safe_load((begun / "recipe.yaml").read_text())
    assert saved["losses"]["weights"].pop("ce") == 1
    (begun / "recipe.yaml").write_text(yaml.safe_dump(saved))
    with pytest.raises(RecipeError, match=r"another recipe \(losses.weights.ce was None, is 1.0\)"):
        fit(recipe, begun)


def test_a_run_goes_on_on_another_accelerator_than_it_began_on(recipe: Recipe, begun: Path) -> None:
    assert fit(replace(recipe, trainer=replace(recipe.trainer, accelerator="auto")), begun).steps == 4


def test_a_process_that_is_there_before_the_first_wrote_the_recipe_knows_its_run(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    prepare_run(tmp_path / "run", recipe, False, dict)
    early = run_identity(recipe, tmp_path / "run")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    prepare_run(tmp_path / "run", recipe, False, dict)
    assert early == run_identity(recipe, tmp_path / "run")


def test_a_run_that_was_never_saved_gives_way_to_a_corrected_one(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit_killed(recipe, run, 1, "before")
    other = replace(recipe, trainer=replace(recipe.trainer, seed=7))
    assert fit(other, run).steps == 4
    with pytest.raises(RecipeError, match="another recipe"):
        fit(recipe, run)


@pytest.mark.parametrize(
    "link", ["logs", "checkpoints", "pictures/val", "logs/csv/from_000000/metrics.csv", "recipe.yaml"]
)
def test_a_run_does_not_go_on_through_a_link(recipe: Recipe, tmp_path: Path, link: str) -> None:
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    for folder in (run / "checkpoints", theirs):
        folder.mkdir(parents=True)
        (folder / "best-000002.ckpt").write_text("weeks of work")
    mark_folder(run, "run of fit", ["recipe.yaml", "checkpoints/*.ckpt"])
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe_dict(recipe), sort_keys=False))
    (theirs / "file").write_bytes((run / "recipe.yaml").read_bytes())
    place = run / link
    remove(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(theirs / "file" if place.suffix else theirs)
    before = everything(theirs)
    with pytest.raises(OutputError, match="is a link; expected files and folders of our own"):
        fit(recipe, run)
    assert everything(theirs) == before


def test_a_second_fit_is_told_who_is_at_work(recipe: Recipe, tmp_path: Path) -> None:
    with hold_folder(tmp_path / "run", "fit"), pytest.raises(BusyError, match=rf"fit.*process {os.getpid()}"):
        fit(recipe, tmp_path / "run")


ALTERED = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "not YAML": b"a: [b",
    "deep": b"- " * 3000 + b"a",
    "large": b"x" * (2 << 20),
}


@pytest.mark.parametrize("content", ALTERED.values(), ids=ALTERED)
def test_an_altered_recipe_is_one_line(
    recipe: Recipe, begun: Path, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (begun / "recipe.yaml").write_bytes(content)
    assert main(["fit", "--config", str(tmp_path / "small.yaml"), "--out", str(begun)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--restart" in told


def altered_checkpoints(good: bytes, folder: Path) -> dict[str, bytes]:
    """Bytes that a checkpoint might hold instead of its own."""
    np.save(folder / "x.npy", np.zeros(3))
    torch.save({"global_step": 2}, folder / "x.pt")
    middle = bytearray(good)
    middle[len(good) // 2] ^= 1
    return {
        "empty": b"",
        "cut": good[: len(good) * 2 // 3],
        "altered": bytes(middle),
        "first byte": b"x" + good[1:],
        "pickle": pickle.dumps({"global_step": 2}),
        "npy": (folder / "x.npy").read_bytes(),
        "text": b"a b c\n" * 100,
        "another's": (folder / "x.pt").read_bytes(),
    }


def test_an_altered_resume_point_is_one_line_and_never_other_weights(
    recipe: Recipe, begun: Path, tmp_path: Path
) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    good = last.read_bytes()
    for name, content in altered_checkpoints(good, tmp_path).items():
        last.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"last\.ckpt.*--restart"):
            fit(recipe, begun)
        assert last.read_bytes() == content, name
    last.write_bytes(good)
    assert fit(recipe, begun).steps == 4


def test_altered_best_weights_are_one_line(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert fit_killed(recipe, run, 3, "after")  # steps 2, weights of 4, 4: all but the Segmenter
    (best,) = (run / "checkpoints").glob("best-*.ckpt")
    good = best.read_bytes()
    for name, content in altered_checkpoints(good, tmp_path).items():
        best.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"best-000004\.ckpt.*--restart"):
            fit(recipe, run)
        assert not (run / "segmenter").exists(), name
    best.unlink()
    with pytest.raises(ArtifactError, match=r"best-000004\.ckpt"):
        fit(recipe, run)
    best.write_bytes(good)
    assert fit(recipe, run).step == 4


def test_a_run_goes_on_with_the_inputs_that_it_began_with(
    recipe: Recipe, begun: Path, own_town: Path, tmp_path: Path
) -> None:
    manifest = own_town / "manifest.parquet"
    image = next(row.image for row in Manifest.load(manifest).rows("train"))
    held = {path: (path.read_bytes(), path.stat()) for path in (image, manifest)}

    def put_back() -> None:
        for path, (content, stat) in held.items():
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    os.utime(image, ns=(1, 1))
    with pytest.raises(RecipeError, match=rf"{image.name} has changed"):
        fit(recipe, begun)
    put_back()
    Path(f"{image}.aux.xml").write_text("<PAMDataset/>")
    with pytest.raises(RecipeError, match=rf"{image.name}\.aux\.xml has changed"):
        fit(recipe, begun)
    Path(f"{image}.aux.xml").unlink()
    rows = Manifest.load(manifest)
    swapped = tuple(
        replace(row, split={"val": "train", "train": "val"}.get(row.split, row.split)) for row in rows.entries
    )
    replace(rows, entries=swapped).save(manifest)
    with pytest.raises(RecipeError, match=r"manifest\.parquet \(data\.manifest\) has changed"):
        fit(recipe, begun)
    put_back()
    assert fit(recipe, begun).steps == 4


def test_a_model_to_begin_with_that_changed_is_told(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "first")
    tuned = replace(recipe, init=str(tmp_path / "first"))
    assert fit_killed(tuned, tmp_path / "run", 1, "after")
    os.utime(tmp_path / "first" / "segmenter" / "model.safetensors", ns=(1, 1))
    with pytest.raises(RecipeError, match=r"model\.safetensors \(init\) has changed"):
        fit(tuned, tmp_path / "run")


def test_a_run_in_the_folder_of_its_model_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "first")
    before = everything(tmp_path / "first")
    with pytest.raises(OutputError, match="would be overwritten"):
        fit(replace(recipe, init=str(tmp_path / "first")), tmp_path / "first", restart=True)
    assert everything(tmp_path / "first") == before


def test_checkpoints_do_not_pass_through_the_temporary_folder(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "temporary").mkdir()
    run_function(fit_without_temporary_files, recipe, tmp_path / "run", tmp_path / "temporary")
    assert (tmp_path / "run" / "segmenter").is_dir()
    assert list((tmp_path / "temporary").rglob("*.ckpt")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]).returncode:
        pytest.skip("no file system can be mounted here")
    return disk


def test_a_full_disk_is_one_line_and_the_run_goes_on_after_room_is_made(recipe: Recipe, small_disk: Path) -> None:
    try:
        run = small_disk / "run"
        with pytest.raises(OutputError, match=r"the disk is full while writing .*last\.ckpt"):
            fit(recipe, run)
        assert list((run / "checkpoints").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
        assert fit(recipe, run).steps == 4
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)
