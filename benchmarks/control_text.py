"""Made-up worlds in which the text must help: what a class looks like depends on the climate zone of the image.

``two`` (the default): patches have one of two colours. In zone Cfb red is building and green is tree, in BWh it is the
other way round, and nothing in the picture says which zone it is of. A network without the text can be right on one
object in two; one that reads the shipped prompts under the encoder ``words`` can be right on all.

``six``: six zones have the six pairs of three colours, which a file of answers names ("roofs are red"); the third
colour is of neither class. Five zones are trained on; the sixth pair is new, and its words are known from others. To be
right there asks for more than the number of a place. A research figure: nothing has to be won.

``zero-shot``: the network of ``two`` is scored on files of another set, with other classes but building and tree, and
finds their zones by where they lie; then on the same scenes at twice the resolution. ``gsd`` must bring it back to what
it is at its own.

No language model, no weights. Run ``python benchmarks/control_text.py [--world WORLD]``; ends with status 1 where in
``two`` the text does not win, or in ``zero-shot`` another resolution is not brought back.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp
import torch
from numpy.typing import NDArray
from torch import Tensor

import geodistill as gd
from geodistill.data.manifest import Row
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.methods.metasegnet.network import MetaSegNetworkConfig
from geodistill.methods.metasegnet.text_table import TextConfig
from geodistill.methods.metasegnet.training import MetaSegNetLossConfig, MetaSegNetRecipe, build
from geodistill.methods.method import BuildContext, Method
from geodistill.nn.losses import weighted_sum
from geodistill.raster import Window
from geodistill.spec import Legend, Spec
from geodistill.text.llm import Answers
from geodistill.text.places import Setting
from geodistill.text.templates import question

CLASSES = ("background", "building", "tree")
PLACES = {
    "Cfb": (13.06, 52.4), "BWh": (55.2, 25.1), "Af": (32.6, 0.4), "Csa": (12.5, 41.9), "Dfb": (37.6, 55.75),
    "ET": (15.6, 78.2),
}  # fmt: skip
"""Longitude and latitude of a place in each zone."""

COLOURS = np.array([[1, -1, 0], [-1, 1, 0], [-1, -1, 1]], np.float32)
NAMES = ("red", "green", "blue")
TWO = {"Cfb": (0, 1), "BWh": (1, 0)}
SIX = dict(zip(PLACES, itertools.permutations(range(3), 2), strict=True))
"""Colours of building and tree by zone."""

ARMS = ("climate", "plain", "none")
NOISE = 0.3
GSD = 0.3
SPEC = Spec(Legend(CLASSES), ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3, GSD)
GAIN, TURNED, BACK = 0.15, 0.5, 5.0
"""What the text must gain over each arm without it, the most that is right under the other zone's prompt, and points of
IoU within which ``gsd`` must bring another resolution back."""

Looks = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Scenes:
    """Images ``(B, 3, side, side)`` float32, masks ``(B, side, side)`` int64, where patches are, each image's file."""

    images: Tensor
    masks: Tensor
    patches: Tensor
    files: list[str]


@dataclass(frozen=True)
class Result:
    """Shares of the patches' pixels, 0..1, that one network got right: as trained, and with the zones swapped."""

    arm: str
    seed: int
    right: float
    swapped: float
    seconds: float


def draw(
    rng: np.random.Generator,
    count: int,
    looks: Looks = TWO,
    zones: Sequence[str] = (),
    side: int = 64,
    noise: float = NOISE,
) -> Scenes:
    """Draw images of some zones, all where none is named."""
    zones = zones or list(looks)
    kinds = 1 + max(itertools.chain(*looks.values()))
    images = rng.normal(0, noise, (count, 3, side, side)).astype(np.float32)
    masks, files = np.zeros((count, side, side), np.int64), []
    shown = np.full((count, side, side), -1)
    for image, mask, colours in zip(images, masks, shown, strict=True):
        zone = zones[int(rng.integers(len(zones)))]
        files.append(f"{zone}.tif")
        order = [*looks[zone], *(set(range(kinds)) - set(looks[zone]))]
        for _ in range(5):
            row, col, kind = *rng.integers(0, side - 16, 2), int(rng.integers(kinds))
            height, width = rng.integers(8, 17, 2)
            mask[row : row + height, col : col + width] = kind + 1 if kind < 2 else 0
            colours[row : row + height, col : col + width] = order[kind]
        for number, colour in enumerate(COLOURS):
            image += colour[:, None, None] * (colours == number)
    return Scenes(torch.from_numpy(images), torch.from_numpy(masks), torch.from_numpy(shown >= 0), files)


