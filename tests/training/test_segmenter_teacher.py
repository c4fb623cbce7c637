"""Whole models as teachers: their logits by class name, their encoder's maps, their bands, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.description import ModelSettings
from geodistill.errors import RecipeError, TrainingError, UnknownNameError
from geodistill.methods.cache import TeacherCache
from geodistill.methods.teacher import EncoderTeacher, Storage, TeacherConfig, build_teacher, teacher_bands
from geodistill.nn.encoders import build_encoder
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import open_teacher
from geodistill.training.segmenter_teacher import SegmenterTeacher

RGB = ("red", "green", "blue")
SENTINEL = (*(f"B{i}" for i in range(1, 10)), "green", "blue", "red", "nir")


def spec(
    bands: tuple[str, ...] = RGB, classes: tuple[str, ...] = ("road", "roof", "tree"), mean: float = 100.0
) -> Spec:
    return Spec(Legend(classes), bands, (mean,) * len(bands), (50.0,) * len(bands))


def segmenter(own: Spec) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter("supervised", {"architecture": "unet", "encoder": "test_resnet"}, own, 64, {}).eval()


def batch(channels: int = 3, size: int = 40, count: int = 2, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = 255 * torch.rand(count, channels, size, size, generator=generator)
    mask = torch.zeros(count, size, size, dtype=torch.int64)
    keys = [f"town/{i}.tif@0,0" for i in range(count)]
    return {"image": image, "mask": mask, "valid": mask == 0, "key": keys, "source": keys}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    segmenter(spec()).save(tmp_path / "run" / "segmenter")
    return tmp_path / "run"


def test_a_trained_segmenter_gives_its_logits_and_its_encoders_maps(saved: Path) -> None:
    teacher = open_teacher(TeacherConfig(segmenter=str(saved)), spec())
    teacher.ask([1, 3], logits=True)
    given = batch()
    found = teacher.targets(given)
    own = Segmenter.load(saved)
    with torch.no_grad():
        padded = F.pad((given["image"] - 100) / 50, (0, 24, 0, 24))
        maps = own.network.network.encoder(padded)
        torch.testing.assert_close(found.logits, own(given["image"]))
    assert sorted(found.features) == [1, 3]
    for level, features in found.features.items():
        side = -(-40 // teacher.strides[level])
        torch.testing.assert_close(features, maps[level][..., :side, :side])
    assert found.logits is not None
    assert not found.logits.requires_grad
    assert all(not p.requires_grad for p in teacher.module.parameters())


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5])
def test_the_maps_are_of_the_whole_image_whatever_sizes_the_answer_averages(tmp_path: Path, scale: float) -> None:
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "encoder": "test_resnet", "scale": scale}
    own = Segmenter("supervised", arguments, spec(), 64, {}, (0.75, 1.0, 1.5)).eval()
    own.save(tmp_path / "model")
    teacher = open_teacher(TeacherConfig(segmenter=str(tmp_path / "model")), spec())
    given = batch(size=64)
    every = teacher(given["image"])
    teacher.ask([0, 2], logits=True)
    found = teacher.targets(given)
    with torch.no_grad():
        sized = (given["image"] - 100) / 50
        if scale != 1:
            sized = F.interpolate(sized, (round(64 * scale),) * 2, mode="bilinear", align_corners=False)
        maps = own.network.network.encoder(sized)
        torch.testing.assert_close(found.logits, own(given["image"]))
    assert sorted(found.features) == [0, 2]
    for level, features in [*found.features.items(), *enumerate(every)]:
        side = 64 // teacher.strides[level]
        expected = maps[level]
        if scale != 1:
            expected = F.interpolate(expected, (side, side), mode="bilinear", align_corners=False)
        torch.testing.assert_close(features, expected)


def test_classes_are_matched_by_name(saved: Path) -> None:
    student = spec(classes=("tree", "road"))
    teacher = open_teacher(TeacherConfig(segmenter=str(saved)), student)
    teacher.ask(logits=True)
    given = batch()
    with torch.no_grad():
        expected = Segmenter.load(saved)(given["image"])[:, [2, 0]]
    torch.testing.assert_close(teacher.targets(given).logits, expected)


def test_several_teach_by_the_mean_of_their_probabilities(saved: Path, tmp_path: Path) -> None:
    other = Segmenter.load(saved)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    other.save(tmp_path / "other")
    student = spec(classes=("tree", "road", "roof"))
    teacher = open_teacher(TeacherConfig(segmenter=(str(saved), str(tmp_path / "other"))), student)
    teacher.ask(logits=True)
    given = batch()
    with torch.no_grad():
        every = [model(given["image"])[:, [2, 0, 1]].softmax(1) for model in (Segmenter.load(saved), other)]
    assert (every[0] - every[1]).abs().max() > 1e-3
    found = teacher.targets(given).logits
    assert found is not None
    torch.testing.assert_close(found.softmax(1), (every[0] + every[1]) / 2)
    assert not any(part._forward_hooks for part in teacher.module.modules()), "maps that nobody asks for are not kept"
    members = teacher.description(torch.device("cpu"))["members"]
    assert isinstance(members, list)
    assert [member["classes"] for member in members] == [[2, 0, 1]] * 2
    with pytest.raises(RecipeError, match="level"):
        teacher.ask([0])
    with pytest.raises(RecipeError, match="a Segmenter, or several"):
        open_teacher(TeacherConfig(segmenter=()), student)
    with pytest.raises(RecipeError, match="indices beside several"):
        open_teacher(TeacherConfig(segmenter=(str(saved), str(tmp_path / "other")), indices=(0,)), student)
    open_teacher(TeacherConfig(segmenter=(str(saved),)), student).ask([0])  # a list of one is that one


def test_a_teacher_that_lacks_a_class_is_refused_for_logits_only(saved: Path) -> None:
    teacher = open_teacher(TeacherConfig(segmenter=str(saved)), spec(classes=("road", "water")))
    teacher.ask([0])
    with pytest.raises(
        RecipeError, match=r"classes road, roof, tree.*student of road, water.*knows water by that name"
    ):
        teacher.ask(logits=True)


def test_an_rgb_teacher_finds_its_bands_by_name_under_thirteen(saved: Path) -> None:
    teacher = open_teacher(TeacherConfig(segmenter=str(saved)), spec(SENTINEL))
    assert teacher.bands == [11, 9, 10]
    teacher.ask(logits=True)
    given = batch(13)
    with torch.no_grad():
        expected = Segmenter.load(saved)(given["image"][:, [11, 9, 10]])
    torch.testing.assert_close(teacher.targets(given).logits, expected)


def test_an_encoder_finds_red_green_and_blue_by_name() -> None:
    config = TeacherConfig("test_resnet", None)
    assert build_teacher(config, spec(SENTINEL)).bands == [11, 9, 10]
    assert build_teacher(config, spec(("Blue", "Green", "Red"))).bands == [2, 1, 0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(("B3", "b2", 0), (2, 1, 0)), ((4, 4, 4), (4, 4, 4)), (("nir", "red", "green"), (12, 11, 9))],
)
def test_bands_are_given_by_name_or_position(given: Any, expected: tuple[int, ...]) -> None:
    assert teacher_bands(given, spec(SENTINEL), 3, RGB) == expected


def test_bands_that_cannot_be_told_are_refused(saved: Path) -> None:
    with pytest.raises(RecipeError, match=r"bands red, green, blue for images of B1, B2, B3, B4.*teacher\.bands"):
        open_teacher(TeacherConfig(segmenter=str(saved)), spec(("B1", "B2", "B3", "B4")))
    with pytest.raises(UnknownNameError, match="B12"):
        teacher_bands(("B12", "B2", "B3"), spec(SENTINEL), 3)
    with pytest.raises(RecipeError, match="one of"):
        open_teacher(TeacherConfig("test_resnet", None), spec()).ask([9])


def test_a_teacher_that_asks_for_the_images_place_is_refused_and_one_of_a_single_place_is_not(tmp_path: Path) -> None:
    sizes = {"encoder": "test_resnet", "text_tokens": 4, "text_width": 8, "width": 16, "heads": 2}
    model = Segmenter("metasegnet", {"prompts": ["Cfa", "Aw"], **sizes}, spec(), 64, {}).eval()
    model.save(tmp_path / "two")
    model.for_prompt(1).save(tmp_path / "one")
    with pytest.raises(RecipeError, match=r"prompt for each of Cfa, Aw; expected one that takes images alone"):
        open_teacher(TeacherConfig(segmenter=str(tmp_path / "two")), spec())
    teacher = open_teacher(TeacherConfig(segmenter=str(tmp_path / "one")), spec())
    teacher.ask(logits=True)
    given = batch(size=64)
    with torch.no_grad():
        expected = model(given["image"], torch.tensor([1, 1]))
    torch.testing.assert_close(teacher.targets(given).logits, expected)


def test_an_encoder_has_no_logits_and_a_segmenter_its_own_statistics(saved: Path) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.segmenter"):
        build_teacher(TeacherConfig("test_resnet", None), spec()).ask(logits=True)
    with pytest.raises(RecipeError, match="has its own"):
        open_teacher(TeacherConfig(segmenter=str(saved), statistics="data"), spec())


class Stranger(nn.Module):
    """Any model with the call: sensor units in, logits out, and no encoder."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([image[:, :1] / 10, image[:, 1:2], -image[:, 2:]], 1)


