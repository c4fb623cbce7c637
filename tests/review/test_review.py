"""A review without a browser: what is asked first, who gets what, what is kept, what is refused."""

from __future__ import annotations

import json
import math
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from detection_sets import contents
from forked import start
from geodistill.cli import main
from geodistill.errors import BusyError, DataError, OutputError
from geodistill.label.accounts import read_account
from geodistill.label.build_labels import build
from geodistill.label.decisions import Verdict
from geodistill.label.masks import Mask
from geodistill.label.segmenters.promptable import BoxSegmenter, Embedding, Prompts
from geodistill.label.share_of_good import wilson
from geodistill.review.decision_log import append_decision
from geodistill.review.decision_store import FILE, FOLDER, DecisionStore
from geodistill.review.doubt_parts import doubt_of
from geodistill.review.leases import SECONDS, Leases
from geodistill.review.review_labels import ReviewOptions, export_review, open_review
from geodistill.review.time_left import seconds_left
from reviewed import Client, make_labels, make_unmasked_labels, served_review


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return make_labels(tmp_path)[1]


def test_two_reviewers_by_http(labels: Path) -> None:
    with served_review(labels, sample=4) as server:
        ada, bob = Client(server, "1", "Ada"), Client(server, "2", "Bob")
        status, first = ada.ask("next", behind=-1)
        assert (status, first["place"], first["sample"], first["verdict"]) == (200, 0, True, "undecided")
        assert bob.ask("next", behind=-1)[1]["place"] == 1, "two browsers never get the same object"
        assert bob.ask("open", place=0) == (409, {"error": "Ada looks at this object; take another one"})
        assert ada.ask("decide", id=first["id"], verdict="accept", last=0)[0] == 200
        late = bob.ask("decide", id=first["id"], verdict="drop", last=0)
        assert late == (409, {"error": f"object {first['id']} was decided meanwhile by Ada; look at it again"})
        second = bob.ask("next", behind=-1)[1]
        bob.ask("decide", id=second["id"], verdict="drop", last=0)
        state = ada.ask("state")[1]
        assert (state["total"], state["decided"], state["sample"], state["reviewers"]) == (12, 2, [2, 4], 2)
        assert state["good"].startswith("good labels: 50% (95 % interval 9% to 91%)")
        rows = ada.ask("list", first=0, count=50)[1]
        assert [row[1] for row in rows] == list(range(12))
        assert [row[4] for row in rows] == [1] * 4 + [0] * 8, "the random sample comes first"
        assert [row[5] for row in rows][:3] == ["accept", "drop", "undecided"]
        doubts = [row[3] for row in rows[4:]]
        assert doubts == sorted(doubts, reverse=True), "then the worst"
        back = bob.ask("undo")[1]
        assert (back["id"], back["verdict"], back["by"]) == (second["id"], "undecided", "Bob")
        assert bob.ask("undo")[1] is None, "Ada's decision is hers"
        status, picture = ada.send("GET", f"/{server.token}/crop?id={first['id']}&zoom=0")
        assert (status, picture[:2]) == (200, b"\xff\xd8")
    with closing(sqlite3.connect(labels / FOLDER / FILE)) as db:
        log = db.execute("SELECT verdict, reviewer, undoes FROM decisions").fetchall()
        assert log == [("accept", "Ada", None), ("drop", "Bob", None), ("undecided", "Bob", 2)]
        assert all(at.endswith("+00:00") for (at,) in db.execute("SELECT at FROM decisions"))


