"""Every distillation term under every method's student, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.lazy import load
from geodistill.methods import distillation
from geodistill.methods.distillation import DistillationObjective, counted_pixels
from geodistill.methods.method import FEATURE_LOSSES, LOGIT_LOSSES, BuildContext, Method
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.task import SegmentationTask
from geodistill.nn.feature_losses import feature_kd
from geodistill.nn.logit_losses import channel_wise_kd, logit_kd, relation_inter, relation_intra
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.recipe import load_recipe

SPEC = Spec(Legend(("a", "b", "c")), ("red", "green", "blue"), (100.0,) * 3, (50.0,) * 3)
KINDS = (*LOGIT_LOSSES, *FEATURE_LOSSES)
LIGHT = {"encoder": "test_convnext", "encoder_weights": None}

STUDENTS: dict[str, dict[str, Any]] = {
    "supervised": {"method": "supervised", "network": {"architecture": "fcn", "decoder_channels": 8} | LIGHT},
    "ktda": {
        "method": "ktda",
        "network": {"decode_from": "encoder", "decoder": "unet", "decoder_channels": 8} | LIGHT,
    },
    "kda": {"method": "kda", "network": {"decoder_channels": 16} | LIGHT},
    "maflnet": {"method": "maflnet", "network": {"width": 16} | LIGHT},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Segmenter of the same classes, with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "segmenter"
    Segmenter("supervised", {"architecture": "unet", "encoder": "test_resnet"}, SPEC, 64, {}).save(path)
    return path


def method(tmp_path: Path, student: str, weights: dict[str, float], teachers: dict[str, Any]) -> Method:
    torch.manual_seed(0)
    recipe = {**STUDENTS[student], **teachers, "losses": {"weights": weights}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return build_method(load_recipe(path), BuildContext(SPEC))


def batch(unlabelled: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = 200 * torch.rand(2, 3, 64, 64, generator=generator)
    mask = torch.randint(0, 3, (2, 64, 64), generator=generator)
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    mask[0, :20], valid[0, :10] = 255, False
    if unlabelled:
        mask[1], valid[1, :, :5] = 255, False
    without = valid & torch.tensor([False, unlabelled])[:, None, None]
    keys = ["x", "y"]
    return {"image": image, "mask": mask, "valid": valid, "unlabelled": without, "key": keys, "source": keys}


def terms(built: Method, given: Batch) -> tuple[Any, dict[str, torch.Tensor]]:
    output = built.network((given["image"] - 100) / 50)
    return output, built.objective(output, given, 0)


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_every_term_can_be_switched_on_for_every_student(tmp_path: Path, trained: Path, student: str) -> None:
    weights = dict.fromkeys(KINDS, 0.5)
    built = method(tmp_path, student, weights, {"teacher": {"segmenter": str(trained)}})
    output, found = terms(built, batch())
    assert set(KINDS) < set(found)
    assert all(built.objective.weight(name, 0) == 0.5 for name in KINDS)
    assert {"ce"} <= set(found) - set(KINDS)
    torch.stack([found[kind] for kind in KINDS]).sum().backward()
    gradients = [p.grad for p in built.network.encoder.parameters() if p.requires_grad]
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert built.adapters is not None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for n, p in built.adapters.named_parameters())
    assert not any(p.requires_grad for teacher in built.teachers.values() for p in teacher.module.parameters())
    keys = set(Segmenter(built.name, built.arguments, SPEC, 64, {}).network.network.state_dict())
    assert keys <= set(built.network.state_dict())
    del output


@pytest.mark.slow
def test_terms_are_those_of_the_formulas(tmp_path: Path, trained: Path) -> None:
    weights = dict.fromkeys(KINDS, 1.0)
    built = method(tmp_path, "supervised", weights, {"teacher": {"segmenter": str(trained), "logits_stride": 4}})
    given = batch()
    output, found = terms(built, given)
    teacher, objective = built.teachers["teacher"], built.objective
    assert isinstance(objective, DistillationObjective)
    target = teacher.targets(given)
    assert target.logits is not None
    own = torch.nn.functional.avg_pool2d(output.logits, 4)
    mask = given["mask"][:, ::4, ::4]
    torch.testing.assert_close(found["kd"], logit_kd(own, target.logits, mask, 1.0))
    torch.testing.assert_close(found["cwd"], channel_wise_kd(own, target.logits, 4.0, mask))
    torch.testing.assert_close(found["dist_inter"], relation_inter(own, target.logits, mask))
    torch.testing.assert_close(found["dist_intra"], relation_intra(own, target.logits, mask))
    maps = built.network.encoder((given["image"] - 100) / 50)
    match: Any = objective.matches["teacher"]
    places = [tuple(target.features[level].shape[-2:]) for _, level in match.pairs]
    aligned = match.align([maps[own_level] for own_level, _ in match.pairs], places)
    torch.testing.assert_close(found["feature"], feature_kd(aligned, [target.features[t] for _, t in match.pairs]))


def test_terms_are_computed_in_the_same_order_in_every_process(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = dict.fromkeys(sorted(LOGIT_LOSSES), 1.0)
    built = method(tmp_path, "supervised", weights, {"teacher": {"segmenter": str(trained), "logits_stride": 4}})
    places = list[str]()
    monkeypatch.setattr(distillation, "load", lambda place: [places.append(place), load(place)][1])
    _, found = terms(built, batch())
    assert places == [LOGIT_LOSSES[name] for name in found if name in LOGIT_LOSSES]


def test_the_relations_factors_rise_where_a_warm_up_is_asked_for(tmp_path: Path, trained: Path) -> None:
    recipe = STUDENTS["supervised"] | {
        "teacher": {"segmenter": str(trained)},
        "losses": {"weights": {"dist_inter": 2.0, "dist_intra": 1.0, "kd": 1.0}, "dist_warmup_steps": 10},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    weight = build_method(load_recipe(path), BuildContext(SPEC)).objective.weight
    assert [weight("dist_inter", step) for step in (0, 5, 10, 99)] == [0.0, 1.0, 2.0, 2.0]
    assert [weight("dist_intra", 5), weight("kd", 0), weight("ce", 0)] == [0.5, 1.0, 1.0]


def test_several_teachers_each_have_their_terms(tmp_path: Path, trained: Path) -> None:
    teachers = {
        "teacher": {"encoder": "test_vit", "weights": None},
        "teachers": {"big": {"segmenter": str(trained)}, "wide": {"encoder": "test_resnet", "weights": None}},
    }
    weights = {"ce": 0.25, "feature": 1.0, "big.kd": 2.0, "big.feature": 3.0, "wide.feature": 0.0}
    built = method(tmp_path, "supervised", weights, teachers)
    _, found = terms(built, batch())
    assert set(found) == {"ce", "feature", "big.kd", "big.feature"}
    assert found["feature"] != found["big.feature"]
    assert [built.objective.weight(name, 9) for name in ("ce", "big.kd", "big.feature")] == [0.25, 2.0, 3.0]
    assert sorted(built.teachers) == ["big", "teacher"]
    module = built.objective.teacher_module()
    assert module is not None
    assert len(list(module.children())) == 2


def test_a_methods_own_teacher_serves_the_bench_too(tmp_path: Path, trained: Path) -> None:
    built = method(tmp_path, "ktda", {"kd": 1.0, "kt_mse": 1.0}, {"teacher": {"segmenter": str(trained)}})
    _, found = terms(built, batch())
    assert found["kd"] > 0
    assert found["kt_mse"] > 0
    assert len(built.teachers) == 1


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_a_students_maps_are_of_the_whole_image_whatever_size_its_encoder_sees(
    tmp_path: Path, trained: Path, scale: float
) -> None:
    recipe = STUDENTS["supervised"] | {"teacher": {"segmenter": str(trained)}, "losses": {"weights": {"feature": 1.0}}}
    recipe["network"] = recipe["network"] | {"scale": scale}
    torch.manual_seed(0)
    built = build_method(load_recipe(recipe), BuildContext(SPEC))
    given = batch()
    for name in ("image", "mask", "valid", "unlabelled"):
        given[name] = given[name][..., :60]
    seen: list[list[torch.Tensor]] = []
    objective: Any = built.objective
    match = objective.matches["teacher"]
    match.align.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    terms(built, given)
    sides = (round(64 * scale), round(60 * scale))
    sized = F.interpolate((given["image"] - 100) / 50, sides, mode="bilinear", align_corners=False)
    padded = F.pad(sized, (0, -sides[1] % 32, 0, -sides[0] % 32))
    maps = built.network.encoder(padded)
    for found, (level, _) in zip(seen[0], match.pairs, strict=True):
        stride = built.network.encoder.strides[level]
        content = maps[level][..., : -(-sides[0] // stride), : -(-sides[1] // stride)]
        expected = F.interpolate(content, (-(-64 // stride), -(-60 // stride)), mode="bilinear", align_corners=False)
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_unlabelled_images_count_with_every_valid_pixel(tmp_path: Path, trained: Path) -> None:
    given = batch(unlabelled=True)
    mask = counted_pixels(given)
    assert torch.equal(mask[0], given["mask"][0])
    assert torch.equal(mask[1] != 255, given["valid"][1])
    left_out = batch()
    left_out["mask"][1] = 255  # a crop of a labelled image that its annotator left out
    assert torch.equal(counted_pixels(left_out), left_out["mask"])
    built = method(tmp_path, "supervised", {"kd": 1.0}, {"teacher": {"segmenter": str(trained)}})
    assert built.uses_unlabelled()
    assert not method(tmp_path, "supervised", {"ce": 1.0}, {}).uses_unlabelled()
    teacher = {"teacher": {"encoder": "test_resnet", "weights": None}}
    assert not method(tmp_path, "ktda", {"kt_mse": 0.0, "kt_kl": 0.0}, teacher).uses_unlabelled()
    assert method(tmp_path, "ktda", {"kt_mse": 0.5}, teacher).uses_unlabelled()


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradient_balance"])
def test_weightings_are_trained_and_saved_beside_the_network(tmp_path: Path, trained: Path, weighting: str) -> None:
    recipe = STUDENTS["supervised"] | {
        "teacher": {"segmenter": str(trained)},
        "losses": {"weights": {"kd": 1.0, "feature": 1.0}, "weighting": weighting},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    built = build_method(load_recipe(path), BuildContext(SPEC))
    task = SegmentationTask(built, SPEC, OptimizerConfig(), ScheduleConfig(), 10)
    trained_keys = {name.split(".")[0] for name in task.state_dict()}
    assert trained_keys == {"network", "adapters"} | ({"weighting"} if weighting != "fixed" else set())
    optimised = {id(p) for g in task.configure_optimizers()["optimizer"].param_groups for p in g["params"]}
    assert optimised == {id(p) for p in task.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("weights", "teachers", "kind", "says"),
    [
        ({"kd": 1.0}, {}, RecipeError, "kd in a recipe without teacher"),
        ({"big.kd": 1.0}, {}, RecipeError, r"set teachers\.big\.segmenter"),
        ({"ce": 1.0}, {"teacher": {"encoder": "test_resnet", "weights": None}}, RecipeError, "no loss term asks"),
        ({"kd": 1.0}, {"teacher": {"encoder": "test_resnet", "weights": None}}, RecipeError, "loss on logits"),
        ({"dk": 1.0}, {}, UnknownNameError, "such as kd|one of .*kd"),
        ({"a-b.kd": 1.0}, {"teachers": {"a-b": {"encoder": "test_resnet"}}}, RecipeError, "letters and digits"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, weights: dict[str, float], teachers: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        method(tmp_path, "supervised", weights, teachers)


def test_a_factor_of_zero_leaves_term_and_teacher_out(tmp_path: Path) -> None:
    built = method(tmp_path, "supervised", {"kd": 0.0}, {"teacher": {"segmenter": "nowhere"}})
    assert built.teachers == {}
    assert built.objective.teacher_module() is None
