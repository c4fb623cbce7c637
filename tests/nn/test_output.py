"""Sensor units in, normalised image to the network."""

import torch
from torch import Tensor, nn

from geodistill.nn.output import Normalised


class Echo(nn.Module):
    def forward(self, image: Tensor, factor: Tensor | None = None) -> Tensor:
        return image if factor is None else image * factor


def test_bands_are_centred_and_scaled_and_context_is_passed_on() -> None:
    network = Normalised((10.0, 1000.0), (2.0, 50.0), Echo())
    image = torch.tensor([12.0, 900.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    assert network(image)[0, :, 0, 0].tolist() == [1.0, -2.0]
    assert network(image, factor=torch.tensor(3.0))[0, :, 0, 0].tolist() == [3.0, -6.0]


def test_the_statistics_stay_out_of_the_state() -> None:
    assert not Normalised((0.0,), (1.0,), Echo()).state_dict()
