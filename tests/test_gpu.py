"""What a GPU alone can show: lower precision beside float32, on one small network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from control_worlds import write_world
from geodistill.segmenter import Segmenter
from geodistill.training.batch_size import with_batch_size
from geodistill.training.recipe import load_recipe
from tiny import tiny_spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
UNET = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_autocast_is_close_to_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter("supervised", UNET, tiny_spec(3, 4), 64, {}).eval().cuda()
    images = torch.rand(2, 3, 96, 64, device="cuda")
    exact = segmenter(images)
    with torch.autocast("cuda", dtype):
        lower = segmenter(images)
    assert lower.shape == exact.shape
    assert (lower.float() - exact).abs().max() < 0.05 * exact.abs().max()


@torch.inference_mode()
def test_a_processor_and_a_gpu_give_the_same_logits() -> None:
    torch.manual_seed(0)
    segmenter = Segmenter("supervised", UNET, tiny_spec(3, 4), 64, {}).eval()
    images = torch.rand(2, 3, 64, 64)
    on_processor = segmenter(images)
    torch.testing.assert_close(segmenter.cuda()(images.cuda()).cpu(), on_processor, rtol=1e-3, atol=1e-3)


def test_the_batch_size_that_fits_is_tried_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world("ema", tmp_path, 0, train=2, test=1)
    keys = {"method": "supervised", "network": UNET, "data": {"manifest": str(world.manifest), "batch_size": "auto"}}
    recipe = with_batch_size(load_recipe(keys | {"trainer": {"max_steps": 1}}), tmp_path / "run", restart=False)
    assert recipe.data.samples >= 8
    assert f"data.batch_size {recipe.data.batch_size}: the most that fits" in capsys.readouterr().err