def test_any_model_with_the_same_call_can_teach_logits() -> None:
    own = spec()
    teacher = SegmenterTeacher(Stranger(), own, own, (0, 1, 2), None, logits_stride=4)
    teacher.ask(logits=True)
    given = batch(size=42)
    logits = teacher.targets(given).logits
    assert logits is not None
    assert logits.shape == (2, 3, 11, 11)
    assert float(logits[0, 1, 0, 0]) == pytest.approx(float(given["image"][0, 1, :4, :4].mean()), rel=1e-5)
    assert float(logits[0, 1, 10, 10]) == pytest.approx(float(given["image"][0, 1, 40:, 40:].mean()), rel=1e-5)
    with pytest.raises(RecipeError, match="level 0"):
        teacher.ask([0])


def test_a_value_that_is_not_finite_names_the_image() -> None:
    teacher = EncoderTeacher(build_encoder("test_resnet"), (0.0,) * 3, (1.0,) * 3, (0, 1, 2))
    teacher.ask([2])
    given = batch(count=3)
    given["image"][1, 0, 5, 5] = float("nan")
    with pytest.raises(TrainingError, match=r"not finite on town/1\.tif@0,0"):
        teacher.targets(given)


def test_half_precision_is_used_where_asked_for() -> None:
    encoder = build_encoder("test_resnet")
    exact, half = (EncoderTeacher(encoder, (100.0,) * 3, (50.0,) * 3, (0, 1, 2), p) for p in ("auto", "bf16"))
    image = batch()["image"]
    for own, rounded in zip(exact(image), half(image), strict=True):
        assert rounded.dtype == torch.float32
        assert not torch.equal(own, rounded)
        torch.testing.assert_close(own, rounded, rtol=0.1, atol=0.1)
    assert exact.description(torch.device("cpu")) != half.description(torch.device("cpu"))


