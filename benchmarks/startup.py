"""Seconds from typing ``geodistill --help`` to its last line, beside an empty Python process.

Run ``python benchmarks/startup.py``; it ends with status 1 where the median passes one second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

MOST_SECONDS = 1.0

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "geodistill --help": [sys.executable, "-m", "geodistill", "--help"],
    "geodistill fit --help": [sys.executable, "-m", "geodistill", "fit", "--help"],
}


def seconds(command: Sequence[str]) -> float:
    """Run a command once, its output thrown away."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(runs: int) -> dict[str, float]:
    """Give each command's median over ``runs``, the commands taking turns so that all meet the same machine."""
    for command in COMMANDS.values():
        seconds(command)
    times = {name: [0.0] * runs for name in COMMANDS}
    for run in range(runs):
        for name, command in COMMANDS.items():
            times[name][run] = seconds(command)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    medians = measure(args.runs)
    empty = medians["python -c pass"]
    if args.json:
        print(json.dumps(medians))
    else:
        for name, value in medians.items():
            print(f"{name:<24}{value:8.3f} s{value / empty:8.1f} x")
    return int(medians["geodistill --help"] > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
