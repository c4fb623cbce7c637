"""SEP as it was published: rates by batch, a transformer's pyramid, how often a crop is changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from built import build_sep
from factories import make_raster
from geodistill.data.augment import Augmentation
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.schema import OptimizerConfig
from geodistill.methods.sep.network import LastMapPyramid, SepNetwork, UNetHead
from geodistill.methods.sep.training import SepLossConfig
from geodistill.nn.decoders import resize
from geodistill.raster import Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.recipe import load_recipe

SPEC = Spec(Legend(("land", "house")), ("r", "g", "b"))


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """A set of three bands of 8 bits, and one of four of 16 bits."""
    found = {}
    rng = np.random.default_rng(0)
    for name, bands, top, kind in (("rgb", 3, 255, np.uint8), ("deep", 4, 9000, np.uint16)):
        folder = tmp_path_factory.mktemp(name)
        for at in range(4):
            pixels = rng.integers(1, top, (bands, 40, 40)).astype(kind)
            make_raster(folder / "images" / f"{at}.tif", pixels=pixels)
            make_raster(folder / "masks" / f"{at}.tif", pixels=(pixels[:1] % 2).astype(np.uint8))
        plan = SplitPlan(fractions=(0.5, 0.5, 0))
        found[name] = scan(folder, None, folder / "m.parquet", legend=Legend(("a", "b")), split=plan).manifest
    return found


def test_the_rate_goes_with_the_batch() -> None:
    published = OptimizerConfig(lr=1e-3, encoder_lr=1e-4, lr_batch=96)
    small = published.for_batch(12)
    assert (small.lr, small.encoder_lr) == (pytest.approx(1.25e-4), pytest.approx(1.25e-5))
    assert published.for_batch(96).lr == 1e-3
    assert OptimizerConfig(lr=1e-3).for_batch(12).lr == 1e-3
    with pytest.raises(RecipeError, match="lr_batch 0"):
        OptimizerConfig(lr_batch=0)


def test_recipes_say_what_was_published() -> None:
    recipe = load_recipe("sep")
    assert (recipe.data.statistics, recipe.data.scale_share, recipe.data.colour_share) == ("auto", 0.5, 0.3)
    assert (recipe.data.colour_one, recipe.data.crop_tries) == (True, 1)
    assert (recipe.optimizer.lr, recipe.optimizer.lr_batch) == (1e-3, 96)
    assert recipe.network.encoder == load_recipe("sep-finetune").network.encoder == "resnet50.tv_in1k"


@pytest.mark.parametrize(("flags", "kernel"), [([], 3), (["--preset", "printed"], 1), (["--preset", "released"], 3)])
def test_the_unets_head_is_a_convolution_as_printed_or_as_released(flags: list[str], kernel: int) -> None:
    for name in ("sep", "sep-finetune"):
        config = replace(load_recipe(name, flags).network, encoder="test_resnet", encoder_weights=None)
        method = build_sep(SPEC, config, SepLossConfig())
        assert method.network.heads[0].classifier.weight.shape == (2, 64, kernel, kernel)  # type: ignore[index, union-attr]
        rebuilt = Segmenter.from_network("sep", method.arguments, SPEC, method.network.state_dict(), 32, {})
        assert rebuilt(torch.zeros(1, 3, 40, 40)).shape == (1, 2, 40, 40)
        earlier = {key: value for key, value in method.arguments.items() if key != "head_kernel"}
        assert SepNetwork(3, 2, **earlier).heads[0].classifier.kernel_size == (3, 3)
    with pytest.raises(RecipeError, match=r"network.head_kernel, which does nothing: network.architecture is upernet"):
        load_recipe("sep", ["--network.head_kernel", "1", "--network.architecture", "upernet"])


def test_a_1x1_convolution_commutes_with_the_enlargement() -> None:
    head, maps = UNetHead(8, 3, 1), torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(head((maps,), (10, 12)), resize(head.classifier(maps), (10, 12)))


def test_a_transformers_pyramid_is_of_its_last_map() -> None:
    torch.manual_seed(0)
    pyramid = LastMapPyramid(8)
    maps = [torch.randn(2, 8, 6, 7) for _ in range(4)]
    made = pyramid(maps)
    assert [tuple(level.shape[1:]) for level in made] == [(8, 24, 28), (8, 12, 14), (8, 6, 7), (8, 3, 4)]
    others = [torch.randn(2, 8, 6, 7) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(made, pyramid([*others, maps[-1]]), strict=True))
    assert torch.allclose(made[2].mean(1), torch.zeros(2, 6, 7), atol=1e-5), "normed over channels"
    with torch.device("meta"):
        last = SepNetwork(3, 2, encoder="vit_tiny_patch16_224", pyramid="last")
        blocks = SepNetwork(3, 2, encoder="vit_tiny_patch16_224")
    assert isinstance(last.neck, LastMapPyramid)
    assert not isinstance(blocks.neck, LastMapPyramid), "Segmenters of before have four blocks' maps"
    with pytest.raises(UnknownNameError, match="pyramid 'first'"):
        SepNetwork(3, 2, encoder="test_resnet", pyramid="first")


def test_half_of_the_crops_are_zoomed() -> None:
    rng = np.random.default_rng(0)
    zooms = np.array(
        [Augmentation(scale=(0.5, 2.0), scale_share=0.5).zoom(rng, Window(0, 0, 9, 9)) for _ in range(2000)]
    )
    assert 0.45 < (zooms == 1).mean() < 0.55
    assert 0.5 <= zooms.min() < 0.6
    assert 1.9 < zooms.max() <= 2
    with pytest.raises(RecipeError, match="scale_share 2"):
        Augmentation(scale_share=2)


def test_colours_change_in_three_of_ten_crops_and_one_way_at_a_time(manifests: dict[str, Manifest]) -> None:
    config = DataConfig(manifest=str(manifests["rgb"].path), crop=40, scale=(1, 1), flips=False, turns=False, workers=0)
    often = replace(config, colour_share=0.3, colour_one=True, gamma=0.0, contrast=0.0, brightness=0.2)
    plain = DataModule(replace(config, gamma=0.0, contrast=0.0, brightness=0.0)).crops
    changed = DataModule(often).crops
    same = np.mean([torch.equal(plain[draw]["image"], changed[draw]["image"]) for draw in range(120)])
    assert 0.55 < same < 0.85
