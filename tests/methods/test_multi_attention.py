"""MANet's attentions against their formulas written out, its size, and networks that see smaller images."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from geodistill.errors import RecipeError
from geodistill.methods.supervised.multi_attention import ChannelsAttention, MultiAttentionDecoder, PlaceAttention
from geodistill.methods.supervised.network import SupervisedNetwork


def test_places_are_weighted_by_the_kernel() -> None:
    torch.manual_seed(0)
    attention, maps = PlaceAttention(16), torch.randn(2, 16, 3, 4)
    attention.share.data.fill_(0.7)
    query, key = (functional.softplus(part(maps)).flatten(2) for part in (attention.query, attention.key))
    weights = query.transpose(1, 2) @ key  # (B, N, N), which the network never makes
    said = attention.value(maps).flatten(2) @ (weights / weights.sum(-1, keepdim=True)).transpose(1, 2)
    torch.testing.assert_close(attention(maps), maps + 0.7 * said.view_as(maps), rtol=1e-4, atol=1e-5)


def test_channels_are_weighted_by_what_they_lack_of_the_most_alike() -> None:
    torch.manual_seed(0)
    attention, maps = ChannelsAttention(), torch.randn(1, 3, 2, 2)
    attention.share.data.fill_(0.5)
    flat, expected = maps.flatten(2)[0], maps.clone()
    for channel in range(3):
        alike = torch.stack([flat[channel] @ other for other in flat])
        weights = torch.exp(alike.max() - alike)
        expected[0, channel] += 0.5 * ((weights / weights.sum()) @ flat).view(2, 2)
    torch.testing.assert_close(attention(maps), expected)


def test_its_parameters_on_resnet_50_are_the_authors() -> None:
    def convolution(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2 + after

    channels, classes, expected = (256, 512, 1024, 2048), 5, 0
    for count, below in zip(channels, (256, *channels[:-1]), strict=True):
        expected += 2 * convolution(count, count // 8, 1) + convolution(count, count, 1)  # query, key, value
        expected += 2  # how much the attentions count
        inner = count // 4
        expected += convolution(count, inner, 1) + convolution(inner, inner, 3) + convolution(inner, below, 1)
        expected += 2 * (inner + inner + below)  # batch norms
    expected += convolution(256, 32, 3) + convolution(32, 32, 3) + convolution(32, classes, 2)
    with torch.device("meta"):
        decoder = MultiAttentionDecoder(channels, classes)
    assert sum(p.numel() for p in decoder.parameters()) == expected


def test_a_scaled_network_sees_a_smaller_image() -> None:
    torch.manual_seed(0)
    network = SupervisedNetwork(3, 2, architecture="unet", encoder="test_resnet", scale=0.5, aux_head=True).eval()
    image = torch.randn(1, 3, 64, 96)
    found = network(image)
    network.scale = 1.0
    plain = network(functional.interpolate(image, size=(32, 48), mode="bilinear", align_corners=False))
    for logits, small in ((found.logits, plain.logits), (found.aux["aux"], plain.aux["aux"])):
        assert logits.shape == (1, 2, 64, 96)
        large = functional.interpolate(small, size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(logits, large)
    with pytest.raises(RecipeError, match=r"network.scale 0"):
        SupervisedNetwork(3, 2, encoder="test_resnet", scale=0)
