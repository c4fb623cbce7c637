"""The moving average of weights against its formula."""

import torch
from torch import nn

from geodistill.nn.averaging import ExponentialAverage, LastAverage


def test_weights_and_running_statistics_follow_by_the_warmed_up_decay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    averaged = ExponentialAverage(network, 0.5)
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
    averaged = ExponentialAverage(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), 0.9)
    averaged.train()
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert not any(module.training for module in averaged.network.modules())


def test_the_last_average_is_the_mean_of_the_last_checkpoints_and_resumes_from_its_state() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    averaged, resumed = LastAverage(network, 3, 2), LastAverage(network, 3, 2)
    kept: list[dict[str, torch.Tensor]] = []
    for step in range(1, 13):
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        network(torch.randn(4, 1, 3, 3))
        averaged.update(network)
        if step == 7:
            resumed.load_state_dict(averaged.state_dict())
        elif step > 7:
            resumed.update(network)
        now = {name: value.clone() for name, value in network.state_dict().items()}
        kept = [*kept, now][-3:] if step % 2 == 0 else kept
        for name, value in averaged.network.state_dict().items():
            parts = [each[name] for each in kept or [now]]  # before the first checkpoint the present weights
            expected = torch.stack(parts).mean(0) if value.is_floating_point() else parts[-1]
            torch.testing.assert_close(value, expected)
    for name, value in averaged.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
