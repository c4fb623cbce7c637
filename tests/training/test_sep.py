"""SEP runs: what they leave, how they resume, and runs that begin from them."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ddp_sets
from factories import make_dataset
from forked import run_function
from geodistill.cli import main
from geodistill.data.manifest import Manifest, make_spec
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import ArtifactError, RecipeError
from geodistill.methods.method import BuildContext
from geodistill.methods.schema import Recipe
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.fit import fit
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe
from geodistill.training.trainer import SeedSteps
from geodistill.training.warm_start import heads, warm_start

pytestmark = pytest.mark.slow

SHORT = ["--network.encoder", "test_resnet", "--network.encoder_weights", "null", "--trainer.accelerator", "cpu"]
SHORT += ["--data.workers", "0", "--data.crop", "32", "--data.batch_size", "6", "--network.decoder_channels", "32"]
SHORT += ["--trainer.max_steps", "8", "--trainer.val_every_steps", "4", "--trainer.save_every_steps", "3"]


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second set beside the town, of three classes."""
    folder = tmp_path_factory.mktemp("fields")
    make_dataset(folder, 8, height=48, width=48, seed=50)
    scan(
        folder,
        out=folder / "fields.parquet",
        legend=Legend(("wheat", "maize", "fallow")),
        split=SplitPlan(fractions=(0.5, 0.25, 0.25)),
    )
    return folder / "fields.parquet"


def sep_flags(town: Path, fields: Path) -> list[str]:
    return ["--data.manifests", str(town), str(fields), "--data.names", "town", "fields", *SHORT]


