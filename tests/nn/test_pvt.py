"""KDA's pyramid transformer: published counts and maps, positions for any size, attention on a shrunk map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.nn.encoder_weights import read_weights
from geodistill.nn.encoders import build_encoder, list_encoders
from geodistill.nn.pvt import PvtBody, PvtSize, PvtStage, ReducedAttention

SMALL = PvtSize((8, 16, 24, 32), (1, 1, 2, 1))


@pytest.mark.parametrize(("name", "parameters"), [("pvt_kda", 66_140_800), ("pvt_kda_tiny", 28_262_528)])
def test_published_parameter_counts(name: str, parameters: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name)
        maps = encoder(torch.zeros(1, 3, 224, 224))
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]


def test_positions_are_kept_at_224_and_interpolated_elsewhere() -> None:
    stage = PvtStage(3, 4, 2, 7, 1, [])
    assert torch.equal(stage.position(7, 7), stage.pos_embed[:, 1:])
    fine = stage.position(14, 9)
    assert fine.shape == (1, 14 * 9, 4)
    square = stage.pos_embed[:, 1:].transpose(1, 2).reshape(1, 4, 7, 7)
    expected = torch.nn.functional.interpolate(square, (14, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine.transpose(1, 2).reshape(1, 4, 14, 9), expected)


def test_attention_reads_the_shrunk_map_and_no_other() -> None:
    torch.manual_seed(0)
    attention = ReducedAttention(8, 2, 2).eval()
    tokens = torch.randn(1, 24, 8)
    shrunk = attention.norm(attention.sr(tokens.transpose(1, 2).reshape(1, 8, 4, 6)).flatten(2).transpose(1, 2))
    keys, values = attention.kv(shrunk).chunk(2, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = attention.q(tokens)[..., part] @ keys[..., part].transpose(1, 2) / 2
        heads.append(scores.softmax(-1) @ values[..., part])
    torch.testing.assert_close(attention(tokens, 4, 6), attention.proj(torch.cat(heads, -1)))


def test_drop_path_grows_from_zero_over_the_depth() -> None:
    rates = [float(b.drop_path.drop_prob) for s in PvtBody(3, SMALL, 0.2).stages for b in s.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


def test_every_weight_serves() -> None:
    body = PvtBody(2, SMALL)
    sum(m.square().mean() for m in body(torch.randn(2, 2, 64, 96))).backward()
    assert all(p.grad is not None for p in body.parameters())


def test_names_options_and_weights_that_are_not_there() -> None:
    assert list_encoders("pvt_kda*") == ["pvt_kda", "pvt_kda_tiny"]
    with torch.device("meta"):
        last = build_encoder("pvt_kda_tiny(drop_path_rate=0.3)").body.stages[3].blocks[0]
        assert last.drop_path.drop_prob == pytest.approx(0.3)
        with pytest.raises(UnknownNameError, match="drop_path_rate"):
            build_encoder("pvt_kda(output_stride=8)")
        with pytest.raises(ArtifactError, match="published"):
            build_encoder("pvt_kda", weights="pretrained")
        with pytest.raises(RecipeError, match="all four"):
            build_encoder("pvt_kda", indices=(3,))


def test_a_written_encoder_is_read_with_its_name_and_statistics(tmp_path: Path) -> None:
    trained = build_encoder("test_convnext", 2, output_norms=True)
    trained.write(tmp_path / "encoder", ("red", "nir"), (100.0, 900.0), (5.0, 70.0))
    weights = read_weights(tmp_path / "encoder")
    assert (weights.encoder, weights.channels, weights.bands) == ("test_convnext", 2, ("red", "nir"))
    encoder = build_encoder("test_convnext", 2, tmp_path / "encoder")
    assert encoder.pretrained_statistics == ((100.0, 900.0), (5.0, 70.0))
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), trained.parameters(), strict=True))
    with pytest.raises(ArtifactError, match="are of test_convnext"):
        build_encoder("test_resnet", 2, tmp_path / "encoder")


def test_an_encoder_without_statistics_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"encoder": "test_resnet", "mean": null}')
    with pytest.raises(ArtifactError, match="mean and std"):
        read_weights(tmp_path)
