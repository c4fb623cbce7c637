"""Objects and decisions of a review in SQLite: a decision is on the disk before its answer is sent.

The log of decisions only grows. Undoing one, or labels whose masks were drawn anew, add to it and remove nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from geodistill.errors import BusyError, DataError, OutputError, output_error
from geodistill.folders import claim_files
from geodistill.label.decisions import Decision, Decisions, Verdict
from geodistill.label.share_of_good import GoodShare
from geodistill.label.tiles import TileId
from geodistill.reading import parse_json
from geodistill.review.decision_log import append_decision, undo_decision
from geodistill.review.doubt_parts import ObjectDoubt

FOLDER, FILE, KIND = "review", "review.sqlite", "label review"
VERSION = 1
"""Of the tables below; another one is refused."""

_TABLES = """
CREATE TABLE objects (id INTEGER PRIMARY KEY, key TEXT, "row" INTEGER, col INTEGER, box INTEGER, class INTEGER,
    original TEXT, score REAL, fit REAL, jitter REAL, model REAL, doubt REAL, chance INTEGER, sample INTEGER DEFAULT 0,
    place INTEGER, gone INTEGER DEFAULT 0, verdict TEXT DEFAULT 'undecided', last INTEGER DEFAULT 0);
CREATE UNIQUE INDEX one_of_a_box ON objects (key, "row", col, box) WHERE gone = 0;
CREATE INDEX in_order ON objects (gone, place);
CREATE INDEX to_do ON objects (gone, verdict, place);
CREATE TABLE decisions (id INTEGER PRIMARY KEY AUTOINCREMENT, object INTEGER, verdict TEXT, mask TEXT, score REAL,
    reviewer TEXT, at TEXT, seconds REAL, undoes INTEGER);
