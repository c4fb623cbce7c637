"""Training steps of one process or several, and the gradients of the last."""

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.methods.method import Method
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.supervised.training import SupervisedObjective
from geodistill.methods.task import SegmentationTask
from geodistill.nn.output import SegmentationOutput
from geodistill.training.trainer import choose_strategy


class Plain(nn.Module):
    """Convolutions without batch statistics, which would differ between one batch and two halves of it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU())
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> SegmentationOutput:
        maps = self.head(self.encoder(image))
        return SegmentationOutput(maps[:, :2], distance=maps[:, 2:])


class SaveGradients(lightning.Callback):
    def __init__(self, out: Path) -> None:
        self.out = out

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.is_global_zero:
            grads = {name: parameter.grad for name, parameter in pl_module.named_parameters()}
            torch.save({name: gradient.clone() for name, gradient in grads.items() if gradient is not None}, self.out)


def main(manifest: str, processes: int, batch_size: int, out: Path, steps: int = 1, freeze: float = 0.0) -> None:
    torch.manual_seed(0)
    config = DataConfig(manifest=manifest, crop=48, batch_size=batch_size, workers=0, scale=(1.0, 1.0))
    data = DataModule(config, seed=3)
    method = Method("plain", {}, Plain(), SupervisedObjective({"ce": 1.0, "distance": 1.0}))
    optimizer = OptimizerConfig(lr=0.01, freeze=freeze)
    task = SegmentationTask(method, data.spec, optimizer, ScheduleConfig(), max_steps=steps)
    strategy = choose_strategy(processes, freezes=freeze > 0).replace("ddp", "ddp_fork")
    trainer = lightning.Trainer(
        accelerator="cpu", devices=processes, strategy=strategy, max_steps=steps,
        max_epochs=-1, use_distributed_sampler=False, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[SaveGradients(out)],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
