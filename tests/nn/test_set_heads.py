"""The tensors of one set among those of several."""

import torch

from geodistill.methods.sep.network import SepNetwork
from geodistill.nn.set_heads import named_by_set, state_of_set

SETS = {"towns": 2, "fields": 3}


def test_a_set_alone_has_what_is_shared_and_its_own_head() -> None:
    whole = SepNetwork(3, 5, encoder="test_resnet", decoder_channels=8, sets=SETS)
    one = SepNetwork(3, 3, encoder="test_resnet", decoder_channels=8)
    one.load_state_dict(state_of_set(whole.state_dict(), 1))
    assert torch.equal(*(next(head.parameters()) for head in (one.heads[0], whole.heads[1])))
    assert named_by_set("heads.1.weight", list(SETS)) == "heads.fields.weight"
    assert named_by_set("encoder.weight", list(SETS)) == "encoder.weight"
