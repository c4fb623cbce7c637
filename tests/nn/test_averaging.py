"""The moving average of weights against its formula."""

import torch
from torch import nn

from geodistill.nn.averaging import AveragedNetwork


def test_weights_and_running_statistics_follow_by_the_warmed_up_decay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    averaged = AveragedNetwork(network, 0.5)
    expected: dict[str, torch.Tensor] = {}
    # The first update copies; (1 + t) / (10 + t) for t = 1 .. 7, and the asked 0.5 from t = 8 on.
    for decay in (0, 2 / 11, 1 / 4, 4 / 13, 5 / 14, 2 / 5, 7 / 16, 8 / 17, 0.5, 0.5, 0.5, 0.5):
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        network(torch.randn(4, 1, 3, 3))
        averaged.update(network)
        for name, value in network.state_dict().items():
            old = expected.get(name, torch.zeros(()))
            mean = decay * old + (1 - decay) * value
            expected[name] = mean if value.is_floating_point() else value.clone()
    for name, value in averaged.network.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert int(averaged.updates) == 12


def test_the_average_is_never_trained_and_stays_in_evaluation_mode() -> None:
    averaged = AveragedNetwork(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), 0.9)
    averaged.train()
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert not any(module.training for module in averaged.network.modules())