@pytest.mark.slow
def test_the_description_holds_all_that_changes_outputs_besides_weights(saved: Path) -> None:
    cpu = torch.device("cpu")
    configs = [TeacherConfig(segmenter=str(saved), logits_stride=stride, precision=p) for stride, p in
               ((1, "auto"), (2, "auto"), (1, "bf16"))]  # fmt: skip
    teachers = [open_teacher(config, spec()) for config in configs]
    teachers.append(open_teacher(configs[0], spec(("blue", "green", "red"))))
    teachers.append(open_teacher(configs[0], spec(classes=("tree", "road"))))
    # Not among the weights: what the model itself normalises by.
    own = spec(mean=90.0)
    teachers.append(SegmenterTeacher(segmenter(own), own, spec(), (0, 1, 2), None))
    # Nor these: the sizes that it averages over, and its temperature.
    several, cooler = Segmenter.load(saved).with_scales((0.5, 1.0)), Segmenter.load(saved)
    cooler.settings = ModelSettings(temperature=2.0)
    for name, changed in (("several", several), ("cooler", cooler)):
        changed.save(saved.parent / name)
        teachers.append(open_teacher(TeacherConfig(segmenter=str(saved.parent / name)), spec()))
    for teacher in teachers:
        teacher.ask(logits=True)
    found = [str(teacher.description(cpu)) for teacher in teachers]
    assert len(set(found)) == len(found)
    again = open_teacher(configs[0], spec())
    again.ask(logits=True)
    assert str(again.description(cpu)) == found[0]