CREATE INDEX of_object ON decisions (object);
"""

_MASKED = "json_type(original, '$.segmentation') IS NOT NULL"
"""Whether the segmenter made a mask of an object."""

Row = sqlite3.Row


@dataclass(frozen=True)
class Sync:
    """What changed in the labels since the last review: objects that came, went, or are back."""

    new: int
    gone: int
    back: int
    decided_gone: int


class DecisionStore:
    """The review of a label set, in its folder ``review``; safe to be used by several threads.

    Args:
        labels: The label set.

    Raises:
        DataError: The file is of another version, or no database of ours.
        OutputError: It cannot be written, or is not ours.
    """

    def __init__(self, labels: Path) -> None:
        self.path = labels / FOLDER / FILE
        if self.path.is_symlink() or self.path.parent.is_symlink():
            raise OutputError(f"{self.path} is a link", "a file of our own", "remove it")
        claim_files(self.path.parent, KIND, [FILE, f"{FILE}-wal", f"{FILE}-shm"])
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=10)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if not version and not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
                version = VERSION
        except sqlite3.DatabaseError as error:
            raise self._error(error) from error
        if version != VERSION:
            raise DataError(
                f"{self.path} is a review of version {version}", f"version {VERSION}", "use the geodistill that made it"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _error(self, error: sqlite3.DatabaseError) -> DataError | OutputError:
        if isinstance(error, sqlite3.OperationalError):
            text = str(error)
            if "locked" in text:
                return BusyError(f"{self.path} is in use by another program", "one at a time", "close it")
            if "no such" not in text:
                return output_error(self.path, OSError("No space left" if "full" in text else text))
        return DataError(f"{self.path} cannot be used ({error})", "a review that geodistill wrote", "move it elsewhere")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run statements as one: all are on the disk when this ends, or none."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                with self._db:  # commits, or rolls back where anything goes wrong
                    yield self._db
            except sqlite3.DatabaseError as error:
                raise self._error(error) from error

    def _rows(self, query: str, *values: Any) -> list[Row]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._error(error) from error

    def sync(self, objects: Iterable[tuple[TileId, Mapping[int, Mapping[str, Any]]]]) -> Sync:
        """Take up the objects of the labels as they are now.

        An object whose mask is another one is another object: what was decided about the former stays in the file,
        and counts again should it come back.
        """
        counts = {"new": 0, "back": 0}
        with self._writing() as db:
            known = {(*tuple(row)[:4], row["digest"]): row for row in self._digests(db)}
            db.execute("UPDATE objects SET gone = 1")
            for tile, instances in objects:
                for box, instance in instances.items():
                    text = json.dumps(instance, sort_keys=True)
                    row = known.pop((*tile, box, _digest(text)), None)
                    if row is None:
                        counts["new"] += 1
                        _insert(db, tile, box, instance, text)
                    else:
                        counts["back"] += row["gone"]
                        db.execute("UPDATE objects SET gone = 0 WHERE id = ?", (row["id"],))
        left = [row for row in known.values() if not row["gone"]]
        return Sync(counts["new"], len(left), counts["back"], sum(row["verdict"] != "undecided" for row in left))

    @staticmethod
    def _digests(db: sqlite3.Connection) -> Iterator[Row]:
        db.create_function("digest", 1, _digest, deterministic=True)
        yield from db.execute(
            'SELECT key, "row", col, box, id, gone, verdict, digest(original) AS digest FROM objects'
        ).fetchall()

    def adopt(self, decisions: Decisions) -> None:
        """Take up decisions that were written into the labels, of objects that this file knows none of."""
        query = (
            'SELECT id, original FROM objects WHERE gone = 0 AND last = 0 AND key = ? AND "row" = ? AND col = ?'
            " AND box = ?"
        )
        with self._writing() as db:
            for each in (one for tile in decisions.values() for one in tile if one.verdict != "undecided"):
                row = db.execute(query, (*each.tile, each.box)).fetchone()
                if row is not None and own_json(row["original"]) == each.original:
                    mask = None if each.mask is None else json.dumps(each.mask)
                    append_decision(db, row["id"], each.verdict, mask, each.score, each.by, None, None, at=each.at)

    def set_doubts(self, doubts: Mapping[int, ObjectDoubt]) -> None:
        """Write down doubts, by the numbers of objects."""
        with self._writing() as db:
            db.executemany(
                "UPDATE objects SET score = ?, fit = ?, jitter = ?, model = ?, doubt = ? WHERE id = ?",
                ((*astuple(doubt), doubt.total, number) for number, doubt in doubts.items()),
            )

    def order(self, sample: int) -> None:
        """Order all objects: a random sample first, then the most doubtful.

        The sample are the ``sample`` masks with the least of a number that follows from their place alone, so that
        it stays the same from one review to the next. Boxes without a mask are no labels, and not in it.
        """
        with self._writing() as db:
            db.execute("UPDATE objects SET sample = 0, place = NULL")
            query = f"SELECT id FROM objects WHERE gone = 0 AND {_MASKED} ORDER BY chance LIMIT ?"
            first = db.execute(query, (sample,)).fetchall()
            db.executemany("UPDATE objects SET sample = 1 WHERE id = ?", (tuple(row) for row in first))
            rest = db.execute("SELECT id FROM objects WHERE gone = 0 AND sample = 0 ORDER BY doubt DESC, id").fetchall()
            places = ((place, row["id"]) for place, row in enumerate((*first, *rest)))
            db.executemany("UPDATE objects SET place = ? WHERE id = ?", places)

    def tiles(self) -> list[TileId]:
        """Return every tile that has objects."""
        rows = self._rows('SELECT DISTINCT key, "row", col FROM objects WHERE gone = 0 ORDER BY key, "row", col')
        return [TileId(*row) for row in rows]

    def of_tile(self, tile: TileId) -> list[Row]:
        """Return number, box, measured parts and annotation of every object of a tile."""
        query = "SELECT id, box, jitter, model, original FROM objects WHERE gone = 0 AND key = ?"
        return self._rows(f'{query} AND "row" = ? AND col = ? ORDER BY box', *tile)

    def object(self, number: int) -> Row:
        """Return all about an object.

        Raises:
            DataError: There is no such object.
        """
        rows = self._rows("SELECT * FROM objects WHERE id = ? AND gone = 0", number)
        if not rows:
            raise DataError(f"object {number}", "one of the review's")
        return rows[0]

    def last_decision(self, row: Row) -> Row | None:
        """Return the decision that holds of an object; ``None`` where there is none."""
        rows = self._rows("SELECT * FROM decisions WHERE id = ?", row["last"])
        return rows[0] if rows else None

    def listed(self, first: int, count: int) -> list[Row]:
        """Return objects in their order, from place ``first``."""
        columns = "id, place, class, doubt, sample, verdict"
        query = f"SELECT {columns} FROM objects WHERE gone = 0 AND place >= ? AND place < ? ORDER BY place"
        return self._rows(query, first, first + count)

    def undecided(self, count: int, behind: int = -1) -> list[int]:
        """Return the first undecided objects behind a place; those before it where there are none."""
        query = "SELECT id FROM objects WHERE gone = 0 AND verdict = 'undecided' ORDER BY place <= ?, place LIMIT ?"
        return [int(row["id"]) for row in self._rows(query, behind, count)]

    def decide(
        self,
        number: int,
        verdict: Verdict,
        reviewer: str,
        last: int,
        *,
        mask: Mapping[str, Any] | None = None,
        score: float | None = None,
        seconds: float | None = None,
    ) -> int:
        """Write a decision down, on the disk before this returns; return its number.

        Args:
            number: The object.
            verdict: What was decided.
            reviewer: By whom.
            last: The decision that the reviewer knew of; 0 for none.
            mask: In place of the segmenter's.
            score: Of that mask.
            seconds: How long it was looked at.

        Raises:
            BusyError: Another decision was made meanwhile.
            DataError: There is no such object.
        """
        with self._writing() as db:
            row = self.object(number)
            if row["last"] != last:
                other = self.last_decision(row)
                name = "" if other is None else f" by {other['reviewer']}"
                what = "decided" if other is None or other["undoes"] is None else "taken back"
                raise BusyError(f"object {number} was {what} meanwhile{name}", "", "look at it again")
            text = None if mask is None else json.dumps(mask)
            return append_decision(db, number, verdict, text, score, reviewer, seconds, None)

    def undo(self, reviewer: str, take: Callable[[int], None]) -> int | None:
        """Take a reviewer's last decision back that still holds; return its object, ``None`` where there is none.

        Args:
            reviewer: Whose decision.
            take: Is called with the object before; what it raises leaves the decision.
        """
        with self._writing() as db:
            row = db.execute(
                "SELECT d.* FROM decisions d JOIN objects o ON o.last = d.id WHERE d.reviewer = ? AND o.gone = 0"
                " AND d.undoes IS NULL ORDER BY d.id DESC LIMIT 1",
                (reviewer,),
            ).fetchone()
            if row is None:
                return None
            take(row["object"])
            undo_decision(db, row, reviewer)
            return int(row["object"])

    def good_share(self) -> GoodShare:
        """Return the share of good labels, as far as the sample was decided."""
        query = (
            "SELECT count(*), coalesce(sum(verdict != 'undecided'), 0), coalesce(sum(verdict = 'accept'), 0)"
            " FROM objects WHERE gone = 0 AND sample = 1"
        )
        sample, seen_count, good = self._rows(query)[0]
        return GoodShare(good, seen_count, sample)

    def counts(self) -> dict[str, int]:
        """Return how many objects have each verdict."""
        rows = self._rows("SELECT verdict, count(*) FROM objects WHERE gone = 0 GROUP BY verdict ORDER BY verdict")
        return {str(name): int(count) for name, count in map(tuple, rows)}

    def labels_left(self) -> int:
        """Return how many objects have a mask when all is as it was decided."""
        query = (
            "SELECT count(*) FROM objects WHERE gone = 0 AND (verdict IN ('box', 'prompt')"
            f" OR verdict IN ('accept', 'undecided') AND {_MASKED})"
        )
        return int(self._rows(query)[0][0])

    def durations(self) -> list[float]:
        """Return how many seconds each of the last hundred decisions took."""
        query = "SELECT seconds FROM decisions WHERE seconds IS NOT NULL ORDER BY id DESC LIMIT 100"
        return [float(row["seconds"]) for row in self._rows(query)]

    def decisions(self) -> Iterator[Decision]:
        """Yield of every object that was ever decided what holds now."""
        rows = self._rows(
            'SELECT o.key, o."row", o.col, o.box, o.original, d.* FROM objects o JOIN decisions d ON d.id = o.last'
            ' WHERE o.gone = 0 ORDER BY o.key, o."row", o.col, o.box'
        )
        for row in rows:
            mask = None if row["mask"] is None else own_json(row["mask"])
            tile = TileId(row["key"], row["row"], row["col"])
            about = (row["verdict"], row["reviewer"], row["at"], own_json(row["original"]), mask, row["score"])
            yield Decision(tile, row["box"], *about)


def own_json(text: str) -> Any:
    """Return what the JSON of a cell holds.

    Raises:
        DataError: It is no JSON.
    """
    return parse_json(text, FILE)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _insert(db: sqlite3.Connection, tile: TileId, box: int, instance: Mapping[str, Any], text: str) -> None:
    """Add an object; what decides on the sample is drawn by its place alone."""
    chance = int(_digest(json.dumps([*tile, box]))[:15], 16)
    db.execute(
        'INSERT INTO objects (key, "row", col, box, class, original, chance) VALUES (?, ?, ?, ?, ?, ?, ?)',
        (*tile, box, instance["mask_value"], text, chance),
    )