@pytest.fixture(scope="module")
def run(town: Path, fields: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sep") / "run"
    fit(load_recipe("sep", sep_flags(town, fields)), out)
    return out


def logged(run: Path, column: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for path in sorted((run / "logs" / "csv").glob("*/metrics.csv")):
        with path.open() as file:
            found |= {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}
    return found


def test_every_sets_score_is_logged_and_their_mean_chooses_the_weights(run: Path) -> None:
    both = [logged(run, f"val/{name}.miou") for name in ("town", "fields")]
    mean = logged(run, "val/miou")
    assert len(mean) == 2
    for step, value in mean.items():
        assert value == pytest.approx((both[0][step] + both[1][step]) / 2)
    whole = Segmenter.load(run)
    assert whole.provenance["scores"]["validation_miou"] == pytest.approx(max(mean.values()))
    best = max(mean, key=lambda step: mean[step])
    for name, own in zip(("town", "fields"), both, strict=True):
        segmenter = Segmenter.load(run / "segmenters" / name)
        assert segmenter.provenance["scores"]["validation_miou"] == pytest.approx(own[best])
        assert segmenter.provenance["set"] == name
    assert sorted(p.name for p in (run / "pictures").iterdir()) == ["fields", "town"]


def test_every_sets_loss_is_logged(run: Path, town: Path, fields: Path, tmp_path: Path) -> None:
    recipe = load_recipe("sep", [*sep_flags(town, fields), "--trainer.max_steps", "10"])
    fit(recipe, tmp_path / "ten")
    (step,) = logged(tmp_path / "ten", "train/loss")
    parts = [logged(tmp_path / "ten", f"train/{name}.ce")[step] for name in ("town", "fields")]
    assert sum(parts) == pytest.approx(logged(tmp_path / "ten", "train/loss")[step], rel=1e-5)


def test_every_set_has_a_segmenter_that_evaluates_and_predicts(run: Path, fields: Path, tmp_path: Path) -> None:
    model = str(run / "segmenters" / "fields")
    assert main(["evaluate", "--model", model, "--manifest", str(fields), "--out", str(tmp_path / "e")]) == 0
    scores = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert scores["about"]["model"] == model
    scene = str(Manifest.load(fields).rows("test")[0].image)
    assert main(["predict", "--model", model, "--input", scene, "--out", str(tmp_path / "map.tif")]) == 0
    names = ("town:ground", "town:building", "fields:wheat", "fields:maize", "fields:fallow")
    whole, own = Segmenter.load(run), Segmenter.load(model)
    assert whole.spec.legend.names == names
    image = torch.full((1, 3, 32, 32), 90.0)
    torch.testing.assert_close(whole(image)[:, 2:], own(image).log_softmax(1))


def interrupted(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, out: Path, at: int) -> None:
    plain = SeedSteps.on_train_batch_start

    def stop(self: SeedSteps, trainer: object, module: object, batch: object, index: int) -> None:
        if trainer.global_step == at:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        plain(self, trainer, module, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SeedSteps, "on_train_batch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, out)


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    run: Path, town: Path, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("sep", sep_flags(town, fields))
    interrupted(monkeypatch, recipe, tmp_path / "cut", at=5)
    assert not (tmp_path / "cut" / "segmenter").exists()
    fit(recipe, tmp_path / "cut")
    assert len(list((tmp_path / "cut" / "logs" / "csv").iterdir())) == 2
    assert logged(tmp_path / "cut", "val/miou")[7] == pytest.approx(logged(run, "val/miou")[7], rel=1e-3)
    image = torch.full((1, 3, 32, 32), 90.0)
    torch.testing.assert_close(
        Segmenter.load(tmp_path / "cut")(image), Segmenter.load(run)(image), rtol=1e-3, atol=1e-3
    )


def test_all_but_the_heads_is_taken_over(run: Path, fields: Path) -> None:
    recipe = load_recipe("sep-finetune", ["--data.manifest", str(fields), *SHORT])
    spec = make_spec(Manifest.load(fields))
    method = build_method(recipe, BuildContext(spec))
    before = {key: value.clone() for key, value in method.network.state_dict().items()}
    begun = warm_start(str(run / "segmenter"), method, spec)
    source = Segmenter.load(run).network.network.state_dict()
    after = method.network.state_dict()
    fresh = {"heads.0.classifier.weight", "heads.0.classifier.bias"}
    assert set(begun.fresh) == fresh
    assert set(begun.loaded) == set(after) - fresh
    for key, value in after.items():
        assert torch.equal(value, before[key] if key in fresh else source[key]), key
    assert sum(begun.loaded.values()) + sum(begun.fresh.values()) == sum(p.numel() for p in method.network.parameters())
    assert begun.lines()[1].endswith("(heads.town.classifier, heads.fields.classifier)")


def test_fit_prints_what_was_loaded_and_fine_tunes(
    run: Path, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "--config", "sep-finetune", "--data.manifest", str(town), "--init", str(run / "segmenter")]
    assert main([*command, "--out", str(tmp_path / "ft"), *SHORT]) == 0
    normalised, *told = capsys.readouterr().err.splitlines()
    assert normalised == f"input normalised by the statistics of {run / 'segmenter'}"
    assert told[0].startswith(f"from {run / 'segmenter'}: loaded 138 tensors, ")
    assert told[1].startswith("  skipped 4 tensors, ")
    assert told[2].endswith("(heads.0.classifier)")
    tuned = Segmenter.load(tmp_path / "ft")
    assert tuned.spec.legend.names == ("ground", "building")
    assert tuned.provenance["recipe"]["init"] == str(run / "segmenter")


def test_a_supervised_run_begins_from_a_supervised_one(town: Path, fields: Path, tmp_path: Path) -> None:
    first = ["--network.architecture", "upernet", *SHORT, "--trainer.max_steps", "1"]
    fit(load_recipe("supervised-folder", ["--data.manifest", str(town), *first]), tmp_path / "first")
    recipe = load_recipe("supervised-folder", ["--data.manifest", str(fields), *first])
    spec = make_spec(Manifest.load(fields))
    begun = warm_start(str(tmp_path / "first"), build_method(recipe, BuildContext(spec)), spec)
    assert set(begun.fresh) == {"decoder.head.classifier.weight", "decoder.head.classifier.bias"}


@pytest.mark.parametrize(
    ("name", "teacher"),
    [
        ("ktda-folder", ["--teacher.encoder", "test_vit", "--teacher.weights", "null"]),
        ("kda-landslide", []),
        ("supervised-folder", []),
        ("sep", ["--network.architecture", "mask2former"]),
    ],
)
def test_of_every_methods_network_a_few_tensors_are_the_head(name: str, teacher: list[str]) -> None:
    flags = ["--network.encoder", "test_resnet", "--network.encoder_weights", "null", *teacher]
    spec = Spec(Legend(("a", "b", "c")), ("r", "g", "b"))
    with torch.device("meta"):
        method = build_method(load_recipe(name, flags), BuildContext(spec))
    found = heads(method.name, method.arguments, spec)
    assert 1 <= len(found) <= 4
    assert found < set(method.network.state_dict())
    assert not any(key.startswith("encoder.") for key in found)


@pytest.mark.parametrize("architecture", ["unet", "upernet", "mask2former"])
def test_of_several_sets_every_ones_head_is_one(architecture: str) -> None:
    arguments = {"architecture": architecture, "encoder": "test_resnet", "sets": {"town": 2, "fields": 3}}
    spec = Spec(Legend(tuple("abcde")), ("r", "g", "b"))
    of_first = {key for key in heads("sep", arguments, spec) if key.startswith("heads.0.")}
    of_second = {key.replace("heads.0.", "heads.1.") for key in of_first}
    assert 1 <= len(of_first) <= 4
    assert heads("sep", arguments, spec) == of_first | of_second


@pytest.mark.parametrize(
    ("config", "flags", "says"),
    [
        (
            "sep-finetune",
            ["--network.encoder", "test_convnext"],
            r"differs in more than its heads: encoder\.\S+ is missing",
        ),
        ("sep-finetune", ["--network.decoder_channels", "64"], r"is \(\d.*, not \("),
        ("supervised-folder", [], "a sep network of unet on test_resnet, differs in more than its heads"),
    ],
)
def test_more_than_other_heads_is_an_error_that_names_the_first_tensors(
    run: Path, town: Path, config: str, flags: list[str], says: str
) -> None:
    recipe = load_recipe(config, ["--data.manifest", str(town), *SHORT, *flags])
    spec = make_spec(Manifest.load(town))
    method = build_method(recipe, BuildContext(spec))
    before = {key: value.clone() for key, value in method.network.state_dict().items()}
    with pytest.raises(ArtifactError, match=says):
        warm_start(str(run), method, spec)
    assert all(torch.equal(value, before[key]) for key, value in method.network.state_dict().items())


def test_an_encoder_that_pads_otherwise_is_refused_though_its_weights_fit(town: Path, tmp_path: Path) -> None:
    spec = make_spec(Manifest.load(town))
    flags = ["--data.manifest", str(town), *SHORT, "--network.encoder"]
    old = build_method(load_recipe("sep-finetune", [*flags, "test_efficientnet(pad_type=same)"]), BuildContext(spec))
    Segmenter.from_network(old.name, old.arguments, spec, old.network.state_dict(), 32, {}).save(tmp_path / "old")
    new = build_method(load_recipe("sep-finetune", [*flags, "test_efficientnet"]), BuildContext(spec))
    with pytest.raises(ArtifactError, match=r"use --network.encoder 'test_efficientnet\(pad_type=same\)'"):
        warm_start(str(tmp_path / "old"), new, spec)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data.batch_size", "1"], "give set"),
        (["--data.names", "town"], "1 data.names for 2"),
        (["--data.fraction", "0.01"], "labelled training windows, which is less than one"),
        (["--losses.weights.kd", "1", "--teacher.encoder", "test_resnet"], "kd with data.manifests"),
        (["--init", "nowhere"], "no Segmenter in nowhere"),
    ],
)
def test_mistakes_end_with_status_2_and_write_nothing(
    town: Path, fields: Path, tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "--config", "sep", *sep_flags(town, fields), "--out", str(tmp_path / "run"), *flags]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_fraction_is_told_and_trained_on(fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data.manifest", str(fields), "--data.fraction", "0.3", *SHORT, "--trainer.max_steps", "1"]
    assert main(["fit", "--config", "sep-finetune", *flags, "--out", str(tmp_path / "few")]) == 0
    # Four images of 64 pixels are four windows each of the crop's 32.
    told = "5 of 16 labelled training windows (30 %, seed 2023, by classes) in "
    assert re.search(rf"{re.escape(told)}\d images with 3 of the 3 classes", capsys.readouterr().err)


def test_recipes_are_weighed_with_all_their_parameters(run: Path) -> None:
    assert inspect("sep", 64).parameters == 23_508_032 + 20_315_904 + 64 * 2 * 9 + 2
    made, planned = inspect(run, 64), inspect(run / "recipe.yaml", 64)
    assert made.classes == planned.classes == 5
    assert made.modules == planned.modules
    assert set(made.modules) == {"encoder", "decoder", "heads"}


def test_a_manifest_and_manifests_are_one_of_both(town: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.manifest beside data\.manifests"):
        fit(load_recipe("sep", ["--data.manifest", str(town), "--data.manifests", str(town), *SHORT]), "never")


def test_two_processes_equal_one_with_the_doubled_batch(town: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(town)
    rows = [replace(row, split="train") for row in manifest.entries]
    paths = []
    for name, own in (("a", rows[:4]), ("b", rows[4:])):
        paths.append(str(replace(manifest, entries=tuple(own)).save(tmp_path / f"{name}.parquet").path))
    gradients = []
    for processes, batch in ((1, 10), (2, 5)):
        out = tmp_path / f"{processes}_{batch}.pt"
        if processes == 1:
            ddp_sets.main(processes, batch, out, paths)
        else:
            run_function(ddp_sets.main, processes, batch, out, paths)
        gradients.append(torch.load(out, weights_only=True))
    one, two = gradients
    for name, gradient in one.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6)


def test_one_set_among_the_manifests_has_a_segmenter_of_its_name(town: Path, tmp_path: Path) -> None:
    fit(load_recipe("sep", ["--data.manifests", str(town), "--data.names", "town", *SHORT]), tmp_path)
    found, whole = (Segmenter.load(tmp_path / place) for place in ("segmenters/town", "segmenter"))
    assert found.spec.legend == whole.spec.legend
    assert found.provenance["set"] == "town"
    image = torch.rand(1, 3, 32, 32) * 255
    assert torch.equal(found(image), whole(image))
