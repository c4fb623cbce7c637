"""Peak memory and time of MACA from 256 to 1024 pixels of input, beside attention that is quadratic in the positions.

Run ``python benchmarks/attention.py``. MACA sits on the map at stride 4, where a 1024 pixel image has 65,536
positions. The yardstick is plain softmax attention that keeps its scores, and is left out where these would not fit.
Ends with status 1 where MACA's memory a position grows by more than a tenth from the smallest size to the largest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from torch import Tensor, nn

from geodistill.methods.maflnet.maca import MACA, MacaConfig
from geodistill.methods.maflnet.network import MaflNetwork
from geodistill.training.inspect import LiveMemory

MOST = 1.1
STRIDE = 4


class QuadraticAttention(nn.Module):
    """Softmax attention with its whole table of scores, of one head or more.

    Args:
        channels: Of the map.
        heads: They divide the channels.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        batch, channels, height, width = maps.shape
        tokens = maps.flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).view(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-2, -1) / (channels // self.heads) ** 0.5).softmax(-1)
        mixed = (scores @ value).transpose(1, 2).reshape(batch, height * width, channels)
        return self.proj(mixed).transpose(1, 2).reshape(maps.shape)


def table_bytes(size: int, heads: int) -> int:
    """Bytes of the yardstick's scores before and behind the softmax."""
    positions = (size // STRIDE) ** 2
    return 2 * 4 * heads * positions**2


def measure(modules: dict[str, nn.Module], maps: Tensor, repeats: int) -> dict[str, tuple[float, float]]:
    """Return peak MiB of tensors and median seconds of each module's forward pass, timed in turn."""
    peaks: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        for name, module in modules.items():
            with LiveMemory() as memory:
                module(maps)
            peaks[name] = memory.peak / 2**20
        for _ in range(repeats):
            for name, module in modules.items():
                start = time.perf_counter()
                module(maps)
                seconds[name].append(time.perf_counter() - start)
    return {name: (peaks[name], statistics.median(seconds[name])) for name in modules}


def network_memory(size: int) -> float:
    """Return peak MiB of one image in the whole student at inference, counted without computing it."""
    with torch.device("meta"):
        network = MaflNetwork(3, 6, auxiliary=False).eval()
        image = torch.zeros(1, 3, size, size)
        with torch.no_grad(), LiveMemory() as memory:
            network(image)
    return memory.peak / 2**20


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 384, 512, 768, 1024], help="input in pixels")
    parser.add_argument("--width", type=int, default=256, help="channels of the map")
    parser.add_argument("--heads", type=int, default=1, help="of the yardstick; memory grows with them")
    parser.add_argument("--limit", type=float, default=3.0, help="GiB that the yardstick's scores may take")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    maca = MACA(options.width, MacaConfig()).eval()
    yardstick = QuadraticAttention(options.width, options.heads).eval()
    print("input  positions   MACA MiB  KiB/position      s   quadratic MiB       s   student MiB")
    each = []
    for size in options.sizes:
        side = size // STRIDE
        maps = torch.randn(1, options.width, side, side).contiguous(memory_format=torch.channels_last)
        modules: dict[str, nn.Module] = {"maca": maca}
        if table_bytes(size, options.heads) <= options.limit * 2**30:
            modules["quadratic"] = yardstick
        measured = measure(modules, maps, options.repeats)
        peak, seconds = measured["maca"]
        each.append(1024 * peak / side**2)
        beside = (
            "{:>13,.0f} {:>7.2f}".format(*measured["quadratic"]) if "quadratic" in measured else f"{'does not fit':>21}"
        )
        print(
            f"{size:>5}  {side**2:>9,}  {peak:>9,.0f}  {each[-1]:>12.2f}  {seconds:>5.2f}   {beside}"
            f"  {network_memory(size):>12,.0f}",
            flush=True,
        )
    growth = each[-1] / each[0]
    print(f"memory a position, {options.sizes[-1]} over {options.sizes[0]} pixels: {growth:.3f} (at most {MOST})")
    return 0 if growth <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