def test_what_is_not_for_everybody(labels: Path) -> None:
    with served_review(labels) as server:
        client = Client(server, "1", "Ada")
        help_line = b"This review opens by the whole link that 'geodistill review' printed, token included.\n"
        other = server.token[:-1] + ("y" if server.token.endswith("x") else "x")
        for path in ("/", "/state", f"/{other}/", "/../etc/passwd", "/%00/", "//"):
            assert client.send("GET", path) == (403, help_line)
        assert client.send("POST", "/state", b"{}")[0] == 403
        for host, status in (("evil.example:80", 403), ("127.0.0.1.evil", 403), ("LOCALHOST:9", 200)):  # by a tunnel
            assert client.send("GET", f"/{server.token}/", Host=host, Origin=f"http://{host.lower()}")[0] == status
        assert client.send("POST", f"/{server.token}/state", b"{}", Origin="http://evil.example")[0] == 403
        assert client.send("GET", f"/{server.token}/")[0] == 200
        for path in ("review.html", "session.py", "../folders.py", "crop", "crop?id=x&zoom=0", "crop?id=99&zoom=0"):
            assert client.send("GET", f"/{server.token}/{path}")[0] in (400, 404), path
        for body in (b"", b"[]", b"{", b'{"client": 1}', b'{"a": 1, "a": 2}', b"[" * 3000):
            assert client.send("POST", f"/{server.token}/next", body)[0] == 400
        assert client.send("POST", f"/{server.token}/next", b" " * 70_000)[0] == 400
        assert client.ask("decide", id=1, verdict="<b>", last=0)[0] == 400
        assert client.ask("decide", id=1, verdict="prompt", last=0) == (
            400,
            {"error": "no mask was drawn anew; expected a mask to take; press p first"},
        )
        assert Client(server, "2", " ").ask("decide", id=1, verdict="drop", last=0)[0] == 400
        assert server.server_address[0] == "127.0.0.1"


def test_masks_are_drawn_anew_within_the_image(labels: Path) -> None:
    with served_review(labels) as server:
        client = Client(server, "1", "Ada")
        shown = client.ask("next", behind=-1)[1]
        number, (left, top, right, bottom) = shown["id"], shown["bounds"]
        status, drawn = client.ask("prompt", id=number, box=[left, top, right - 2, bottom], point=[left + 2, top + 2])
        assert (status, drawn["pixels"]) == (200, round(right - left - 2) * round(bottom - top))
        for box, point in (
            ([0, 0, 0, 0], None),
            ([1, 2], None),
            ([0, 0, 9, float("inf")], None),
            ([0, 0, 9, 9], [99, 1]),
            ([0, 0, 9, 9], [1]),
        ):
            assert client.ask("prompt", id=number, box=box, point=point)[0] == 400
        assert client.ask("decide", id=number, verdict="prompt", last=0)[0] == 200
    account = export_review(labels)
    assert account["review"]["verdicts"]["prompt"] == 1
    [one] = [each for each in json.loads((labels / "instances.json").read_text())["annotations"] if "reviewed" in each]
    assert one["area"] == drawn["pixels"]


