"""The frozen teacher: bands, units, and that it stays as it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geodistill.errors import RecipeError
from geodistill.methods.teacher import EncoderTeacher, TeacherConfig, build_teacher
from geodistill.nn.encoders import build_encoder
from geodistill.spec import Legend, Spec

LEGEND = Legend(("a", "b"))


def spec(bands: int, mean: float = 100.0, std: float = 50.0) -> Spec:
    return Spec(LEGEND, tuple(f"b{i}" for i in range(bands)), (mean,) * bands, (std,) * bands)


def test_it_gives_float32_maps_of_normalised_bands_without_gradients() -> None:
    encoder = build_encoder("test_resnet")
    teacher = EncoderTeacher(encoder, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0), (3, 0, 1))
    image = 50 * torch.randn(1, 4, 33, 47)
    seen = (image[:, [3, 0, 1]] - torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1)) / torch.tensor([2.0, 4.0, 5.0]).view(
        3, 1, 1
    )
    with torch.autocast("cpu", torch.bfloat16):
        maps = teacher(image)
    with torch.no_grad():
        expected = encoder(seen)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert all(m.dtype == torch.float32 and not m.requires_grad for m in maps)


def test_it_stays_frozen_and_in_evaluation_mode() -> None:
    encoder = build_encoder("test_resnet").train()
    teacher = EncoderTeacher(encoder, (0.0,) * 3, (1.0,) * 3, (0, 1, 2))
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    teacher(torch.randn(2, 3, 32, 32))
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_other_blocks_of_one_transformer_are_another_record() -> None:
    description = {
        given: build_teacher(TeacherConfig("vit_tiny_patch16_224", None, indices=given), spec(3)).description(
            torch.device("cpu")
        )
        for given in (None, (2, 5, 8, 11), (0, 1, 2, 11))
    }
    assert description[2, 5, 8, 11] != description[0, 1, 2, 11]
    assert "indices" not in description[None]  # so that a cache of the default levels keeps its name


@pytest.mark.parametrize(("bands", "expected"), [(1, [0, 0, 0]), (3, [0, 1, 2]), (13, [0, 1, 2])])
def test_bands_default_to_the_first_three(bands: int, expected: list[int]) -> None:
    assert build_teacher(TeacherConfig("test_resnet", None), spec(bands)).bands == expected


@pytest.mark.parametrize(("bands", "given"), [(2, None), (4, (0, 1, 4)), (4, (0, 1))])
def test_bands_that_do_not_fit_are_refused(bands: int, given: tuple[int, ...] | None) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.bands"):
        build_teacher(TeacherConfig("test_resnet", None, bands=given), spec(bands))


@pytest.mark.parametrize(("mean", "std"), [(1200.0, 300.0), (0.4, 0.2)])
def test_data_in_other_units_needs_its_own_statistics(mean: float, std: float) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.statistics: data"):
        build_teacher(TeacherConfig("test_resnet", None), spec(3, mean, std))
    teacher = build_teacher(TeacherConfig("test_resnet", None, statistics="data"), spec(3, mean, std))
    assert teacher.mean.flatten().tolist() == pytest.approx([mean] * 3)
    assert teacher.std.flatten().tolist() == pytest.approx([std] * 3)


def test_indices_choose_the_levels() -> None:
    teacher = build_teacher(TeacherConfig("test_vit", None, indices=(1, 2)), spec(3))
    assert (teacher.channels, teacher.strides) == ((64, 64), (16, 16))


def test_a_segmenter_teaches_with_its_own_bands_and_sensor(tmp_path: Path) -> None:
    trained = build_encoder("test_resnet", 4)
    save_file({f"encoder.{k}": v.contiguous() for k, v in trained.state_dict().items()}, tmp_path / "model.safetensors")
    description = {
        "network": {"name": "supervised", "arguments": {"encoder": "test_resnet"}},
        "spec": {"mean": [900.0] * 4, "std": [100.0] * 4},
    }
    (tmp_path / "segmenter.json").write_text(json.dumps(description))
    teacher = build_teacher(TeacherConfig("test_resnet", str(tmp_path)), spec(4, 950.0, 120.0))
    assert teacher.bands == [0, 1, 2, 3]
    assert teacher.mean.flatten().tolist() == [900.0] * 4
    image = 900 + 100 * torch.randn(1, 4, 32, 32)
    with torch.no_grad():
        expected = trained.eval()((image - 900) / 100)
    torch.testing.assert_close(teacher(image)[-1], expected[-1])


def test_the_real_encoder_loads_with_its_padding_and_statistics(shared: Path) -> None:
    folder = shared / "weights" / "timm_mobilenetv2_100"
    teacher = build_teacher(TeacherConfig("mobilenetv2_100", str(folder)), spec(3))
    assert teacher.encoder.name == "mobilenetv2_100(pad_type=same)"
    assert teacher.channels == (16, 24, 32, 96, 320)
    assert teacher.mean.flatten().tolist() == [127.5] * 3
    assert all(torch.isfinite(m).all() and m.std() > 0 for m in teacher(torch.rand(1, 3, 65, 97) * 255))
