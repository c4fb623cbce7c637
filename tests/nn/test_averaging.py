"""The moving average of weights against its formula."""

import torch
from torch import nn

from geodistill.nn.averaging import AveragedNetwork


def test_weights_and_running_statistics_follow_by_the_warmed_up_decay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    averaged = AveragedNetwork(network, 0.5)
    expected: dict[str, torch.Tensor] = {}
    for count in range(12):
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        network(torch.randn(4, 1, 3, 3))
        averaged.update(network)
        decay = min(0.5, (1 + count) / (10 + count)) if count else 0.0
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