def test_a_mask_drawn_anew_is_the_piece_that_was_clicked(labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoPieces(BoxSegmenter):
        """Sees one thing in the middle of a box and another at its left edge."""

        def masks(self, embedding: Embedding, prompts: Prompts) -> Iterator[Mask]:
            pixels = np.zeros((embedding.height, embedding.width), bool)
            pixels[25:35, 35:45], pixels[22:38, 6:12] = True, True
            yield Mask(0, 0, pixels)

    monkeypatch.setattr("geodistill.review.prompting.segmenter_of", lambda *about: TwoPieces())
    with open_review(labels, ReviewOptions()) as (session, _):
        tile = next(iter(session.labels.tiles))
        for point, pixels in ((None, 100), ([8.0, 30.0], 96), ([40.0, 30.0], 100)):
            assert session.prompter.propose(tile, [4, 15, 76, 45], point).mask.pixels.sum() == pixels


def test_nothing_is_lost_where_labels_change(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    with served_review(labels) as server:
        client = Client(server, "1", "Ada")
        first = client.ask("next", behind=-1)[1]
        client.ask("decide", id=first["id"], verdict="drop", last=0)
        with pytest.raises(BusyError, match="in use by 'geodistill review'"):
            build(settings, labels, resume=True)
        (labels / "label.json").write_text("{}")
        status, answer = client.ask("next", behind=-1)
        assert status == 400
        assert "changed under its review" in answer["error"]
        assert "label build --resume" in answer["error"]
    with pytest.warns(match=r"label.json is not as it was written"):
        build(settings, labels, resume=True)
    with open_review(labels, ReviewOptions()) as (session, sync):
        assert (sync.new, sync.gone, sync.back) == (0, 0, 0)
        assert session.store.counts() == {"drop": 1, "undecided": 11}


def test_an_object_whose_mask_is_another_one_is_asked_about_again(labels: Path) -> None:
    with open_review(labels, ReviewOptions(sample=0)) as (session, _):
        objects, store = list(session.labels.objects()), session.store
        store.decide(1, "accept", "Ada", 0)
        tile, instances = objects[0]
        other = {box: {**one, "area": 1} if box == 0 else one for box, one in instances.items()}
        sync = store.sync([(tile, other), *objects[1:]])
        assert (sync.new, sync.gone, sync.decided_gone) == (1, 1, 1)
        assert store.counts() == {"undecided": 12}
        assert store.sync(objects).back == 1
        assert store.counts() == {"accept": 1, "undecided": 11}, "back as it was, its decision holds again"


def test_export_and_back(labels: Path) -> None:
    with pytest.raises(DataError, match="no review of"):
        export_review(labels)
    with open_review(labels, ReviewOptions(reviewer="Ada")) as (session, _):
        with pytest.raises(BusyError):
            export_review(labels)
        for number, verdict in ((1, "drop"), (2, "box"), (3, "accept")):
            session.decide("c", "Ada", number, verdict, 0)
    account = export_review(labels)
    assert account["review"]["decided"] == 3
    done = contents(labels)
    assert export_review(labels) == account
    assert {name for name, data in contents(labels).items() if data != done[name]} <= {f"{FOLDER}/{FILE}"}
    # The decisions are in the labels: a review that begins anew has them.
    for path in (labels / FOLDER).iterdir():
        path.unlink()
    with open_review(labels, ReviewOptions()) as (session, sync):
        assert sync.new == 12
        assert session.store.counts() == {"accept": 1, "box": 1, "drop": 1, "undecided": 9}


def test_what_is_taken_back_is_as_it_was_before(labels: Path) -> None:
    with open_review(labels, ReviewOptions()) as (session, _):
        session.decide("a", "Ada", 1, "accept", 0)
    export_review(labels)
    before = contents(labels)["instances.json"]
    with open_review(labels, ReviewOptions()) as (session, _):
        session.decide("b", "Bob", 1, "drop", session.view(1)["last"])
        back = session.undo("b", "Bob")
        assert back is not None
        assert (back["verdict"], back["by"]) == ("accept", "Ada")
        assert session.undo("b", "Bob") is None, "what holds again is Ada's"
        log = session.store._rows("SELECT verdict, reviewer, undoes FROM decisions")
        assert [tuple(row) for row in log] == [("accept", "Ada", None), ("drop", "Bob", None), ("accept", "Bob", 2)]
    assert export_review(labels)["review"]["reviewers"] == {"Ada": 1}
    assert contents(labels)["instances.json"] == before, "back to the byte"


def test_taking_back_again_goes_on_to_the_decision_before(labels: Path) -> None:
    with open_review(labels, ReviewOptions()) as (session, _):
        store = session.store

        def decide(number: int, verdict: Verdict) -> None:
            store.decide(number, verdict, "Eve", store.object(number)["last"])

        def undo() -> tuple[int | None, str, str]:
            return store.undo("Eve", lambda _: None), store.object(1)["verdict"], store.object(2)["verdict"]

        for number, verdict in ((1, "accept"), (2, "accept"), (2, "drop"), (2, "box")):
            decide(number, verdict)
        assert undo() == (2, "accept", "drop")
        decide(2, "ignore")
        assert undo() == (2, "accept", "drop"), "what was taken back meanwhile is passed over"
        assert undo() == (2, "accept", "accept")
        assert undo() == (2, "accept", "undecided")
        decide(2, "drop")
        assert [undo() for _ in range(2)] == [(2, "accept", "undecided"), (1, "undecided", "undecided")]
        assert undo()[0] is None


def test_an_undo_of_an_earlier_version_is_passed_over(labels: Path) -> None:
    """Its row in the log held in place of the decision that it restored."""
    with open_review(labels, ReviewOptions()) as (session, _):
        store = session.store
        for reviewer, verdict in (("Ada", "accept"), ("Bob", "drop")):
            store.decide(1, verdict, reviewer, store.object(1)["last"])
        with store._writing() as db:
            append_decision(db, 1, "accept", None, None, "Bob", None, 2)
    with open_review(labels, ReviewOptions()) as (session, _):
        assert session.view(1)["verdict"] == "accept"
        session.decide("b", "Bob", 1, "box", session.view(1)["last"])
        session.undo("b", "Bob")
        assert session.view(1)["by"] == "Ada"


def test_boxes_without_a_mask_are_shown_after_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels, _ = make_unmasked_labels(tmp_path, monkeypatch)
    with served_review(labels, sample=2, jitter=1) as server:
        ada = Client(server, "1", "Ada")
        state, rows = ada.ask("state")[1], ada.ask("list", first=0, count=50)[1]
        assert state["total"] == len(rows) == 12, "every box, with a mask or without"
        without = 12 - read_account(labels)["boxes"]["labelled"]
        assert [row[3] for row in rows[2 : 2 + without]] == [1.0] * without, "no mask is the largest doubt"
        shown = ada.ask("open", place=2)[1]
        assert (shown["without"], shown["mask"], shown["pixels"]) == ("empty mask", "", 0)
        assert shown["filled"].startswith("M")
        assert ada.send("GET", f"/{server.token}/crop?id={shown['id']}&zoom=3")[0] == 200
        left, top, right, bottom = shown["bounds"]
        assert ada.ask("prompt", id=shown["id"], box=shown["bounds"], point=None)[0] == 400, "still nothing there"
        middle = [(left + right) / 2, (top + bottom) / 2]
        assert ada.ask("prompt", id=shown["id"], box=shown["bounds"], point=middle)[0] == 200
        assert ada.ask("decide", id=shown["id"], verdict="prompt", last=0)[0] == 200
        other = ada.ask("open", place=3)[1]
        ada.ask("decide", id=other["id"], verdict="accept", last=0)
        for place in range(2 + without, 12):
            ada.ask("decide", id=ada.ask("open", place=place)[1]["id"], verdict="drop", last=0)
        assert ada.ask("state")[1]["sample"] == [0, 2], "a box without a mask is no label, good or bad"
    account = export_review(labels)
    assert account["review"]["verdicts"]["prompt"] == account["review"]["verdicts"]["accept"] == 1
    assert account["boxes"]["labelled"] == 3
    with open_review(labels, ReviewOptions(sample=2)) as (session, sync):
        assert (sync.new, sync.gone, sync.back) == (0, 0, 0)
        for number in [row["id"] for row in session.store.listed(0, 2)]:
            session.decide("c", "Ada", number, "drop", 0)
    assert export_review(labels)["boxes"]["labelled"] == 1
    with open_review(labels, ReviewOptions()) as (session, _):
        session.undo("c", "Ada")
        session.decide("c", "Ada", shown["id"], "ignore", session.store.object(shown["id"])["last"])
    assert export_review(labels)["boxes"]["labelled"] == 1


def test_what_export_refuses(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_review(labels, ReviewOptions()) as (session, _):
        pass
    assert main(["review", str(labels), "--export"]) == 2
    assert "nothing is decided" in capsys.readouterr().err
    assert main(["review", str(labels), "--json"]) == 2
    assert main(["review", str(labels), "--port", "70000"]) == 2
    capsys.readouterr()
    with open_review(labels, ReviewOptions()) as (session, _):
        for number in range(1, 13):
            session.decide("c", "Ada", number, "drop", 0)
    with pytest.raises(DataError, match="every object"):
        export_review(labels)
    with open_review(labels, ReviewOptions(reviewer="Ada")) as (session, _):
        session.undo("c", "Ada")
    (labels / "manifest.parquet").write_bytes(b"my own splits")
    with pytest.raises(OutputError, match="move yours elsewhere"):
        export_review(labels)
    assert (labels / "manifest.parquet").read_bytes() == b"my own splits"


def test_a_file_of_another_version_or_kind(labels: Path, tmp_path: Path) -> None:
    (labels / FOLDER).mkdir()
    (labels / FOLDER / FILE).write_bytes(b"mine")
    with pytest.raises(OutputError, match="geodistill did not write it"):
        DecisionStore(labels)
    (labels / FOLDER / FILE).unlink()
    DecisionStore(labels).close()
    with closing(sqlite3.connect(labels / FOLDER / FILE)) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(DataError, match="a review of version 7; expected version 1"):
        DecisionStore(labels)
    (labels / FOLDER / FILE).write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises((DataError, OutputError), match="cannot be"):
        DecisionStore(labels)
    with pytest.raises(DataError, match="no finished label set"), open_review(tmp_path, ReviewOptions()):
        pass


def test_annotations_that_are_others_now(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    settings.boxes.write_text(settings.boxes.read_text().replace('"iscrowd": 0', '"iscrowd":  0', 1))
    with pytest.raises(DataError, match=r"annotations that .* are others now"), open_review(labels, ReviewOptions()):
        pass


def test_many_threads_never_share_an_object_and_lose_no_decision(labels: Path) -> None:
    with open_review(labels, ReviewOptions()) as (session, _):

        def work(name: str) -> list[int]:
            numbers = []
            while (shown := session.next_object(name, name)) is not None:
                session.decide(name, name, shown["id"], "accept", shown["last"])
                numbers.append(shown["id"])
            return numbers

        with ThreadPoolExecutor(4) as pool:
            done = [number for numbers in pool.map(work, "abcd") for number in numbers]
        assert sorted(done) == list(range(1, 13))
        assert session.store.counts() == {"accept": 12}


@pytest.mark.slow
def test_a_killed_review_has_every_decision_that_was_answered(labels: Path, tmp_path: Path) -> None:
    command = start(["review", labels, "--reviewer", "Ada"], tmp_path)
    while not (found := re.findall(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", command.out.read_text())):
        assert command.process.is_alive()
        time.sleep(0.01)
    port, token = found[0]
    connection = HTTPConnection("127.0.0.1", int(port), timeout=10)
    for number in (1, 2, 3):
        body = {"client": "c", "reviewer": "Ada", "id": number, "verdict": "drop", "last": 0}
        connection.request("POST", f"/{token}/decide", json.dumps(body))
        assert connection.getresponse().read()
    command.send(signal.SIGKILL)
    assert command.wait().status == -signal.SIGKILL
    connection.close()
    with open_review(labels, ReviewOptions()) as (session, _):
        assert session.store.counts() == {"drop": 3, "undecided": 9}


def test_leases_end_where_a_browser_is_silent() -> None:
    now = [0.0]
    leases = Leases(lambda: now[0])
    assert leases.take([1, 2], "a", "Ada") == 1
    assert leases.take([1, 2], "b", "Bob") == 2
    assert leases.take([1, 2], "c", "Cy") is None
    now[0] = SECONDS - 1
    leases.renew("b")
    assert (leases.seconds(1, "a"), leases.seconds(1, "b")) == (SECONDS - 1, None)
    now[0] = SECONDS + 1
    assert (leases.holder(1), leases.holder(2), leases.count()) == (None, "Bob", 1)
    assert leases.take([1, 2], "c", "Cy") == 1


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(45, 50)
    # The bounds are where the share's own standard error reaches it: (p - 0.9)^2 = z^2 p (1 - p) / n.
    for bound in (low, high):
        assert math.isclose((bound - 0.9) ** 2, 1.959964**2 * bound * (1 - bound) / 50, rel_tol=1e-9)
    assert low < 0.9 < high
    assert wilson(0, 0) == (0, 1)
    assert math.isclose(wilson(10, 10)[1], 1)
    assert wilson(0, 10)[0] == 0
    assert seconds_left([1, 2, 3, 4], 100, 1) is None
    assert seconds_left([1, 2, 3, 4, 60], 100, 2) == 150


def test_doubts_are_of_parts() -> None:
    plain = {"segmentation": {"size": [100, 100]}, "annotated_bbox": [10, 10, 20, 10], "bbox": [10, 10, 10, 10]}
    doubt = doubt_of(plain | {"score": 0.9, "changed": []})
    assert (round(doubt.score, 6), doubt.fit) == (0.1, 0.5)
    assert math.isclose(doubt.total, 0.3)
    assert doubt_of(plain | {"score": 0.9, "changed": ["fell back to the box"]}).score == 1
    assert math.isclose(doubt_of(plain | {"score": 0.9, "changed": []}, 0.3, 0.7).total, 0.4)
    outside = plain | {"annotated_bbox": [-10, -10, 20, 20], "bbox": [0, 0, 10, 10], "score": 1, "changed": []}
    assert doubt_of(outside).total == 0, "of a box that leaves the image, what lies inside counts"
