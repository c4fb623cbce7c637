"""Run commands of geodistill, a JSON list of them on standard input, in this one process; stop at the first mistake."""

from __future__ import annotations

import json
import sys

from geodistill.cli import main

if __name__ == "__main__":
    for command in json.load(sys.stdin):
        if main(command):
            sys.exit(f"failed: {command}")