def train(
    arm: str,
    seed: int,
    steps: int = 200,
    looks: Looks = TWO,
    zones: Sequence[str] = (),
    answers: Path | None = None,
    side: int = 64,
) -> Method:
    """Train a network on fresh images of some zones."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = [
        Row(Path(f"{zone}.tif"), None, "train", Window(0, 0, 64, 64), lon=x, lat=y)
        for zone, (x, y) in PLACES.items() if zone in looks
    ]  # fmt: skip
    text = TextConfig(encoder="words", kind=arm)  # type: ignore[arg-type]
    if answers is not None:
        text = replace(text, answers=str(answers), llm_model="made-up")
    recipe = MetaSegNetRecipe(
        network=MetaSegNetworkConfig(encoder="test_resnet", encoder_weights=None, width=32, heads=4),
        text=text,
        losses=MetaSegNetLossConfig(weights={"itm": 0.1 if arm == "climate" else 0.0}),  # one prompt: nothing to match
    )
    method = build(recipe, BuildContext(SPEC, rows=rows))
    network, objective = method.network, method.objective
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        scenes = draw(rng, 8, looks, zones, side)
        sample: Any = {"image": scenes.images, "mask": scenes.masks, "source": scenes.files}
        terms = objective(network(scenes.images, **method.context(sample)), sample, step)
        optimizer.zero_grad()
        weighted_sum(terms, objective.weights).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    return method


def right(method: Method, scenes: Scenes, swap: dict[str, str] | None = None) -> float:
    """Return the share of the patches' pixels that a network gets right, 0..1, under swapped zones where given."""
    sources = [f"{swap[file.removesuffix('.tif')]}.tif" if swap else file for file in scenes.files]
    batch: Any = {"image": scenes.images, "source": sources}
    with torch.inference_mode():
        matches = method.network(scenes.images, **method.context(batch)).logits.argmax(1) == scenes.masks
    return float(matches[scenes.patches].float().mean())


def run(arm: str, seed: int, steps: int = 200) -> Result:
    """Train one network of the world ``two`` and score it on 64 other images."""
    started, method, scenes = time.monotonic(), train(arm, seed, steps), draw(np.random.default_rng(99), 64)
    swap = dict(zip(TWO, reversed(TWO), strict=True))
    return Result(arm, seed, right(method, scenes), right(method, scenes, swap), time.monotonic() - started)


def text_control(arms: Sequence[str] = ("climate", "plain"), seeds: int = 3, steps: int = 200) -> list[Result]:
    """Run every arm with every seed in the world ``two``, printing each."""
    results = []
    for seed in range(seeds):
        for arm in arms:
            results.append(run(arm, seed, steps))
            one = results[-1]
            print(f"{arm:8} seed {seed}  objects right {100 * one.right:5.1f} %  "
                  f"under the other zone's prompt {100 * one.swapped:5.1f} %  {one.seconds:.0f} s", flush=True)  # fmt: skip  # noqa: E501
    return results


def wins(results: list[Result]) -> bool:
    """Whether the text gains on every seed, and the answers turn with it."""
    climate = {one.seed: one for one in results if one.arm == "climate"}
    gains = [climate[one.seed].right - one.right for one in results if one.arm != "climate"]
    return min(gains) >= GAIN and all(one.swapped <= TURNED for one in climate.values())


def write_answers(path: Path) -> Path:
    """Write what a language model would have to say of the world ``six``."""
    answers = Answers(path, "made-up")
    for zone, (roof, crown) in SIX.items():
        said = ("neither", f"roofs are {NAMES[roof]}", f"crowns are {NAMES[crown]}")
        for name, text in zip(CLASSES, said, strict=True):
            answers.add(question(Setting(zone, None, GSD), name), f"{text}.")
    return path


