"""Devices by their names."""

from __future__ import annotations

import pytest
import torch

from geodistill.errors import RecipeError
from geodistill.nn.device import device_name, resolve_device


def test_auto_is_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_name("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(RecipeError, match=f"device '{name}'") as raised:
        resolve_device(name)
    assert "\n" not in str(raised.value)
