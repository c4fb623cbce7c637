"""The moving average of weights against its formula."""

import pytest
import torch
from torch import nn

from geodistill.nn.averaging import ExponentialAverage, LastAverage


@pytest.mark.parametrize("warmup", [4, 10])
def test_weights_and_running_statistics_follow_by_the_warmed_up_decay(warmup: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    averaged = ExponentialAverage(network, 0.5, warmup)
    expected: dict[str, torch.Tensor] = {}
    # The first update copies; then (1 + t) / (warmup + t) from t = 1 on, and the asked 0.5 from t = warmup - 2 on.
    warmed = {4: [0, 2 / 5], 10: [0, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17]}[warmup]
    for decay in warmed + [0.5] * 4:
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
    assert int(averaged.updates) == len(warmed) + 4


def test_in_a_warm_up_by_4_half_of_the_average_is_of_the_last_fifth_of_the_steps() -> None:
    network = nn.Linear(1, 1, bias=False)
    averaged = ExponentialAverage(network, 0.999, 4)
    for step in range(500):
        with torch.no_grad():
            network.weight.fill_(float(step >= 397))  # 1 - 0.5 ** (1 / 3) of 500 are 103
        averaged.update(network)
    assert averaged.network.state_dict()["weight"].item() == pytest.approx(0.5, abs=0.01)


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
