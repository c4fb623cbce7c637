"""A method of one's own: a recipe, a network and a loss, trained by the same `fit` and kept in the same Segmenter."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.methods.method import METHODS, BuildContext, Method, MethodPlug, Objective
from geodistill.methods.schema import CommonLosses, Recipe
from geodistill.nn.losses import cross_entropy
from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import NETWORKS, Segmenter
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe
from towns import LEGEND, write_town


class PixelNetwork(nn.Module):
    """A linear classifier of each pixel's bands."""

    def __init__(self, channels: int, classes: int, *, auxiliary: bool = True) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        return SegmentationOutput(self.classifier(image))


@dataclass(frozen=True)
class PixelNetworkConfig:
    """Nothing to choose but what every network has."""

    encoder_weights: str | None = None


@dataclass(frozen=True)
class PixelLosses(CommonLosses):
    """The loss terms."""

    weights: dict[str, float] = field(default_factory=lambda: {"ce": 1.0})


@dataclass(frozen=True)
class PixelRecipe(Recipe):
    """The pixel classifier."""

    method: Literal["pixel"] = "pixel"
    network: PixelNetworkConfig = field(default_factory=PixelNetworkConfig)
    losses: PixelLosses = field(default_factory=PixelLosses)


class PixelObjective(Objective):
    """Cross-entropy."""

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``ce``."""
        return {"ce": cross_entropy(output.logits, batch["mask"])}


def build(recipe: PixelRecipe, context: BuildContext) -> Method:
    """Return network and loss."""
    network = PixelNetwork(context.spec.channels, context.spec.classes)
    return Method("pixel", {}, network, PixelObjective(dict(recipe.losses.weights)))


METHOD = MethodPlug(PixelRecipe, build)


@pytest.fixture
def plugged() -> Iterator[None]:
    """One line in each of two tables."""
    METHODS["pixel"], NETWORKS["pixel"] = f"{__name__}:METHOD", f"{__name__}:PixelNetwork"
    yield
    del METHODS["pixel"], NETWORKS["pixel"]


@pytest.mark.slow
@pytest.mark.usefixtures("plugged")
def test_a_method_is_a_recipe_a_network_a_loss_and_a_line_in_a_table(tmp_path: Path) -> None:
    write_town(tmp_path / "town")
    scan(tmp_path / "town", out=tmp_path / "town.parquet", legend=LEGEND, split=SplitPlan(fractions=(0.5, 0.25, 0.25)))
    flags = {"data.manifest": tmp_path / "town.parquet", "data.crop": 64, "data.batch_size": 4, "data.workers": 0}
    flags |= {"optimizer.lr": 0.05, "trainer.max_steps": 30, "trainer.accelerator": "cpu", "trainer.pictures": 0}
    recipe = load_recipe(None, ["--method", "pixel", *(part for k, v in flags.items() for part in (f"--{k}", str(v)))])
    result = fit(recipe, tmp_path / "run")
    assert result.miou is not None
    assert result.miou > 0.9
    assert Segmenter.load(result.segmenter).name == "pixel"
