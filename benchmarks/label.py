"""Boxes to masks by SAM: time and memory against transformers' own way, over the same weights, alternating in one run.

Run ``python benchmarks/label.py``; the weights are random. It ends with status 1 where a ratio misses its target.
``--layers 2 --boxes 16`` is a quick look.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from geodistill.label.masks import Mask
from geodistill.label.postprocess import paint
from geodistill.label.segmenters.promptable import Prompts
from geodistill.label.segmenters.resample import TileFrame, bands_back, crop_masks
from geodistill.label.segmenters.sam import SamSegmenter
from geodistill.label.segmenters.sam_model import FAMILIES, SamNetwork, lighten

LEAST_OF_LOOP, LEAST_OF_LOOP_GPU, LEAST_OF_PEERS, MOST_UPSAMPLING, MOST_MEMORY = 0.95, 5.0, 2.2, 0.10, 1.1


def make_segmenter(layers: int, device: torch.device) -> tuple[Any, SamSegmenter]:
    """Return SAM ViT-B's model as transformers has it, with so many encoder layers, and ours over the same weights."""
    torch.manual_seed(0)
    vision = {"num_hidden_layers": layers, "global_attn_indexes": list(range(2, layers, 3))}
    theirs, ours = (transformers.SamModel(transformers.SamConfig(vision_config=vision)) for _ in range(2))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.ndim > 1 and "positional" not in name:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    ours.load_state_dict(theirs.state_dict())
    theirs, ours = (model.eval().requires_grad_(False).to(device) for model in (theirs, ours))
    lighten(ours)
    network = SamNetwork(ours, transformers.SamImageProcessor(), FAMILIES["sam"], device)
    return theirs, SamSegmenter("sam", network)


def make_input(tile: int, boxes: int) -> tuple[NDArray[np.uint8], Prompts]:
    """Return a tile of noise and boxes of 16 to 120 pixels."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, tile * 0.85, (boxes, 2))
    ends = corners + rng.uniform(tile / 64, tile / 8, (boxes, 2))
    image = rng.integers(0, 255, (tile, tile, 3), dtype=np.uint8)
    return image, Prompts(boxes=np.concatenate([corners, ends], axis=1).astype(np.float32))


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Time one run."""
    start = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start


@torch.inference_mode()
def decode_all_at_once(model: Any, processor: Any, features: torch.Tensor, boxes: torch.Tensor, tile: int) -> object:
    """Do as the documentation does: all boxes, then every mask at full size."""
    output = model(image_embeddings=features, input_boxes=boxes[None], multimask_output=False)
    return processor.post_process_masks(output.pred_masks, [[tile, tile]], [[1024, 1024]])


@torch.inference_mode()
def decode_one_by_one(model: Any, features: torch.Tensor, boxes: torch.Tensor) -> None:
    """Decode box after box with the embedding at hand, without any mask at full size."""
    for box in boxes:
        model(image_embeddings=features, input_boxes=box[None, None], multimask_output=False)


def measure_decoding(
    theirs: Any, segmenter: SamSegmenter, options: argparse.Namespace
) -> list[tuple[str, float, bool]]:
    """Time the three ways to decode in turn; give named ratios and whether they reach their targets."""
    device = segmenter.network.device
    image, prompts = make_input(options.tile, options.boxes)
    embedding = segmenter.embed([image])[0]
    assert prompts.boxes is not None
    scaled = torch.from_numpy(prompts.boxes * (1024 / options.tile)).to(device)
    features, some, processor = embedding.features[0], prompts.part(0, options.loop), segmenter.network.processor
    list(segmenter.masks(embedding, some))
    loops, peers, shares = [], [], []
    for _ in range(options.repeats):
        ours = seconds(lambda: list(segmenter.masks(embedding, some)), device) / len(some)
        loop = seconds(lambda: decode_one_by_one(theirs, features, scaled[: len(some)]), device) / len(some)
        many = seconds(lambda: _consume(segmenter.masks(embedding, prompts)), device) / len(prompts)
        peer = seconds(partial(decode_all_at_once, theirs, processor, features, scaled, options.tile), device)
        peer /= len(prompts)
        drawing = upsampling_shares(segmenter, embedding, some, options.tile)
        loops.append(loop / ours)
        peers.append(peer / many)
        shares.append(drawing)
        print(
            f"  ms a box: ours {1e3 * ours:.1f}, one-box loop {1e3 * loop:.1f}; "
            f"at {len(prompts)} boxes ours {1e3 * many:.1f}, all at once {1e3 * peer:.1f}",
            flush=True,
        )
    least = LEAST_OF_LOOP if device.type == "cpu" else LEAST_OF_LOOP_GPU
    loop, peer = statistics.median(loops), statistics.median(peers)
    small, large = (statistics.median(values) for values in zip(*shares, strict=True))
    return [
        (f"decoding, one-box loop / ours (at least {least})", loop, loop >= least),
        (f"decoding, all at once / ours (at least {LEAST_OF_PEERS})", peer, peer >= LEAST_OF_PEERS),
        (f"upsampling and painting / decoding (below {MOST_UPSAMPLING})", small, small < MOST_UPSAMPLING),
        ("upsampling alone, masks scattered over the tile", large, True),
    ]


