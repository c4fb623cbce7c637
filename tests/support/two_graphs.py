"""Opens two OpenVINO graphs, lets both go, then gets a signal: ``python two_graphs.py GRAPH``; prints ``heard``."""

import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path

from geodistill.backends.backend import open_graph


def main() -> None:
    """Handle a signal on the stack that the graphs leave."""
    faulthandler.enable()  # as pytest does: it sets a stack for handlers, which OpenVINO replaces for a time
    signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
    graphs = [open_graph("openvino", Path(sys.argv[1]), "cpu", "fp32", 1) for _ in range(2)]
    while graphs:
        del graphs[0]
        gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)


if __name__ == "__main__":
    main()