class Counting(nn.Module):
    """A model that counts the images it has seen."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, image: Tensor) -> Tensor:
        self.seen += len(image)
        logits: Tensor = self.inner(image)
        return logits


def cached(tmp_path: Path, storage: Storage = "float16") -> tuple[SegmenterTeacher, Counting]:
    own = spec()
    model = segmenter(own)
    counting = Counting(model)
    teacher = SegmenterTeacher(counting, own, own, (0, 1, 2), model.network.network)
    teacher.ask([1, 2], logits=True)
    teacher.cache = TeacherCache(tmp_path, {"weights": "w"}, teacher.output_shapes(40, 3), 10, 1e9, storage)
    return teacher, counting


@pytest.mark.parametrize(("storage", "tolerance"), [("float16", 1e-3), ("uint8", 1e-2)])
def test_the_second_pass_reads_what_the_first_computed(tmp_path: Path, storage: Storage, tolerance: float) -> None:
    teacher, counting = cached(tmp_path, storage)
    given = batch() | {"slot": torch.tensor([4, 7])}
    first = teacher.targets(given)
    again = teacher.targets(dict(given))  # type: ignore[arg-type]
    mixed = teacher.targets(batch(seed=0) | {"slot": torch.tensor([4, 1])})
    assert counting.seen == 3
    plain = SegmenterTeacher(counting.inner, spec(), spec(), (0, 1, 2), counting.inner.network.network)
    plain.ask([1, 2], logits=True)
    expected = plain.targets(given)
    assert first.logits is not None
    assert expected.logits is not None
    for found in (first, again, mixed):
        for level in (1, 2):
            size = float(expected.features[level].abs().max())
            torch.testing.assert_close(
                found.features[level], expected.features[level], rtol=tolerance, atol=tolerance * size
            )
    # Rounded alike whether computed or read, so that a run does not depend on what the cache held.
    assert torch.equal(first.logits, again.logits)  # type: ignore[arg-type]


def test_with_a_cache_the_teacher_sees_the_colours_as_they_are(tmp_path: Path) -> None:
    teacher, _ = cached(tmp_path)
    given = batch()
    changed = given | {"slot": torch.tensor([0, 1]), "plain": given["image"], "image": 0.5 * given["image"]}
    logits = teacher.targets(changed).logits
    with torch.no_grad():
        expected = segmenter(spec())(given["image"])
    torch.testing.assert_close(logits, expected, rtol=1e-2, atol=1e-3)


def test_the_same_batch_is_looked_at_once(tmp_path: Path) -> None:
    teacher, counting = cached(tmp_path)
    teacher.cache = None
    given = batch()
    assert teacher.targets(given) is teacher.targets(given)
    assert counting.seen == 2