def six_zones(seed: int, steps: int, folder: Path) -> tuple[float, float]:
    """Train on five zones; return the shares of the patches' pixels that are right there and in the sixth."""
    *known, new = SIX
    method = train("climate", seed, steps, SIX, known, write_answers(folder / "answers.json"))
    return tuple(right(method, draw(np.random.default_rng(99), 64, SIX, zones)) for zones in (known, [new]))  # type: ignore[return-value]


def write_set(folder: Path, scenes: Scenes, gsd: float) -> Path:
    """Write images as GeoTIFFs at the places of their zones, masks beside, and return the manifest of the test set."""
    for number, file in enumerate(scenes.files):
        lon, lat = PLACES[file.removesuffix(".tif")]
        crs = f"EPSG:{32601 + int((lon + 180) // 6)}"  # UTM, whose metres are those of the ground
        (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, [lon], [lat])
        transform = rasterio.transform.from_origin(x, y, gsd, gsd)
        layers: list[tuple[str, NDArray[Any]]] = [
            ("images", scenes.images[number].numpy()), ("masks", scenes.masks[number].numpy()[None].astype(np.uint8))
        ]  # fmt: skip
        for part, pixels in layers:
            path = folder / part / f"{number:02}_{file}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
            with rasterio.open(path, "w", "GTiff", crs=crs, transform=transform, **shape) as target:
                target.write(pixels)
    return folder


def zero_shot(method: Method, folder: Path, count: int = 16) -> dict[str, float]:
    """Return the mean IoU of building and tree in per cent at the model's resolution and a finer one, and with gsd."""
    state = method.complete(method.network.state_dict())
    segmenter = gd.Segmenter.from_network("metasegnet", method.arguments, SPEC, state, 64, {}).eval()
    rng, classes = np.random.default_rng(7), ["street", "building", "tree", "water"]
    coarse = draw(rng, count, noise=0.0)  # a coarser grid would average it away
    layers = [
        layer.repeat_interleave(2, -1).repeat_interleave(2, -2)
        for layer in (coarse.images, coarse.masks, coarse.patches)
    ]
    sets = {"own": (coarse, GSD), "finer": (Scenes(*layers, coarse.files), GSD / 2)}
    scores = {}
    for name, (scenes, gsd) in sets.items():
        part = write_set(folder / name, scenes, gsd)
        split = {"fractions": (0.0, 0.0, 1.0)}
        manifest = gd.scan(
            part / "images", part / "masks", part / "m.parquet", legend=classes, split=split, progress=False
        )
        for key, asked in ((name, None), (f"{name}, brought back", GSD)):
            options = EvaluateOptions(class_map={"building": "building", "tree": "tree"}, gsd=asked, device="cpu")
            scores[key] = 100 * float(evaluate(segmenter, manifest, options=options).miou)
    return scores


def brought_back(scores: dict[str, float]) -> bool:
    """Whether ``gsd`` brings another resolution back to the model's own, by what `zero_shot` returns."""
    return scores["finer, brought back"] >= scores["own"] - BACK


def main() -> None:
    """Run the control."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="two", choices=("two", "six", "zero-shot"))
    parser.add_argument("--arms", nargs="+", default=["climate", "plain"], choices=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    if args.world == "two":
        sys.exit(not wins(text_control(args.arms, args.seeds, args.steps)))
    won = True
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            part = Path(folder) / str(seed)
            part.mkdir()
            if args.world == "six":
                known, new = six_zones(seed, args.steps, part)
                print(
                    f"seed {seed}  right in the five zones {100 * known:.1f} %, in the sixth {100 * new:.1f} %",
                    flush=True,
                )
            else:
                scores = zero_shot(train("climate", seed, args.steps), part)
                won = won and brought_back(scores)
                print(f"seed {seed}  {scores}", flush=True)
    sys.exit(not won)


if __name__ == "__main__":
    main()
