"""What the text costs MetaSegNet at inference: the same network with and without alignment and fusion, alternating.

"Without" is the same encoder, projection and pyramid head of the same width, and computes nothing of the text. "With"
reads a real prompt of nine classes in as many channels as BERT's, and as `predict` does: from the stored table.

Run ``python benchmarks/metasegnet.py``; ends with status 1 where the median ratio passes 1.10. Quicker, and not to be
held against it: ``--encoder swin_tiny_patch4_window7_224 --size 512 --rounds 3``. The paper prints 23.7 images a second
at 1024 px on one GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from geodistill.methods.metasegnet.network import MetaSegNetwork
from geodistill.text.features import FeatureStore
from geodistill.text.places import Setting
from geodistill.text.templates import write_prompt

MOST = 1.10
CLASSES = ["background", "bareland", "rangeland", "developed space", "road", "tree", "water", "agriculture", "building"]


def make_network(encoder: str, width: int, text: bool, device: str) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return an untrained network with a real prompt, or without the parts that read it, and the prompt's tokens."""
    torch.manual_seed(0)
    prompt = write_prompt(Setting("Cfb"), CLASSES)
    features = FeatureStore("words").features([prompt])[prompt.id].repeat(1, 6)  # as wide as BERT's
    network = MetaSegNetwork(
        3,
        len(CLASSES),
        encoder=encoder,
        prompts=["Cfb"],
        text_tokens=len(features),
        text_width=features.shape[1],
        width=width,
        align=text,
        fuse=text,
        auxiliary=False,
    ).eval()
    network.set_text([features])
    network = network.to(device).to(memory_format=torch.channels_last)
    row = torch.zeros(1, dtype=torch.int64, device=device)
    return lambda image: network(image, row).logits, len(features)


def seconds(network: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Time one image."""
    if image.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.inference_mode():
        network(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Alternate the two networks and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="swin_base_patch4_window7_224")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    image = torch.randn(1, 3, args.size, args.size, device=args.device).to(memory_format=torch.channels_last)
    networks, tokens = {}, 0
    for name in ("with", "without"):
        networks[name], tokens = make_network(args.encoder, args.width, name == "with", args.device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(args.rounds + 1):
        # Each goes first in turn, so that neither always follows the other's heat and caches.
        for name in list(networks) if turn % 2 else reversed(list(networks)):
            took = seconds(networks[name], image)
            if turn:  # the first pass of each warms caches
                times[name].append(took)
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"{args.encoder}, width {args.width}, {args.size} px, {args.device}, {torch.get_num_threads()} threads")
    print(f"a prompt of {tokens} tokens, {args.rounds} rounds")
    for name, value in middle.items():
        print(f"{name:<8} text  {value * 1000:8.1f} ms  {1 / value:6.2f} images/s")
    print(f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}; at most {MOST})")
    sys.exit(ratio > MOST)


if __name__ == "__main__":
    main()
