"""Decoders: structure, sizes and published parameter counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from geodistill.nn.decoders import FCNHead, MultiLevelNeck, UNetDecoder, UPerHead, aux_level, pyramid_of


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        neck, head, aux = MultiLevelNeck([768] * 4, 768), UPerHead([768] * 4, 5), FCNHead(768, 5)
    assert count(neck) == 23_599_104
    assert count(head) == 32_258_565
    assert count(aux) == 1_771_269


def test_uper_head_has_mmsegs_parts() -> None:
    head = UPerHead([8, 12, 16, 20], 3, width=6)
    convs = {name: tuple(m.weight.shape) for name, m in head.named_modules() if isinstance(m, nn.Conv2d)}
    pooled = [shape for name, shape in convs.items() if name.startswith("pools")]
    assert pooled == [(6, 20, 1, 1)] * 4
    assert convs["bottleneck.0"] == (6, 20 + 4 * 6, 3, 3)
    assert [convs[f"laterals.{i}.0"] for i in range(3)] == [(6, 8, 1, 1), (6, 12, 1, 1), (6, 16, 1, 1)]
    assert [convs[f"fpn_convs.{i}.0"] for i in range(3)] == [(6, 6, 3, 3)] * 3
    assert convs["fuse.0"] == (6, 24, 3, 3)
    assert convs["classifier"] == (3, 6, 1, 1)
    assert [m.output_size for m in head.modules() if isinstance(m, nn.AdaptiveAvgPool2d)] == [1, 2, 3, 6]
    assert all(m.bias is None for name, m in head.named_modules() if isinstance(m, nn.Conv2d) and name != "classifier")


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 40), st.integers(1, 40))
def test_uper_head_answers_at_the_first_maps_size(height: int, width: int) -> None:
    maps = [torch.randn(2, 4, -(-height // 2**i), -(-width // 2**i)) for i in range(4)]
    assert UPerHead([4] * 4, 3, width=8)(maps).shape == (2, 3, height, width)


def test_neck_rescales_like_the_published_shapes() -> None:
    with torch.device("meta"):
        pyramid = MultiLevelNeck([8] * 4, 8)([torch.zeros(1, 8, 37, 37)] * 4)
    assert [m.shape[-1] for m in pyramid] == [148, 74, 37, 18]


def test_neck_never_shrinks_a_map_to_nothing() -> None:
    assert MultiLevelNeck([4], 4, [0.5])([torch.zeros(1, 4, 1, 1)])[0].shape == (1, 4, 1, 1)


def test_maps_of_one_size_become_a_pyramid_as_wide_as_the_last() -> None:
    neck, channels, strides = pyramid_of([6, 6, 6, 8], [14] * 4)
    assert neck is not None
    assert (channels, strides) == ([8] * 4, [4, 8, 16, 32])
    pyramid = neck([torch.zeros(1, count, 8, 8) for count in (6, 6, 6, 8)])
    assert [tuple(m.shape[1:]) for m in pyramid] == [(8, 32, 32), (8, 16, 16), (8, 8, 8), (8, 4, 4)]


def test_a_pyramid_stays_and_a_map_alone_becomes_one_where_asked() -> None:
    assert pyramid_of((4, 8), (8, 16)) == (None, [4, 8], [8, 16])
    assert pyramid_of((4,), (16,)) == (None, [4], [16])
    neck, channels, strides = pyramid_of((4,), (16,), single=4)
    assert neck is not None
    assert (channels, strides) == ([4] * 4, [4, 8, 16, 32])


def test_an_auxiliary_head_reads_the_last_but_one_level() -> None:
    assert [aux_level([None] * count) for count in (1, 2, 4, 5)] == [0, 0, 2, 3]


def test_fcn_head_with_two_convolutions_sees_its_input_again() -> None:
    head = FCNHead(8, 3, width=4, convs=2)
    assert head.merge is not None
    assert head.merge[0].in_channels == 12
    assert head(torch.randn(2, 8, 5, 7)).shape == (2, 3, 5, 7)


@pytest.mark.parametrize("strides", [(2, 4, 8, 16, 32), (4, 8, 16, 32), (8, 16)])
@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
def test_unet_decoder_answers_at_the_asked_size(strides: tuple[int, ...], size: tuple[int, int]) -> None:
    channels = [4 + i for i in range(len(strides))]
    maps = [torch.randn(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(channels, strides, strict=True)]
    decoder = UNetDecoder(channels, strides, 3, width=32)
    assert decoder(maps, size).shape == (2, 3, *size)
