"""A teacher trained and a student that learns its relations, from recipes to Segmenters."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from geodistill.data.manifest import Manifest, make_spec
from geodistill.errors import RecipeError
from geodistill.methods.method import BuildContext
from geodistill.nn.adapters import adapters_of
from geodistill.nn.logit_losses import relation_inter, relation_intra
from geodistill.segmenter import Segmenter
from geodistill.training.build import build_method
from geodistill.training.fit import fit
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe, recipe_dict

pytestmark = pytest.mark.slow

SHORT = shlex.split(
    "--data.crop 32 --data.batch_size 4 --data.workers 0 --data.mosaic 0 --trainer.accelerator cpu"
    " --trainer.max_steps 10 --trainer.val_every_steps 10 --trainer.pictures 0 --network.width 16"
    " --network.encoder_weights null"
)
TEACHER = ["--network.encoder", "test_vit(adapters=block)"]
STUDENT = ["--network.encoder", "test_resnet"]


@pytest.fixture(scope="module")
def teacher(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "teacher"
    fit(load_recipe("mafl-teacher", [*SHORT, *TEACHER, "--data.manifest", str(town)]), run)
    return run


def student_recipe(town: Path, teacher: Path, *flags: str) -> Any:
    own = ["--data.manifest", str(town), "--teacher.segmenter", str(teacher)]
    return load_recipe("mafl-student", [*SHORT, *STUDENT, *own, *flags])


def test_the_teacher_keeps_its_adapters_and_leaves_its_auxiliary_head(teacher: Path) -> None:
    segmenter = Segmenter.load(teacher)
    adapters = {k: v for k, v in segmenter.state_dict().items() if ".adapter." in k}
    assert len(adapters) == 4 * len(adapters_of(segmenter)) > 0
    assert not any("aux" in key for key in segmenter.state_dict())
    assert segmenter.arguments["encoder"] == "test_vit(adapters=block)"


def test_a_student_is_trained_under_its_teacher(town: Path, teacher: Path, tmp_path: Path) -> None:
    before = (teacher / "segmenter" / "model.safetensors").read_bytes()
    result = fit(student_recipe(town, teacher), tmp_path / "student")
    assert result.steps == 10
    assert (teacher / "segmenter" / "model.safetensors").read_bytes() == before
    segmenter = Segmenter.load(result.segmenter)
    assert not any("teacher" in key or "aux" in key for key in segmenter.state_dict())
    logged = next((tmp_path / "student" / "logs").rglob("metrics.csv")).read_text().splitlines()[0]
    for term in ("ce", "dice", "dist_inter", "dist_intra"):
        assert f"train/{term}" in logged


def test_the_students_terms_are_the_papers(town: Path, teacher: Path) -> None:
    """Eq. 24-27: cross-entropy and Dice of labels, relations with the teacher's logits, no auxiliary term."""
    recipe = student_recipe(town, teacher)
    method = build_method(recipe, BuildContext(make_spec(Manifest.load(town))))
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32) * 200
    mask = torch.randint(0, 3, (2, 32, 32))
    mask[0, :16] = 255
    keys = ["a", "b"]
    batch: Any = {"image": image, "mask": mask, "valid": mask >= 0, "unlabelled": mask < 0, "key": keys, "source": keys}
    method.network.eval()
    output = method.network((image - 100) / 60)
    terms = method.objective(output, batch, 0)
    assert list(terms) == ["ce", "dice", "dist_inter", "dist_intra"]
    assert [method.objective.weight(name, 0) for name in terms] == [1.0] * 4
    with torch.no_grad():
        target = Segmenter.load(teacher)(image)
    torch.testing.assert_close(terms["dist_inter"], relation_inter(output.logits, target, mask))
    torch.testing.assert_close(terms["dist_intra"], relation_intra(output.logits, target, mask))
    changed = output.logits.detach().clone()
    changed[0, :, :16] += torch.randn(3, 16, 32)
    output.logits = changed
    again = method.objective(output, batch, 0)
    assert all(again[name].item() == pytest.approx(terms[name].item(), rel=1e-5) for name in terms)


def test_gradients_of_the_relations_reach_the_student_alone(town: Path, teacher: Path) -> None:
    method = build_method(student_recipe(town, teacher), BuildContext(make_spec(Manifest.load(town))))
    mask = torch.randint(0, 3, (2, 32, 32))
    image = torch.rand(2, 3, 32, 32)
    keys = ["a", "b"]
    batch: Any = {"image": image, "mask": mask, "valid": mask >= 0, "unlabelled": mask < 0, "key": keys, "source": keys}
    terms = method.objective(method.network(image), batch, 0)
    (terms["dist_inter"] + terms["dist_intra"]).backward()
    assert all(p.grad is not None for p in method.network.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.objective.teacher_module().parameters())


def test_without_relations_the_teacher_is_not_needed(town: Path, tmp_path: Path) -> None:
    off = ["--losses.weights.dist_inter", "0", "--losses.weights.dist_intra", "0"]
    method = build_method(student_recipe(town, tmp_path / "none", *off), BuildContext(make_spec(Manifest.load(town))))
    assert list(method.objective.weights) == ["ce", "dice"]


def test_a_teacher_without_classes_is_refused(town: Path) -> None:
    recipe = student_recipe(town, town, "--teacher.segmenter", "null", "--teacher.encoder", "test_resnet")
    with pytest.raises(RecipeError, match=r"teacher\.segmenter"):
        build_method(
            replace(recipe, teacher=replace(recipe.teacher, weights=None)), BuildContext(make_spec(Manifest.load(town)))
        )


def test_a_recipe_is_weighed_with_the_teacher_that_is_here(town: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe_dict(student_recipe(town, teacher))))
    found = inspect(tmp_path / "r.yaml", size=64)
    own = sum(p.numel() for p in Segmenter.load(teacher).parameters())
    assert found.parameters == found.inference_parameters + own
    assert found.trainable == found.inference_parameters
