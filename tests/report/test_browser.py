"""The page in a real browser: nothing is fetched, nothing is complained of; keys, phones and the dark are served."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
from browser import Browser
from geodistill.report.report_options import ReportOptions
from geodistill.report.write import write_report
from reported import make_run

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here: apt install chromium")

HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "c'\"&\x1b[2J\u202egnp")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("hostile"), HOSTILE)
    return write_report(run, run.parent / "report.html", ReportOptions(speed=False))


@pytest.fixture(scope="module")
def chromium(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(chromium: Browser, page: Path) -> Browser:
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.prefer()
    chromium.resize(1280, 900)
    chromium.open(page)
    return chromium


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_goes_wrong(opened: Browser, page: Path) -> None:
    opened.value("[...document.images].forEach((image) => { image.loading = 'eager'; })")
    opened.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert opened.complaints == []
    assert {url for url in opened.requests if not url.startswith("data:")} == {page.as_uri()}


def test_hostile_names_are_text(opened: Browser) -> None:
    shown = opened.value("[...document.querySelectorAll('.classes tbody th')].map((cell) => cell.textContent)")
    assert shown == [HOSTILE[0], HOSTILE[1], "c'\"&\\x1b[2J\\u202egnp"]
    assert opened.value("document.querySelectorAll('img[src=x], script').length") == 2  # the page's own two
    names = opened.value("[...document.querySelectorAll('.gallery b')].map((name) => name.textContent)")
    assert names == ["image <2>.tif", "image <1>.tif", "image <0>.tif"]


def test_a_script_of_somebody_else_does_not_run(opened: Browser) -> None:
    opened.value(
        "{ const own = document.createElement('script'); own.textContent = 'window.ran = 1';"
        " document.body.append(own); }"
    )
    opened.value(
        "new Promise((done) => { const image = new Image(); image.onerror = done;"
        " image.src = 'http://127.0.0.1:9/x.png'; })"
    )
    assert opened.value("window.ran") is None
    assert any("Content Security Policy" in text for text in opened.complaints)


@pytest.mark.slow
def test_keys_alone_reach_and_drive_everything(opened: Browser) -> None:
    opened.press("Tab")
    assert opened.value("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        opened.press("Tab")
        reached.add(
            opened.value("document.activeElement.id || document.activeElement.className || document.activeElement.name")
        )
    assert {"palette", "theme", "choice", "layer", "strength", "look", "wide"} <= reached
    opened.value("document.querySelector('.look').focus()")
    opened.press("Enter")
    assert opened.value("document.querySelector('#viewer').open")
    opened.press("2")
    assert opened.value("document.querySelector('.stage').dataset.layer") == "truth"
    opened.press("+")
    assert "scale(1.5)" in opened.value("document.querySelector('.pane').style.transform")
    opened.press("Escape")
    assert not opened.value("document.querySelector('#viewer').open")


def test_layers_and_choices_switch(opened: Browser) -> None:
    def visible() -> list[str]:
        shown = "getComputedStyle(image).visibility === 'visible' && image.offsetParent"
        images = f"[...document.querySelectorAll('.gallery img')].filter((image) => {shown})"
        return list(opened.value(f"{images}.map((image) => image.className)"))

    assert visible() == ["layer image", "layer prediction"]
    opened.value("document.querySelector('input[name=layer][value=errors]').click()")
    assert visible() == ["layer image", "layer errors"]
    opened.value("document.querySelector('input[name=choice][value=best]').click()")
    assert opened.value("document.querySelector('.gallery li:not([hidden]) b').textContent") == "image <0>.tif"


def test_the_palette_repaints_table_and_pictures(opened: Browser) -> None:
    first = "document.querySelector('.layer.truth').src"
    before, colour = opened.value(first), "getComputedStyle(document.querySelector('.k0')).color"
    was = opened.value(colour)
    opened.value("document.querySelector('#palette').click()")
    assert opened.value(colour) == "rgb(0, 114, 178)" != was
    assert opened.value(first) != before
    opened.wait_for(
        "document.querySelector('.layer.truth').complete && document.querySelector('.layer.truth').naturalWidth"
    )
    drawn = opened.value(
        "(() => { const image = document.querySelector('.layer.truth'); const sheet = document.createElement('canvas');"
        " sheet.width = image.naturalWidth; sheet.height = image.naturalHeight; const pen = sheet.getContext('2d');"
        " pen.drawImage(image, 0, 0); return [...new Uint32Array(pen.getImageData(0, 0, sheet.width, sheet.height)"
        ".data.buffer)].filter((value, k, each) => each.indexOf(value) === k).map((value) => value >>> 0); })()"
    )
    safe = {0xFFB27200, 0xFF009FE6, 0xFF739E00}  # Okabe and Ito's first three, as ABGR
    assert safe & set(drawn)
    assert set(drawn) <= safe | {0}
    opened.value("document.querySelector('#palette').click()")
    assert opened.value(first) == before


@pytest.mark.parametrize(("width", "scale"), [(360, 1), (640, 2), (1280, 1)])
def test_the_page_is_never_wider_than_the_screen(opened: Browser, width: int, scale: float) -> None:
    opened.resize(width, 800, scale, mobile=width < 500)
    assert opened.value("document.documentElement.scrollWidth") <= width
    small = "[...document.querySelectorAll('main p, main td, main th, main figcaption')]"
    assert opened.value(f"Math.min(...{small}.map((each) => parseFloat(getComputedStyle(each).fontSize)))") >= 13


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_the_light_and_in_the_dark(opened: Browser, scheme: str) -> None:
    opened.prefer(color_scheme=scheme)
    ground = luminance(opened.value("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.1) == (scheme == "dark")
    for selector in ("body", ".quiet", "nav a", "thead th", "summary"):
        ink = luminance(opened.value(f"getComputedStyle(document.querySelector('{selector}')).color"))
        contrast = (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
        assert contrast >= 4.5, selector
    opened.value("document.querySelector('#theme').click()")
    assert (luminance(opened.value("getComputedStyle(document.body).backgroundColor")) < 0.1) != (scheme == "dark")


@pytest.mark.slow
def test_readers_of_the_screen_meet_names_headings_and_alternatives(opened: Browser) -> None:
    assert opened.value("document.querySelectorAll('h1').length") == 1
    assert opened.value("[...document.querySelectorAll('svg.chart')].every((chart) => chart.ariaLabel.length > 20)")
    assert opened.value(
        "[...document.querySelectorAll('svg:not(.chart)')].every((chart) => chart.ariaHidden === 'true')"
    )
    assert opened.value("[...document.querySelectorAll('img.image')].every((image) => image.alt)")
    assert opened.value("[...document.querySelectorAll('button')].every((each) => each.ariaLabel || each.textContent)")
    assert opened.value("[...document.querySelectorAll('main > section')].every((each) => document.getElementById("
                        "each.getAttribute('aria-labelledby')))")  # fmt: skip
