"""The page of a review in a real browser: keys alone, phones, the dark, hostile names, twenty thousand objects."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import browser
from browser import Browser
from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from geodistill.label.boxes import Box, rectangle
from geodistill.label.build_labels import build
from geodistill.label.tiles import TileId
from geodistill.review.decision_store import FILE, FOLDER
from geodistill.review.open_labels import OpenLabels
from geodistill.review.prompting import Prompter, Proposal
from reviewed import make_labels, served_review

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: apt install chromium")

HOSTILE = "<img src=x onerror=alert(1)>"
FILE_NAME = "scene <script>alert(2)<&script>.png"
COUNT = 20_000

CONTRAST = """
(() => {
  const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0.05);
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return [ground, ...['h1', '#good', '#facts dt', '.row .v', '#help p'].map((name) => {
    const ink = light(getComputedStyle(document.querySelector(name)).color);
    return Math.max(ink, ground) / Math.min(ink, ground);
  })];
})()
"""


def hostile_labels(folder: Path) -> Path:
    source = make_detection_set(folder / "set", 2, empty=0)
    data = read_coco(source)
    data["categories"][0]["name"] = HOSTILE
    data["images"][0]["file_name"] = FILE_NAME
    (source / "images/scene_0.png").rename(source / "images" / FILE_NAME)
    write_boxes(source, data)
    build(settings_of(source, background="sea"), folder / "labels")
    return folder / "labels"


def verdicts(labels: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(labels / FOLDER / FILE)) as db:
        return db.execute("SELECT verdict, reviewer FROM decisions ORDER BY id").fetchall()


def press(page: Browser, key: str, said: str) -> None:
    page.press(key)
    page.wait_for(f"document.querySelector('#message').textContent.includes({json.dumps(said)}) && !busy")


@pytest.mark.slow
def test_keys_alone_decide_on_hostile_labels(tmp_path: Path) -> None:
    labels = hostile_labels(tmp_path)
    with served_review(labels) as server, Browser(tmp_path / "profile") as page:
        page.open(server.link)
        page.wait_for("document.querySelectorAll('.row').length === 8 && !busy")
        for key, verdict, place in (("a", "accept", 1), ("d", "drop", 2), ("b", "box", 3), ("i", "ignore", 4)):
            press(page, key, f"{place}: {verdict}")
        press(page, "p", "New mask")
        assert page.value("document.querySelector('#prompt').getAttribute('d')").startswith("M")
        before = page.value("document.querySelector('#mask').getAttribute('d')")
        page.press("ArrowRight")
        page.wait_for(f"document.querySelector('#mask').getAttribute('d') !== {json.dumps(before)}")
        press(page, "Enter", "5: prompt")
        press(page, "u", "Taken back: 5")
        page.press("ArrowLeft")
        page.wait_for("document.querySelector('[aria-current=true] .n').textContent === '4'")
        assert "ignore, by Ada" in page.value("document.querySelector('#facts').textContent")
        far = page.value("document.querySelector('#picture').getAttribute('viewBox')")
        page.press("+")
        assert page.value("document.querySelector('#picture').getAttribute('viewBox')") != far
        page.press("m")
        assert page.value("getComputedStyle(document.querySelector('#mask')).display") == "none"

        names = page.value("[...document.querySelectorAll('.row .c')].map((name) => name.textContent)")
        assert HOSTILE in names
        shown = set()
        for place in range(8):
            page.value(f"document.querySelectorAll('.row')[{place}].click()")
            page.wait_for(f"document.querySelector('[aria-current=true] .n').textContent === '{place + 1}'")
            shown.add(page.value("document.querySelectorAll('#facts dd')[1].textContent"))
        assert "scene <script>alert(2)<&script>" in shown
        assert page.value("document.querySelectorAll('img, script:not([src])').length") == 0

        page.press("h")
        for width, height, scale in ((360, 740, 2), (640, 450, 2), (1280, 900, 1)):  # a phone; 200 %; a screen
            page.resize(width, height, scale, mobile=width < 500)
            assert page.value("document.documentElement.scrollWidth") <= width
            assert page.value("document.querySelector('#picture').getBoundingClientRect().height") >= 200
        for scheme in ("light", "dark"):
            page.prefer(color_scheme=scheme)
            ground, *contrasts = page.value(CONTRAST)
            assert (ground < 0.15) == (scheme == "dark")
            assert min(contrasts) >= 4.5
        assert page.complaints == []
        assert all(url.startswith((server.link, "data:")) for url in page.requests)
        with_token = server.token
        page.open(server.link.replace(with_token, "guess"))
        assert "token included" in page.value("document.body.textContent")
    expected = ["accept", "drop", "box", "ignore", "prompt", "undecided"]
    assert verdicts(labels) == [(verdict, "Ada") for verdict in expected]


@pytest.mark.slow
def test_a_mask_is_taken_of_the_box_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = make_labels(tmp_path)[1]
    propose, asked = Prompter.propose, list[Any]()

    def slowly(prompter: Prompter, name: TileId, box: Sequence[float], point: Sequence[float] | None) -> Proposal:
        time.sleep(0.3)
        asked.append(box)
        return propose(prompter, name, box, point)

    monkeypatch.setattr(Prompter, "propose", slowly)
    with served_review(labels) as server, Browser(tmp_path / "profile") as page:
        page.open(server.link)
        page.wait_for("current && !busy")
        press(page, "p", "New mask")
        page.press("ArrowRight")
        page.wait_for("busy")
        for key in ("ArrowRight", "ArrowRight", "Enter"):  # while an older box is asked about
            page.press(key)
        page.wait_for("prompting.settled && !busy")
        assert (len(asked), asked[-1]) == (3, page.value("prompting.box")), "the last move is asked about too"
        for key in ("ArrowRight", "Enter"):  # before it is asked about
            page.press(key)
        page.wait_for("prompting.settled && !busy")
        assert (len(asked), asked[-1]) == (4, page.value("prompting.box"))
        assert verdicts(labels) == [], "nothing was taken of an older box"
        press(page, "Enter", "1: prompt")
        press(page, "p", "New mask")
        page.press("ArrowRight")
        press(page, "a", "2: accept")
        time.sleep(0.4)
        assert len(asked) == 5, "what is no longer shown is not asked about"
        assert page.complaints == []
    assert [verdict for verdict, _ in verdicts(labels)] == ["prompt", "accept"]


@pytest.mark.slow
def test_twenty_thousand_objects_scroll_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = hostile_labels(tmp_path)
    box = Box(rectangle(4, 4, 20, 20), HOSTILE, 0, "made up", "hbox")
    monkeypatch.setattr(OpenLabels, "boxes", lambda self, name: dict.fromkeys(range(2 * COUNT), box))
    with served_review(labels) as server:
        store = server.session.store
        with store._writing() as db:  # as many as a large set has, all of them the first object's
            names = 'key, "row", col, class, original, score, fit, doubt, sample'
            db.executemany(
                f"INSERT INTO objects ({names}, box, place) SELECT {names}, ?, ? FROM objects WHERE id = 1",
                ((1000 + place, place) for place in range(8, COUNT)),
            )
            db.execute("UPDATE objects SET verdict = 'accept' WHERE place < 8")
        with Browser(tmp_path / "profile") as page:
            page.open(server.link)
            page.wait_for("document.querySelector('#count').textContent === '8 of 20,000'")
            page.wait_for("document.querySelector('[aria-current=true]') !== null")
            rows = page.value(
                "new Promise((done) => { const frame = document.querySelector('#list'), rows = [];"
                " const step = () => { rows.push(document.querySelectorAll('.row').length); frame.scrollTop += 4000;"
                " rows.length < 120 ? requestAnimationFrame(step) : done(rows); };"
                " requestAnimationFrame(step); })"
            )
            assert max(rows) < 80, "only what is in view exists"
            page.value("document.querySelector('#list').scrollTop = 1e9")
            page.wait_for("document.querySelector('.row:last-child .n').textContent === '20,000'")
            page.wait_for("[...document.querySelectorAll('.row .c')].every((name) => name.textContent)")
            page.value("(async () => { for (let k = 0; k < 10; k += 1) { await decide('accept'); } })()")
            page.wait_for("document.querySelector('#count').textContent === '18 of 20,000'")
            assert page.complaints == []
