"""Label sets to review, and a browser's part in it over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection_sets import make_detection_set, settings_of
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.label.masks import Mask
from geodistill.label.output_folder import Journal
from geodistill.label.postprocess import EMPTY
from geodistill.label.segmenters import promptable
from geodistill.label.segmenters.promptable import BoxSegmenter, Embedding, Prompts
from geodistill.label.tiles import TileId
from geodistill.review.review_labels import ReviewOptions, open_review
from geodistill.review.review_server import ReviewServer

BLIND = 20
"""Row below which the boxes begin that `LowerBlind` sees nothing of."""


def make_labels(folder: Path, **changes: Any) -> tuple[LabelSettings, Path]:
    """Label a made-up set of three images with objects and one without; return its settings and the label folder."""
    settings = settings_of(make_detection_set(folder / "set"), **{"background": "sea"} | changes)
    build(settings, folder / "labels")
    return settings, folder / "labels"


@contextmanager
def served_review(labels: Path, **options: Any) -> Iterator[ReviewServer]:
    """Serve a review on a thread of its own."""
    chosen = ReviewOptions(**{"sample": 4, "reviewer": "Ada"} | options)
    with open_review(labels, chosen) as (session, _), ReviewServer(session) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class LowerBlind(BoxSegmenter):
    """Fills boxes, but sees nothing of those that begin below `BLIND` unless it is given a point."""

    name = "lower-blind"

    def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
        """Return the filled shapes, or empty masks."""
        assert prompts.boxes is not None
        for box, mask in zip(prompts.boxes, super().masks(embedding, prompts), strict=True):
            seen_here = box[1] <= BLIND or prompts.points is not None
            yield mask if seen_here else replace(mask, pixels=np.zeros_like(mask.pixels))


def make_unmasked_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> tuple[LabelSettings, Path, list[int]]:
    """Label as `make_labels` with `LowerBlind`; return settings, folder, and the first image's boxes without a mask."""
    monkeypatch.setitem(promptable.SEGMENTERS, "lower-blind", "reviewed:LowerBlind")
    settings, labels = make_labels(folder, segmenter="lower-blind", **changes)
    with Journal(labels) as journal:
        outcomes = journal.read(TileId("scene_0", 0, 0)).outcomes
    return settings, labels, [box for box, reason in outcomes if reason == EMPTY]


class Client:
    """A browser without a window."""

    def __init__(self, server: ReviewServer, name: str, reviewer: str) -> None:
        self._server, self._about = server, {"client": name, "reviewer": reviewer}

    def ask(self, question: str, **about: Any) -> tuple[int, Any]:
        """Return status and answer."""
        body = json.dumps(self._about | about).encode()
        return self.send("POST", f"/{self._server.token}/{question}", body)

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return status and answer of any request."""
        connection = HTTPConnection("127.0.0.1", self._server.server_port, timeout=10)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers["Content-Type"]
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            return answer.status, json.loads(data) if kind == "application/json" else data
        finally:
            connection.close()
