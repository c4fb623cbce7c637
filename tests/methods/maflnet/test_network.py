"""MAFLNet whole: published counts and shapes, what is trained, the rows of the ablation, presets."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from built import build_maflnet
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.maflnet.lhfem import LhfemConfig
from geodistill.methods.maflnet.maca import MacaConfig
from geodistill.methods.maflnet.network import MaflNetwork, MaflNetworkConfig
from geodistill.methods.maflnet.training import MaflLossConfig
from geodistill.methods.method import Method
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.task import SegmentationTask
from geodistill.nn.adapters import adapters_of
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("a", "b", "c")), ("r", "g", "b"), (110.0,) * 3, (50.0,) * 3)
TINY = MaflNetworkConfig("test_resnet", None, width=16)
TEACHER = MaflNetworkConfig("sam2_hiera_tiny(adapters=block)", None, trained="adapters", width=16)
OFF = {"enabled": False}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def batch(size: int = 64) -> Any:
    torch.manual_seed(0)
    mask = torch.randint(0, 3, (2, size, size))
    return {"image": torch.rand(2, 3, size, size) * 255, "mask": mask, "key": ["a", "b"]}


def run(method: Method, data: Any) -> dict[str, torch.Tensor]:
    return method.objective(method.network((data["image"] - 110) / 50), data, 0)


@pytest.mark.slow
def test_the_student_has_the_published_parameters() -> None:
    with torch.device("meta"):
        assert count(MaflNetwork(3, 6, auxiliary=False)) == 12_520_486
        assert count(MaflNetwork(3, 5, auxiliary=False)) == 12_520_229
        assert count(MaflNetwork(3, 6)) == 12_522_028
        assert count(MaflNetwork(3, 6, aux_head="conv")) == 12_522_028 + 256 * 256 * 9 + 2 * 256
        student = MaflNetwork(3, 6, auxiliary=False, maca={"neighbourhood": "grid"})
    assert count(student) == 12_520_486
    assert count(student.encoder) == 3_319_392
    assert [count(m) for m in (*student.maca, *student.lhfem)] == [657_261] * 4 + [133_891] * 4


@pytest.mark.parametrize(("place", "total", "trained"), [("block", 223.49, 11.34), ("stage", 221.85, 9.70)])
def test_the_teacher_has_the_published_parameters(place: str, total: float, trained: float) -> None:
    with torch.device("meta"):
        teacher = MaflNetwork(3, 6, encoder=f"sam2_hiera_large(adapters={place})", trained="adapters")
    trainable = [p for p in teacher.parameters() if p.requires_grad]
    assert round(count(teacher) / 1e6, 2) == total
    assert round(sum(p.numel() for p in trainable) / 1e6, 2) == trained
    frozen = sum(p.numel() for p in teacher.encoder.parameters() if not p.requires_grad)
    assert frozen == 212_149_296


def test_the_printed_teacher_has_an_adapter_before_each_of_four_levels() -> None:
    with torch.device("meta"):
        encoder = MaflNetwork(3, 6, encoder="sam2_hiera_tiny(adapters=stage)", trained="adapters").encoder
    widths = [adapter.mlp[0].in_features for adapter in adapters_of(encoder)]
    assert widths == [96, 96, 192, 384]  # of what enters the first block of each level
    assert (encoder.channels, encoder.strides) == ((96, 192, 384, 768), (4, 8, 16, 32))
    # An adapter of width d: d x 32 + 32 and 32 x d + d.
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == sum(65 * d + 32 for d in widths)


@pytest.mark.slow
def test_published_shapes_at_512() -> None:
    with torch.device("meta"):
        network = MaflNetwork(3, 6).train()
        seen: dict[str, list[tuple[int, ...]]] = {"maca": [], "lhfem": [], "ups": [], "encoder": []}
        for name, shapes in seen.items():
            for module in getattr(network, name) if name != "encoder" else [network.laterals]:
                for part in module if name == "encoder" else [module]:
                    hooked = lambda m, args, out, shapes=shapes: shapes.append(tuple(args[0].shape[1:]))  # noqa: E731
                    part.register_forward_hook(hooked)
        output = network(torch.zeros(1, 3, 512, 512).expand(2, -1, -1, -1))
    assert seen["encoder"] == [(32, 128, 128), (64, 64, 64), (160, 32, 32), (256, 16, 16)]
    assert seen["maca"] == seen["lhfem"] == [(256, 128, 128), (256, 64, 64), (256, 32, 32), (256, 16, 16)]
    assert seen["ups"] == [(256, 16, 16), (256, 32, 32), (256, 64, 64)]
    assert output.logits.shape == (2, 6, 512, 512)
    assert output.aux["aux"].shape == (2, 6, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("maca", "lhfem", "parameters"),
    [(OFF, OFF, 9_355_878), ({}, OFF, 11_984_922), (OFF, {}, 9_891_442), ({}, {}, 12_520_486)],
)
def test_maca_and_lhfem_can_be_switched_off(maca: Any, lhfem: Any, parameters: int) -> None:
    with torch.device("meta"):
        network = MaflNetwork(3, 6, maca=maca, lhfem=lhfem, auxiliary=False)
    assert count(network) == parameters
    names = " ".join(network.state_dict())
    assert ("maca." in names, "lhfem." in names) == (maca == {}, lhfem == {})


def test_lhfem_stands_on_the_laterals_or_on_the_decoders_maps() -> None:
    image, calls = torch.randn(2, 3, 64, 64), {}
    for place in ("laterals", "decoder"):
        torch.manual_seed(0)
        network = MaflNetwork(3, 2, encoder="test_resnet", width=16, lhfem={"place": place}).eval()
        order: list[str] = []
        for kind in ("lhfem", "ups"):
            for module in getattr(network, kind):
                module.register_forward_hook(lambda m, args, out, kind=kind, order=order: order.append(kind))
        with torch.no_grad():
            network(image)
        calls[place] = order, count(network)
    assert calls["laterals"][0] == ["lhfem"] * 4 + ["ups"] * 3
    assert calls["decoder"][0] == ["lhfem", *["ups", "lhfem"] * 3]
    assert calls["laterals"][1] == calls["decoder"][1]  # what 12.52 million parameters cannot tell apart


@pytest.mark.slow
def test_only_adapters_of_a_frozen_trunk_learn() -> None:
    torch.manual_seed(0)
    method = build_maflnet(SPEC, TEACHER, MaflLossConfig())
    network = method.network.train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        sum(run(method, batch()).values()).backward()
        optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in moved if name.startswith("encoder.")} == {
        f"encoder.{name}" for name, p in network.encoder.named_parameters() if ".adapter." in name
    }
    assert not network.encoder.training
    assert network.head.training


@pytest.mark.parametrize("trained", ["adapters", "all"])
def test_adapters_learn_at_the_rate_of_new_modules(trained: Any) -> None:
    method = build_maflnet(SPEC, replace(TEACHER, trained=trained), MaflLossConfig())
    rates = OptimizerConfig(lr=6e-4, encoder_lr=6e-5)
    task = SegmentationTask(method, SPEC, rates, ScheduleConfig(), 10)
    groups = task.configure_optimizers()["optimizer"].param_groups
    rate_of = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    named = {name: rate_of[id(p)] for name, p in method.network.named_parameters() if p.requires_grad}
    slow = {name for name, rate in named.items() if rate == 6e-5}
    assert slow == {name for name in named if name.startswith("encoder.") and ".adapter." not in name}
    assert all(rate == 6e-4 for name, rate in named.items() if name not in slow)
    assert bool(slow) == (trained == "all")


def test_what_is_trained_of_the_encoder() -> None:
    frozen = MaflNetwork(3, 2, encoder="test_resnet", width=16, trained="none").train()
    assert not any(p.requires_grad for p in frozen.encoder.parameters())
    frozen(torch.randn(2, 3, 64, 64)).logits.mean().backward()
    assert frozen.laterals[0][0].weight.grad is not None
    assert all(p.requires_grad for p in MaflNetwork(3, 2, encoder="test_resnet", width=16).encoder.parameters())
    with pytest.raises(RecipeError, match="adapters=block"):
        MaflNetwork(3, 2, encoder="test_resnet", width=16, trained="adapters")


@pytest.mark.parametrize("encoder", ["test_resnet", "test_convnext", "test_vit", "mit_b0"])
def test_any_encoder_serves_at_any_size(encoder: str) -> None:
    network = MaflNetwork(4, 3, encoder=encoder, width=16).eval()
    with torch.no_grad():
        for size in ((32, 32), (65, 97), (20, 130)):
            output = network(torch.randn(1, 4, *size))
            assert output.logits.shape == (1, 3, *size)
            assert torch.isfinite(output.logits).all()
            assert output.aux["aux"].shape[-2:] == (-(-size[0] // 8), -(-size[1] // 8))


def test_the_auxiliary_head_reads_the_sum_of_the_inner_maps() -> None:
    network = MaflNetwork(3, 2, encoder="test_resnet", width=16).eval()
    maps = [torch.randn(1, 16, side, side) for side in (2, 4, 8)]
    up = [nn.functional.interpolate(m, size=(8, 8), mode="bilinear", align_corners=False) for m in maps]
    with torch.no_grad():
        expected = network.aux_head.classifier(up[0] + up[1] + up[2])
        torch.testing.assert_close(network.aux_head(maps), expected)


def test_terms_and_auxiliary_head_follow_the_weights() -> None:
    teacher = build_maflnet(SPEC, TINY, MaflLossConfig())
    assert list(run(teacher, batch())) == ["ce", "dice", "aux"]
    assert teacher.objective.weights == {"ce": 1.0, "dice": 1.0, "aux": 1.0}
    student = build_maflnet(SPEC, TINY, MaflLossConfig(weights={"aux": 0.0}))
    assert list(run(student, batch())) == ["ce", "dice"]
    assert student.network.aux_head is None
    assert student.objective.weights == {"ce": 1.0, "dice": 1.0}
    terms = run(teacher, batch())
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in teacher.network.parameters())


def test_a_trained_network_becomes_a_segmenter_and_comes_back(tmp_path: Any) -> None:
    method = build_maflnet(SPEC, replace(TINY, maca=MacaConfig(heads=4, neighbourhood="grid")), MaflLossConfig())
    segmenter = Segmenter.from_network("maflnet", method.arguments, SPEC, method.network.state_dict(), 64, {})
    segmenter.save(tmp_path / "s")
    image = batch()["image"]
    method.network.eval()
    with torch.no_grad():
        logits = Segmenter.load(tmp_path / "s")(image)
        torch.testing.assert_close(logits, method.network((image - 110) / 50).logits, atol=1e-4, rtol=1e-4)


def test_wrong_choices_are_refused() -> None:
    for wrong in ({"trained": "head"}, {"aux_head": "deep"}, {"lhfem": LhfemConfig(place="encoder")}):
        with pytest.raises(UnknownNameError):
            build_maflnet(SPEC, replace(TINY, **wrong), MaflLossConfig())  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="heads"):
        build_maflnet(SPEC, replace(TINY, width=20), MaflLossConfig())
    with pytest.raises(RecipeError, match="width 0"):
        build_maflnet(SPEC, replace(TINY, width=0), MaflLossConfig())


@pytest.mark.slow
def test_adapters_survive_in_a_segmenter(tmp_path: Any) -> None:
    method = build_maflnet(SPEC, TEACHER, MaflLossConfig())
    Segmenter.from_network("maflnet", method.arguments, SPEC, method.network.state_dict(), 64, {}).save(tmp_path / "s")
    loaded = adapters_of(Segmenter.load(tmp_path / "s"))
    own = adapters_of(method.network)
    assert len(own) == len(loaded) == 12
    for one, other in zip(own, loaded, strict=True):
        assert torch.equal(one.mlp[0].weight, other.mlp[0].weight)
