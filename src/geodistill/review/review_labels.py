"""``geodistill review``: labels looked at in a browser, and the decisions written back into the label folder."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geodistill.errors import DataError, OutputError
from geodistill.folders import hold_folder
from geodistill.label.accounts import Account
from geodistill.label.build_labels import build
from geodistill.label.decisions import by_tile, read_decisions, read_review, write_decisions
from geodistill.label.output_folder import MANIFEST, Journal
from geodistill.label.tile_records import altered_files
from geodistill.lazy import load
from geodistill.review.decision_store import FILE, FOLDER, DecisionStore, Sync
from geodistill.review.open_labels import open_labels
from geodistill.review.ranking import rank_objects
from geodistill.review.review_server import ReviewServer
from geodistill.review.session import ReviewSession


@dataclass(frozen=True)
class ReviewOptions:
    """How a review is held.

    Attributes:
        model: A trained model whose disagreement counts as doubt: a Segmenter, run or hub id.
        sample: Objects of the random sample that comes first.
        jitter: How often each box is moved a little to see whether its mask stays; 0 for never.
        port: Of the page; any free one with 0.
        reviewer: Name of who decides; by default the user's.
        device: Where networks run.
    """

    model: Path | str | None = None
    sample: int = 50
    jitter: int = 0
    port: int = 0
    reviewer: str | None = None
    device: str = "auto"


@contextmanager
def open_review(
    folder: Path | str, options: ReviewOptions, *, progress: bool = False
) -> Iterator[tuple[ReviewSession, Sync]]:
    """Hold a label folder and yield its review, ordered, with what changed in the labels since the last one.

    Raises:
        DataError: There is no finished label set, what it was made of is gone, or the review is of another version.
        BusyError: Another command is at work in the folder.
        OutputError: It cannot be written.
    """
    labels = open_labels(folder, progress=progress)
    model = None
    if options.model is not None:
        model = load("geodistill.inference.network:load_on")(options.model, options.device)
    with hold_folder(labels.folder, "review"):
        store = DecisionStore(labels.folder)
        try:
            sync = store.sync(labels.objects())
            store.adopt(read_decisions(labels.folder))
            device, jitter = options.device, options.jitter
            rank_objects(
                labels, store, sample=options.sample, jitter=jitter, model=model, device=device, progress=progress
            )
            yield ReviewSession(labels, store, options.reviewer or _user(), device), sync
        finally:
            store.close()


def review(
    folder: Path | str,
    options: ReviewOptions,
    *,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> None:
    """Serve the page of a review until the process is asked to end (Ctrl-C).

    Raises:
        GeodistillError: As `open_review`, or the port is taken.
    """
    with (
        open_review(folder, options, progress=progress) as (session, sync),
        ReviewServer(session, options.port) as page,
    ):
        say(sync_text(sync))
        say(f"open {page.link} in a browser on this machine; Ctrl-C ends it")
        try:
            page.serve_forever()
        except KeyboardInterrupt:
            say(progress_text(session))
            say(f"write the decisions into the labels: geodistill review {folder} --export")


def sync_text(sync: Sync) -> str:
    """Return in one line what changed in the labels since the last review."""
    changes = [
        (sync.new, "new"),
        (sync.back, "back as they were"),
        (sync.gone, f"gone or with another mask ({sync.decided_gone} of them decided, which stays in {FOLDER}/{FILE})"),
    ]
    text = ", ".join(f"{count} {what}" for count, what in changes if count)
    return f"objects: {text}" if text else "objects: as at the last review"


def progress_text(session: ReviewSession) -> str:
    """Return in one line how far a review is."""
    counts = session.store.counts()
    total = sum(counts.values())
    return f"{total - counts.get('undecided', 0)} of {total} objects decided; {session.store.good_share().text}"


def export_review(folder: Path | str, *, progress: bool = False) -> Account:
    """Write the decisions into the label folder: masks, instances, manifest and account; return the account.

    Decisions that were exported earlier and taken back since are undone in the labels too.

    Raises:
        DataError: Nothing was decided, no object would be left, or a file cannot be used.
        OutputError: The folder is in use, cannot be written, or holds a manifest of your own.
    """
    labels = open_labels(folder, progress=progress)
    if not (labels.folder / FOLDER / FILE).is_file():
        raise DataError(f"no review of {folder}", "one that was begun", f"geodistill review {folder}")
    with hold_folder(labels.folder, "review"):
        store = DecisionStore(labels.folder)
        try:
            store.sync(labels.objects())
            known = read_review(labels.folder)
            store.adopt(known[0])
            decisions, left, share = list(store.decisions()), store.labels_left(), store.good_share()
        finally:
            store.close()
        if not decisions:
            raise DataError(f"nothing is decided in the review of {labels.folder}", "a decision at least")
        if not left:
            raise DataError(f"every object of {labels.folder} would be without a mask", "one that stays at least")
        _refuse_other_manifest(labels.folder)
        good = share if share.seen_count else None
        if known != (by_tile(decisions), good):
            write_decisions(labels.folder, decisions, good)
    return build(labels.settings, labels.folder, resume=True, keep_going=True, progress=progress)


def _refuse_other_manifest(folder: Path) -> None:
    with Journal(folder) as journal:
        known = (journal.finished or {}).get(MANIFEST)
    if known is not None and (folder / MANIFEST).exists() and altered_files(folder, {MANIFEST: known}):
        raise OutputError(
            f"{folder / MANIFEST} is not as 'label build' wrote it, and would be written anew",
            "the manifest as it was written",
            "move yours elsewhere, and divide the new one again",
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return "reviewer"
