"""Encoders: any architecture, any size, any number of bands; names and weights that fail say why."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.nn.encoders import build_encoder, format_name, list_encoders, parse_name, wants_output_norms

SHAPES = {
    "mobilenetv2_100": ((16, 24, 32, 96, 320), (2, 4, 8, 16, 32)),
    "resnet18": ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
    "convnext_atto": ((40, 80, 160, 320), (4, 8, 16, 32)),
    "vit_tiny_patch16_224": ((192,) * 4, (16,) * 4),
    "vit_small_patch14_dinov2": ((384,) * 4, (14,) * 4),
    "vit_small_patch16_dinov3": ((384,) * 4, (16,) * 4),
    "beit_base_patch16_224": ((768,) * 4, (16,) * 4),
    "swin_tiny_patch4_window7_224": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "sam2_hiera_tiny": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "pvt_v2_b0": ((32, 64, 160, 256), (4, 8, 16, 32)),
    "mit_b0": ((32, 64, 160, 256), (4, 8, 16, 32)),
    "pvt_kda": ((128, 256, 512, 1024), (4, 8, 16, 32)),
}
TINY = ("test_resnet", "test_convnext", "test_vit", "test_efficientnet", "mit_b0")


def save(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_channels_strides_and_sizes(name: str) -> None:
    channels, strides = SHAPES[name]
    with torch.device("meta"):
        encoder = build_encoder(name).eval()
        maps = encoder(torch.zeros(1, 3, 65, 97))
    assert encoder.channels == channels
    assert encoder.strides == strides
    assert [tuple(m.shape) for m in maps] == [
        (1, c, -(-65 // s), -(-97 // s)) for c, s in zip(channels, strides, strict=True)
    ]


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    name=st.sampled_from(TINY),
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    bands=st.sampled_from([1, 3, 4, 13]),
)
def test_any_size_and_any_bands_give_finite_maps(name: str, height: int, width: int, bands: int) -> None:
    encoder = build_encoder(name, bands).eval()
    with torch.no_grad():
        maps = encoder(torch.randn(1, bands, height, width))
    assert [m.shape[-2:] for m in maps] == [(-(-height // s), -(-width // s)) for s in encoder.strides]
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.slow
def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        student = build_encoder("convnext_base", output_norms=wants_output_norms("convnext_base"))
        teacher = build_encoder("vit_base_patch14_dinov2")
        mit, hiera = build_encoder("mit_b0"), build_encoder("sam2_hiera_large")
    counts = [sum(p.numel() for p in e.parameters()) for e in (student, teacher, mit, hiera)]
    assert counts[0] == 87_568_256
    assert counts[1] / 1e6 == pytest.approx(86.58, abs=0.005)
    assert counts[2:] == [3_319_392, 212_149_296]


def test_padding_adds_zeros_at_the_bottom_and_right() -> None:
    encoder = build_encoder("test_vit").eval()
    image = torch.randn(1, 3, 40, 56)
    padded = torch.zeros(1, 3, 48, 64)
    padded[..., :40, :56] = image
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(encoder(image), encoder(padded), strict=True))


def test_a_transformer_taps_the_end_of_each_quarter_raw_but_for_the_last_norm() -> None:
    encoder = build_encoder("test_vit", indices=(1, 3)).eval()
    whole = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    whole.load_state_dict({**whole.state_dict(), **encoder.body.model.state_dict()})
    whole.norm = encoder.body.norm
    image = torch.randn(1, 3, 64, 64)
    depth = len(whole.blocks)
    with torch.no_grad():
        raw = whole.forward_intermediates(image, indices=[1, 3], intermediates_only=True)
        ours = encoder(image)
        last = whole.norm(raw[1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if depth == 4 else raw[1]
    torch.testing.assert_close(ours[0], raw[0])
    torch.testing.assert_close(ours[1], last)


def test_dinov2_keeps_its_native_position_grid_and_quarters() -> None:
    with torch.device("meta"):
        encoder = build_encoder("vit_small_patch14_dinov2")
    assert encoder.body.indices == (2, 5, 8, 11)
    assert encoder.body.model.pos_embed.shape[1] == 37 * 37 + 1


def test_blocks_behind_the_last_tap_are_gone() -> None:
    encoder = build_encoder("test_vit", indices=(0, 1))
    assert len(encoder.body.model.blocks) == 2
    assert isinstance(encoder.body.norm, torch.nn.Identity)


def test_output_norms_leave_each_pixel_with_unit_deviation() -> None:
    encoder = build_encoder("test_convnext", output_norms=True).eval()
    with torch.no_grad():
        maps = encoder(torch.randn(1, 3, 64, 64))
    for level in maps:
        torch.testing.assert_close(level.std(1, correction=0), torch.ones_like(level[:, 0]), atol=0.05, rtol=0)


def test_given_maps_replace_what_the_next_stage_reads() -> None:
    encoder = build_encoder("test_efficientnet").eval()
    image, other = torch.randn(1, 3, 70, 50), torch.randn(1, 3, 70, 50)
    with torch.no_grad():
        own = encoder(image)
        # Fed with its own maps an encoder does what it does anyway (but for the cropped margin of odd sizes).
        torch.testing.assert_close(
            encoder(image[..., :64, :32], encoder(image[..., :64, :32])), encoder(image[..., :64, :32])
        )
        forced = encoder(other, own)
    torch.testing.assert_close(forced[0], encoder(other)[0].detach())
    assert [m.shape for m in forced] == [m.shape for m in own]
    assert not torch.allclose(forced[1], encoder(other)[1])


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_given_maps_for_an_encoder_without_plain_stages_are_refused(name: str) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name)
        maps = encoder(torch.zeros(1, 3, 32, 32))
        with pytest.raises(RecipeError, match="teacher forcing"):
            encoder(torch.zeros(1, 3, 32, 32), maps)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "mobilenetv2_050", "mit_b0"])
def test_a_whole_models_weights_load_and_its_classifier_is_left_over(name: str, tmp_path: Path) -> None:
    source = build_encoder(name)
    tensors = source.body.model.state_dict()
    if not name.startswith("mit"):
        tensors = timm.create_model(name).state_dict()
    encoder = build_encoder(name, weights=save(tmp_path / "w", tensors)).eval()
    first, value = next(iter(tensors.items()))
    assert any(torch.equal(value, own) for own in encoder.state_dict().values()), first


@pytest.mark.parametrize("bands", [1, 4, 13])
def test_an_rgb_stem_is_adapted_to_other_bands(bands: int, tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet")
    encoder = build_encoder("test_resnet", bands, save(tmp_path / "w", whole.state_dict()))
    stem = encoder.body.model.conv1[0]
    rgb = whole.conv1[0].weight
    expected = rgb.sum(1, keepdim=True) if bands == 1 else rgb.repeat(1, 5, 1, 1)[:, :bands] * (3 / bands)
    torch.testing.assert_close(stem.weight, expected)


def test_config_beside_the_weights_gives_padding_and_statistics(tmp_path: Path) -> None:
    tensors = timm.create_model("test_efficientnet").state_dict()
    folder = save(
        tmp_path / "w", tensors, architecture="test_efficientnet", pad_type="same", mean=[0.5] * 3, std=[0.25] * 3
    )
    encoder = build_encoder("test_efficientnet", weights=folder / "model.safetensors")
    assert encoder.name == "test_efficientnet(pad_type=same)"
    assert encoder.pretrained_statistics == ((127.5,) * 3, (63.75,) * 3)
    assert build_encoder(encoder.name).name == encoder.name


def test_a_segmenters_encoder_loads_with_its_sensors_statistics(tmp_path: Path) -> None:
    trained = build_encoder("test_convnext", 2, output_norms=True)
    folder = save(
        tmp_path / "s", {f"encoder.{k}": v for k, v in trained.state_dict().items()} | {"decoder.x": torch.ones(1)}
    )
    description = {"network": {"arguments": {"encoder": "test_convnext"}}, "spec": {"mean": [100, 900], "std": [5, 70]}}
    (folder / "segmenter.json").write_text(json.dumps(description))
    encoder = build_encoder("test_convnext", 2, folder)
    assert encoder.pretrained_statistics == ((100.0, 900.0), (5.0, 70.0))
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), trained.parameters(), strict=True))
    with pytest.raises(ArtifactError, match="are of test_convnext"):
        build_encoder("test_resnet", 2, folder)


def test_pt_files_hold_tensors_only(tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet")
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "w.pt")
    build_encoder("test_resnet", weights=tmp_path / "w.pt")
    torch.save({"model": whole}, tmp_path / "code.pt")
    with pytest.raises(ArtifactError, match=r"code\.pt cannot be read"):
        build_encoder("test_resnet", weights=tmp_path / "code.pt")


def test_weights_that_do_not_fit_name_their_keys(tmp_path: Path) -> None:
    tensors = timm.create_model("test_resnet").state_dict()
    short = {k: v for k, v in tensors.items() if k != "layer1.0.conv1.weight"}
    with pytest.raises(ArtifactError, match=r"layer1\.0\.conv1\.weight is missing"):
        build_encoder("test_resnet", weights=save(tmp_path / "short", short))
    with pytest.raises(ArtifactError, match=r"layer1\.9\.more is left over"):
        build_encoder("test_resnet", weights=save(tmp_path / "long", tensors | {"layer1.9.more": torch.ones(1)}))
    bent = tensors | {"layer1.0.conv1.weight": torch.ones(1, 2, 3, 3)}
    with pytest.raises(ArtifactError, match=r"is \(1, 2, 3, 3\), not"):
        build_encoder("test_resnet", weights=save(tmp_path / "bent", bent))
    with pytest.raises(ArtifactError, match="do not exist"):
        build_encoder("test_resnet", weights=tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="cannot be read"):
        build_encoder("test_resnet", weights=tmp_path / "torn.safetensors")


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="mobilenetv2_100"):
        build_encoder("mobilnetv2_100")
    with pytest.raises(UnknownNameError, match="output_stride"):
        build_encoder("resnet18(outputstride=8)")
    with pytest.raises(UnknownNameError, match="a1_in1k"):
        build_encoder("resnet18.a1_in2k")


@pytest.mark.parametrize(
    "name",
    ["cait_xxs24_224", "swin_tiny_patch4_window7_224(output_stride=8)", "resnet18(output_stride=x)", "a b"],
)
def test_names_that_cannot_give_maps_are_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        build_encoder(name)


@pytest.mark.parametrize(
    ("name", "indices"), [("test_resnet", (9,)), ("test_vit", (0, 99)), ("test_vit", (2, 1)), ("mit_b0", (0,))]
)
def test_levels_that_are_not_there_are_refused(name: str, indices: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError):
        build_encoder(name, indices=indices)


def test_names_with_options_are_read_and_written() -> None:
    base, options = parse_name("convnext_base(drop_path_rate=0.4, ls_init_value=1.0)")
    assert (base, options) == ("convnext_base", {"drop_path_rate": 0.4, "ls_init_value": 1.0})
    assert format_name(base, options) == "convnext_base(drop_path_rate=0.4, ls_init_value=1.0)"


def test_the_list_holds_all_kinds_and_only_names_that_take_any_size() -> None:
    names = list_encoders()
    assert {"resnet50", "vit_base_patch14_dinov2", "sam2_hiera_large", "mit_b5", "pvt_v2_b2"} <= set(names)
    assert "cait_xxs24_224" not in names
    assert list_encoders("mit_b*") == [f"mit_b{i}" for i in range(6)]


@pytest.mark.parametrize(("name", "level"), [("test_convnext", -1), ("test_resnet", 0)])
def test_what_makes_maps_that_nobody_reads_has_a_gradient_of_zero_among_several_processes(
    name: str, level: int
) -> None:
    encoder, image = build_encoder(name, output_norms=True).eval(), torch.randn(1, 3, 64, 64)
    alone = encoder(image)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        maps = encoder(image)
    finally:
        torch.distributed.destroy_process_group()
    assert all(torch.equal(a, b) for a, b in zip(alone, maps, strict=True))
    gradients = [
        torch.autograd.grad(each[level].square().sum(), list(encoder.parameters()), allow_unused=True)
        for each in (alone, maps)
    ]
    assert any(gradient is None for gradient in gradients[0])
    for single, several in zip(*gradients, strict=True):
        assert torch.equal(several, torch.zeros_like(several) if single is None else single)
