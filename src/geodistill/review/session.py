"""What a review answers to its browsers: objects to look at, decisions, how far it is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from geodistill.errors import BusyError, DataError, printable
from geodistill.label.decisions import Verdict, has_mask
from geodistill.label.tiles import TileId
from geodistill.review.crops import crop_windows, polygon_path, read_crop, runs_path
from geodistill.review.decision_store import DecisionStore, Row, own_json
from geodistill.review.leases import Leases
from geodistill.review.open_labels import OpenLabels
from geodistill.review.prompting import Prompter, Proposal
from geodistill.review.time_left import seconds_left
from geodistill.spec import hexadecimal

LONGEST_NAME = 80
"""Characters of a reviewer's name."""

PAGE = 500
"""Rows of the list at once, at most."""

LONGEST_LOOK = 60.0
"""Seconds that a decision counts for at most: beyond, somebody was away."""


class ReviewSession:
    """A review that is under way; safe to be used by several threads.

    Args:
        labels: The labels.
        store: Their review.
        reviewer: Name of who decides where a browser says no other.
        device: Where a network that draws masks anew runs.
    """

    def __init__(self, labels: OpenLabels, store: DecisionStore, reviewer: str, device: str = "auto") -> None:
        self.labels, self.store, self.reviewer = labels, store, reviewer
        self.leases, self.prompter = Leases(), Prompter(labels, device)
        self._stamp = labels.stamp()
        self._lock = threading.Lock()
        self._proposals: dict[str, tuple[int, Proposal]] = {}
        self._crop = lru_cache(maxsize=64)(self._read_crop)
        self._boxes = lru_cache(maxsize=16)(labels.boxes)

    def check(self) -> None:
        """Make sure that the labels are still those that the review began with.

        Raises:
            DataError: They changed.
        """
        if self.labels.stamp() != self._stamp:
            raise self.labels.changed_error()

    def state(self, client: str) -> dict[str, Any]:
        """Return how far the review is; the browser keeps what it shows."""
        self.check()
        self.leases.renew(client)
        counts, good = self.store.counts(), self.store.good_share()
        undecided = counts.get("undecided", 0)
        reviewers = max(self.leases.count(), 1)
        legend = self.labels.legend
        return {
            "title": printable(self.labels.folder.resolve().name),
            "reviewer": self.reviewer,
            "segmenter": printable(Path(self.labels.settings.segmenter).name),
            "classes": [
                {"name": printable(name), "colour": hexadecimal(colour)}
                for name, colour in zip(legend.names, legend.colours, strict=True)
            ],
            "total": sum(counts.values()),
            "decided": sum(counts.values()) - undecided,
            "counts": counts,
            "good": good.text,
            "sample": [good.seen_count, good.sample],
            "reviewers": reviewers,
            "seconds": seconds_left(self.store.durations(), undecided, reviewers),
        }

    def listed(self, first: int, count: int) -> list[list[Any]]:
        """Return rows of the list: number, place, class, doubt, whether it is of the sample, verdict."""
        rows = self.store.listed(max(first, 0), min(max(count, 0), PAGE))
        names = ("id", "place", "class", "doubt", "sample", "verdict")
        return [[row[name] for name in names] for row in rows]

    def next_object(self, client: str, reviewer: str, behind: int = -1) -> dict[str, Any] | None:
        """Return the first undecided object behind a place that no other browser shows; ``None`` at the end."""
        self.check()
        # As many as are shown elsewhere, and one more.
        numbers = self.store.undecided(self.leases.count() + 1, behind)
        number = self.leases.take(numbers, client, _name(reviewer))
        return None if number is None else self.view(number)

    def open_place(self, client: str, reviewer: str, place: int) -> dict[str, Any]:
        """Return the object at a place.

        Raises:
            DataError: There is none.
            BusyError: Another browser shows it.
        """
        self.check()
        rows = self.store.listed(place, 1)
        if not rows:
            raise DataError(f"place {place}", "one of the list's")
        number = int(rows[0]["id"])
        if self.leases.take([number], client, _name(reviewer)) is None:
            raise BusyError(f"{self.leases.holder(number)} looks at this object", "", "take another one")
        return self.view(number)

    def view(self, number: int) -> dict[str, Any]:
        """Return all that the page shows of an object."""
        row = self.store.object(number)
        name = _tile_of(row)
        task, tile = self.labels.tiles[name]
        original, box = own_json(row["original"]), self._boxes(name)[row["box"]]
        last = self.store.last_decision(row)
        left, top, right, bottom = box.hbox
        return {
            "id": number,
            "place": row["place"],
            "class": row["class"],
            "sample": bool(row["sample"]),
            "image": printable(task.key),
            "tile": [tile.window.row, tile.window.col] if task.tiled else None,
            "doubts": {part: row[part] for part in ("doubt", "score", "fit", "jitter", "model")},
            "changed": original["changed"],
            "pixels": original["area"],
            "verdict": row["verdict"],
            "last": row["last"],
            "by": None if last is None else printable(last["reviewer"]),
            "frame": [tile.window.width, tile.window.height],
            "windows": [[w.col, w.row, w.width, w.height] for w in crop_windows(original, tile.window)],
            "bounds": [left, top, right, bottom],
            "box": polygon_path(box.polygon),
            "filled": "".join(map(polygon_path, (box.polygon, *box.holes))),  # what lies in two of them is no part
            "mask": runs_path(original["segmentation"]) if has_mask(original) else "",
            "without": original.get("no_mask"),
            "redrawn": None if last is None or last["mask"] is None else runs_path(own_json(last["mask"])),
        }

    def crop(self, number: int, level: int) -> bytes:
        """Return the picture of an object at a level of zoom, as JPEG.

        Raises:
            DataError: There is no such object or level, or the image cannot be read.
        """
        return self._crop(number, level)

    def _read_crop(self, number: int, level: int) -> bytes:
        row = self.store.object(number)
        task, tile = self.labels.tiles[_tile_of(row)]
        windows = crop_windows(own_json(row["original"]), tile.window)
        if not 0 <= level < len(windows):
            raise DataError(f"zoom {level}", f"0 to {len(windows) - 1}")
        return read_crop(task, tile.window, windows[level], self.labels.settings.bands)

    def decide(self, client: str, reviewer: str, number: int, verdict: str, last: int) -> int:
        """Write a decision down; return its number, of which the browser knows from then on.

        Raises:
            DataError: There is no such verdict, or no mask was drawn anew that could be taken.
            BusyError: Another reviewer decided meanwhile.
        """
        self.check()
        if verdict not in get_args(Verdict) or verdict == "undecided":
            raise DataError(f"verdict {verdict[:40]!r}", f"one of {', '.join(get_args(Verdict)[:-1])}")
        about: dict[str, Any] = {}
        if verdict == "prompt":
            with self._lock:
                of, proposal = self._proposals.get(client, (0, None))
            if proposal is None or of != number:
                raise DataError("no mask was drawn anew", "a mask to take", "press p first")
            about = {"mask": proposal.runs(), "score": round(float(proposal.mask.score), 4)}
        seconds = self.leases.seconds(number, client)
        about["seconds"] = None if seconds is None else round(min(seconds, LONGEST_LOOK), 2)
        return self.store.decide(number, verdict, _name(reviewer), last, **about)  # type: ignore[arg-type]

    def undo(self, client: str, reviewer: str) -> dict[str, Any] | None:
        """Take the reviewer's last decision back; return its object, ``None`` where there is none.

        Raises:
            BusyError: Another browser shows it.
        """
        self.check()
        name = _name(reviewer)

        def take(number: int) -> None:
            if self.leases.take([number], client, name) is None:
                holder = self.leases.holder(number)
                raise BusyError(f"{holder} looks at the object of your last decision", "", "undo it when that is done")

        number = self.store.undo(name, take)
        return None if number is None else self.view(number)

    def prompt(self, client: str, number: int, box: list[float], point: list[float] | None) -> dict[str, Any]:
        """Draw an object's mask anew; it is at hand for a decision of the same browser.

        Raises:
            DataError: The prompt gives no mask, or the segmenter is not at hand.
        """
        self.check()
        proposal = self.prompter.propose(_tile_of(self.store.object(number)), box, point)
        with self._lock:
            self._proposals[client] = (number, proposal)
        return {
            "mask": runs_path(proposal.runs()),
            "score": round(float(proposal.mask.score), 3),
            "pixels": int(proposal.mask.pixels.sum()),
        }


def _tile_of(row: Row | Mapping[str, Any]) -> TileId:
    return TileId(row["key"], row["row"], row["col"])


def _name(reviewer: str) -> str:
    """Return a reviewer's name as it is written down.

    Raises:
        DataError: It is empty or too long.
    """
    name = printable(" ".join(reviewer.split()))
    if not 0 < len(name) <= LONGEST_NAME:
        raise DataError("a reviewer without a name or with a very long one", f"1 to {LONGEST_NAME} characters")
    return name
