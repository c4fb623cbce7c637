"""The transformer block against timm's."""

import torch
from timm.models.vision_transformer import Block

from geodistill.nn.decoders import ViTBlock


def test_block_of_768_has_the_published_parameter_count() -> None:
    with torch.device("meta"):
        block = ViTBlock(768, 8)
    assert sum(p.numel() for p in block.parameters()) == 7_087_872


def test_block_equals_timms() -> None:
    torch.manual_seed(0)
    ours = ViTBlock(24, heads=8).eval()
    theirs = Block(24, num_heads=8, qkv_bias=True).eval()
    names = {"mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    state = {}
    for key, value in ours.state_dict().items():
        for mine, its in names.items():
            key = key.replace(mine, its)
        state[key] = value
    theirs.load_state_dict(state)
    for norm in (theirs.norm1, theirs.norm2):
        norm.eps = 1e-6
    tokens = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)