def _consume(masks: Any) -> int:
    return sum(mask.pixels.size for mask in masks)


def upsampling_shares(segmenter: SamSegmenter, embedding: Any, prompts: Prompts, tile: int) -> tuple[float, float]:
    """Time of bringing logits to the tile, taking run lengths and painting, against that of decoding.

    That is for masks as large as their boxes, as those of trained weights are; the second number is for the random
    masks as they are, scattered over the whole tile, and without painting them.
    """
    device = segmenter.network.device
    frame = segmenter.network.frame(tile, tile)
    context = segmenter._prepare(embedding)
    decoded: list[tuple[torch.Tensor, torch.Tensor]] = []
    decoding = seconds(
        lambda: decoded.extend(segmenter._decode(context, prompts.part(i, i + 1), frame) for i in range(len(prompts))),
        device,
    )
    boxed = []
    for (logits, score), box in zip(decoded, prompts.boxes if prompts.boxes is not None else (), strict=True):
        left, top, right, bottom = (box * (frame.side_of_masks / tile)).astype(int).tolist()
        inside = torch.full_like(logits, -1.0)
        inside[:, top : bottom + 1, left : right + 1] = 1.0
        boxed.append((inside, score))
    drawn = seconds(partial(draw_and_paint, boxed, frame, tile), device)
    scattered = seconds(lambda: _consume(draw(decoded, frame)), device)
    return drawn / decoding, scattered / decoding


def draw(decoded: Iterable[tuple[torch.Tensor, torch.Tensor]], frame: TileFrame) -> Iterator[Mask]:
    """Bring logits to the tile."""
    rows, columns = bands_back(frame)
    for logits, score in decoded:
        yield from crop_masks(logits, rows, columns, score.tolist())


def draw_and_paint(decoded: Iterable[tuple[torch.Tensor, torch.Tensor]], frame: TileFrame, tile: int) -> None:
    """Bring logits to the tile and paint them."""
    runs = [mask.runs(tile, tile) for mask in draw(decoded, frame)]
    paint(runs, [0] * len(runs), tile, tile)


def measure_encoding(theirs: Any, segmenter: SamSegmenter, options: argparse.Namespace) -> float:
    """Time the encoders in turn, after one run of each; give transformers' time over ours."""
    device = segmenter.network.device
    pixels = torch.randn(1, 3, 1024, 1024, device=device)
    ratios = []
    for _ in range(1 + options.repeats):
        ours, other = (
            seconds(partial(model.get_image_embeddings, pixels), device) for model in (segmenter.network.model, theirs)
        )
        ratios.append(other / ours)
        print(f"  s a tile: ours {ours:.2f}, transformers {other:.2f}", flush=True)
    return statistics.median(ratios[1:])


def peak_memory(options: argparse.Namespace, boxes: int) -> float:
    """Return the peak memory in GB of a process of its own that embeds a tile and takes the masks of so many boxes."""
    arguments = ["--only-memory", "--boxes", str(boxes), "--layers", str(options.layers), "--tile", str(options.tile)]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def only_memory(options: argparse.Namespace) -> None:
    """Embed, decode, drop each mask as a labeller does after painting it, and print the peak memory."""
    _, segmenter = make_segmenter(options.layers, torch.device("cpu"))
    segmenter.chunk = 1
    image, prompts = make_input(options.tile, options.boxes)
    _consume(segmenter.masks(segmenter.embed([image])[0], prompts))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def main() -> int:
    """Measure and print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12, help="layers of the encoder; 12 is ViT-B")
    parser.add_argument("--tile", type=int, default=1024, help="side of the tile in pixels")
    parser.add_argument("--boxes", type=int, default=200, help="boxes that the peers decode at once")
    parser.add_argument("--loop", type=int, default=16, help="boxes of the one-box loop")
    parser.add_argument(
        "--memory-boxes", type=int, default=2000, help="boxes of the larger memory run; 0 leaves it out"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.loop = min(options.loop, options.boxes)
    if options.only_memory:
        only_memory(options)
        return 0
    theirs, segmenter = make_segmenter(options.layers, torch.device(options.device))
    encoding = measure_encoding(theirs, segmenter, options)
    rows = [("encoding, transformers / ours", encoding, True), *measure_decoding(theirs, segmenter, options)]
    if options.memory_boxes and options.device == "cpu":
        few, many = (peak_memory(options, number) for number in (20, options.memory_boxes))
        print(f"  peak memory: {few:.2f} GB at 20 boxes, {many:.2f} GB at {options.memory_boxes}")
        name = f"peak memory, {options.memory_boxes} boxes / 20 (at most {MOST_MEMORY})"
        rows.append((name, many / few, many / few <= MOST_MEMORY))
    print(f"SAM ViT-B, {options.layers} layers, {torch.get_num_threads()} threads, chunk {segmenter.chunk}")
    for name, value, reached in rows:
        print(f"{name:<60} {value:6.2f} {'' if reached else 'MISSED'}")
    return 0 if all(reached for _, _, reached in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
