"""One step on several sets, of one process or several, and its gradients."""

from pathlib import Path

import lightning
import torch
from torch import Tensor, nn

from ddp_gradients import SaveGradients
from geodistill.data.data_config import SetsConfig
from geodistill.data.datamodule import DataModule
from geodistill.methods.method import Method
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.sep.network import SepOutput
from geodistill.methods.sep.training import SepObjective, sets_of
from geodistill.methods.task import SegmentationTask


class Plain(nn.Module):
    """Two heads on convolutions without batch statistics."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU())
        self.heads = nn.ModuleList(nn.Conv2d(8, 2, 1) for _ in names)

    def forward(self, image: Tensor, sets: Tensor) -> SepOutput:
        hidden = self.encoder(image)
        found = {name: self.heads[i](hidden[sets == i]) for i, name in enumerate(self.names)}
        return SepOutput(hidden, by_set=found)


def main(processes: int, batch_size: int, out: Path, manifests: list[str]) -> None:
    torch.manual_seed(0)
    config = SetsConfig(
        manifests=tuple(manifests), names=("a", "b"), crop=48, batch_size=batch_size, workers=0, scale=(1.0, 1.0)
    )
    data = DataModule(config, seed=3, processes=processes)
    names = list(data.sets)
    method = Method("plain", {}, Plain(names), SepObjective({"ce": 1.0}, names), context=sets_of)
    task = SegmentationTask(method, data.spec, OptimizerConfig(), ScheduleConfig(), max_steps=1, sets=data.sets)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp_fork" if processes > 1 else "auto", max_steps=1,
        max_epochs=-1, use_distributed_sampler=False, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[SaveGradients(out)],
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
