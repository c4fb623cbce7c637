"""The log of a review's decisions: what is added to it, and what holds once the last entry is taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def append_decision(db: sqlite3.Connection, number: int, verdict: str, *about: Any, at: str = "") -> int:
    """Add to the log, mask, score, reviewer, seconds and what it undoes; return the number of the entry."""
    mask, score, reviewer, seconds, undoes = about
    at = at or datetime.now(UTC).isoformat(timespec="milliseconds")
    values: Sequence[Any] = (number, verdict, mask, score, reviewer, at, seconds, undoes)
    names = "object, verdict, mask, score, reviewer, at, seconds, undoes"
    entry = db.execute(f"INSERT INTO decisions ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    db.execute("UPDATE objects SET verdict = ?, last = ? WHERE id = ?", (verdict, entry, number))
    return int(entry or 0)


def undo_decision(db: sqlite3.Connection, row: sqlite3.Row, reviewer: str) -> None:
    """Take a decision back: the log says who did so and when, and the one before it holds as it was made."""
    before = _before(db, row)
    verdict, mask, score = ("undecided", None, None) if before is None else tuple(before)[2:5]
    append_decision(db, row["object"], verdict, mask, score, reviewer, None, row["id"])
    if before is not None:
        db.execute("UPDATE objects SET last = ? WHERE id = ?", (before["id"], row["object"]))


def _before(db: sqlite3.Connection, row: sqlite3.Row) -> sqlite3.Row | None:
    """Return the decision of the same object that held before one; what was taken back by then is passed over."""
    query = "SELECT * FROM decisions WHERE object = ? AND id < ? ORDER BY id DESC LIMIT 1"
    number = row["id"]
    while True:
        entry: sqlite3.Row | None = db.execute(query, (row["object"], number)).fetchone()
        if entry is None or entry["undoes"] is None:
            return entry
        number = entry["undoes"]
