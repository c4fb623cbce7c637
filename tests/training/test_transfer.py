"""KTDA through `fit`: the transfer phase before the labels, its resume, and what is left of it in the Segmenter."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from geodistill.data.manifest import Manifest, make_spec
from geodistill.errors import ArtifactError
from geodistill.segmenter import Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from killed_fit import fit_killed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twin(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a phase of transfer, then labels with a decaying transfer term, in seconds."""
    path = tmp_path_factory.mktemp("twin") / "twin.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "ktda",
                "data": {"manifest": str(town), "crop": 64, "batch_size": 4, "workers": 0},
                "network": {
                    "encoder": "test_resnet",
                    "encoder_weights": None,
                    "decode_from": "encoder",
                    "align": "none",
                    "decoder": "unet",
                },
                "teacher": {"encoder": "test_resnet", "weights": None},
                "losses": {
                    "target_norm": "standardised",
                    "weights": {"kt_mse": 0.5, "kt_kl": 0.1},
                    "transfer_decay": "linear",
                    "transfer_end": 10,
                    "phase": {"steps": 20, "lr": 0.01, "forced": 0.5},
                },
                "optimizer": {"lr": 2e-3},
                "trainer": {
                    "max_steps": 10,
                    "val_every_steps": 10,
                    "save_every_steps": 10,
                    "gradient_norms_every": 10,
                    "accelerator": "cpu",
                },
            }
        )
    )
    return path


@pytest.fixture(scope="module")
def whole(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of it that nobody stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(load_recipe(twin), run)
    return run


def logged(folder: Path, column: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for path in sorted(folder.glob("csv/*/metrics.csv")):
        with path.open() as file:
            found |= {int(r["step"]): float(r[column]) for r in csv.DictReader(file) if r.get(column)}
    return found


def test_transfer_goes_before_the_labels_and_leaves_nothing_behind(whole: Path) -> None:
    phase = logged(whole / "logs" / "transfer", "transfer/kt_mse")
    assert sorted(phase) == [9, 19]
    assert phase[19] < phase[9]
    terms = {name: logged(whole / "logs", f"train/{name}") for name in ("ce", "aux", "kt_mse", "kt_kl")}
    assert all(sorted(term) == [9] for term in terms.values())
    # The labelled steps begin with the encoder that the transfer left.
    assert terms["kt_mse"][9] < phase[9]
    norms = {name: logged(whole / "logs", f"gradient/{name}") for name in ("ce", "kt_mse")}
    assert all(norm > 0 for term in norms.values() for norm in term.values())
    keys = set(Segmenter.load(whole).network.network.state_dict())
    assert not any(part in key for key in keys for part in ("aux", "fam", "teacher"))


def test_a_run_killed_in_its_transfer_resumes_there(twin: Path, whole: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    assert fit_killed(load_recipe(twin), killed, 1, "after")
    fit(load_recipe(twin), killed)
    assert len(list((killed / "logs" / "transfer" / "csv").iterdir())) == 2
    for folder, column in (("logs/transfer", "transfer/kt_mse"), ("logs", "train/loss")):
        straight, resumed = logged(whole / folder, column), logged(killed / folder, column)
        assert set(straight) == set(resumed)
        for step, value in resumed.items():
            assert value == pytest.approx(straight[step], rel=1e-3), (column, step)


def test_a_finished_transfer_is_not_repeated(twin: Path, whole: Path, tmp_path: Path) -> None:
    recipe, run = load_recipe(twin), tmp_path / "run"
    shutil.copytree(whole, run)
    expected = Segmenter.load(whole)(torch.full((1, 3, 64, 64), 100.0))
    # As if the run had been killed after its transfer and before its first resume point with labels.
    (best,) = (run / "checkpoints").glob("best-*.ckpt")
    for path in (*(run / "segmenter").iterdir(), run / "checkpoints" / "last.ckpt", best):
        path.unlink()
    (run / "segmenter").rmdir()
    second = fit(recipe, run)
    assert not (run / "logs" / "transfer" / "csv" / "from_000020" / "metrics.csv").exists()
    torch.testing.assert_close(
        Segmenter.load(second.segmenter)(torch.full((1, 3, 64, 64), 100.0)), expected, rtol=1e-3, atol=1e-3
    )


def test_a_student_without_weights_learns_the_features_of_a_segmenter_then_what_that_one_sees(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the recipe's own ./runs/teacher is not there
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    torch.manual_seed(0)
    Segmenter("supervised", arguments, make_spec(Manifest.load(town)), 64, {}).save(tmp_path / "teacher")
    keys = {"data.manifest": town, "data.unlabelled": town, "data.crop": 64, "data.batch_size": 4, "data.workers": 0}
    keys |= {"network.encoder": "test_resnet", "network.decoder_channels": 16, "trainer.accelerator": "cpu"}
    keys |= {"losses.phase.steps": 20, "losses.phase.lr": 0.01, "trainer.max_steps": 10, "trainer.pictures": 0}
    with pytest.raises(ArtifactError, match=r"no Segmenter in ./runs/teacher"):
        fit(load_recipe("ktda-taught", keys), tmp_path / "run")
    fit(load_recipe("ktda-taught", keys | {"teacher.segmenter": tmp_path / "teacher"}), tmp_path / "run")
    phase = logged(tmp_path / "run/logs/transfer", "transfer/kt_mse")
    assert phase[19] < phase[9]
    assert sorted(logged(tmp_path / "run/logs", "train/pseudo")) == [9]
    assert "self-training used 100.0 % of" in capsys.readouterr().err
