"""The page in Debian's chromium, driven by Playwright. Skipped where either is missing; CI installs both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.core.architecture_file import read_artifact
from nas.core.budgets import Budgets
from nas.search.explain.run_data import RunData, without_first
from nas.search.selection import select
from search_spaces.errors import InputError
from tests._report_run import CLASSES

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

OPEN = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
OVERLAPS = """(selector) => {
  const found = [];
  for (const holder of document.querySelectorAll(selector)) {
    const texts = [...holder.querySelectorAll('text')].filter((t) => t.textContent.trim() && t.getClientRects().length);
    const boxes = texts.map((t) => t.getBoundingClientRect());
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const w = Math.min(a.right, b.right) - Math.max(a.left, b.left), h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (w > 1 && h > 2) found.push([texts[i].textContent, texts[j].textContent]);
    }
  }
  return found;
}"""

ON_WHISKERS = """() => {
  const names = [...document.querySelectorAll('#plot .annotation-text')].filter((t) => /^[SML ]+$/.test(t.textContent));
  const all = [...document.querySelectorAll('#plot .trace.scatter')].filter((t) => t.querySelector('.errorbar'));
  const bars = [...all[all.length - 1].querySelectorAll('.errorbar path')].map((p) => p.getBoundingClientRect());
  if (!names.length || !bars.length) return ['nothing to compare'];
  return names.filter((t) => {
    const a = t.getBoundingClientRect();
    return bars.some((b) => Math.min(a.right, b.right) > Math.max(a.left, b.left) && Math.min(a.bottom, b.bottom) > Math.max(a.top, b.top));
  }).map((t) => t.textContent);
}"""


class Opened:
    """The page in a window, with everything that it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready]")

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(f"request {request.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def wide(browser: Any, run_folder: Path) -> Opened:
    return Opened(browser, run_folder / "report.html", 1400)


@pytest.fixture(scope="module")
def narrow(browser: Any, run_folder: Path) -> Opened:
    return Opened(browser, run_folder / "report.html", 390, "dark")


def test_class_names_are_text(wide: Opened) -> None:
    text = wide.page.inner_text("#trust")
    assert all(name in text for name in CLASSES)
    assert wide.page.locator("#trust script").count() == 0


@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_nothing_overlaps_and_nothing_sticks_out(size: str, request: pytest.FixtureRequest) -> None:
    opened: Opened = request.getfixturevalue(size)
    opened.page.evaluate(OPEN)
    assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.page.evaluate(OVERLAPS, "#networks svg, #search svg, #time svg, #plot .main-svg") == []


def test_names_of_picks_lie_beside_their_intervals(wide: Opened) -> None:
    assert wide.page.evaluate(ON_WHISKERS) == []


def test_dark_and_light(wide: Opened, narrow: Opened) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert wide.page.evaluate(colour) == "rgb(255, 255, 255)"
    assert narrow.page.evaluate(colour) == "rgb(18, 23, 29)"


def chosen(run: RunData, mode: str, value: float) -> str | None:
    """Id that `nas select` takes for one budget or goal."""
    bound = Budgets((("S", value),), "ms" if mode == "budget" else "")
    limits: dict[str, Any] = {"budgets": bound} if mode == "budget" else {"goals": bound}
    try:
        found = select([without_first(c) for c in run.candidates], "latency_ms", "map", **limits)
    except InputError:
        return None
    return found["S"].candidate.id


@pytest.mark.parametrize("mode", ["budget", "goal"])
def test_sliders_choose_what_select_chooses(mode: str, wide: Opened, run: RunData) -> None:
    page = wide.page
    page.click(f"[data-key=mode][data-value={mode}]")
    name = "latency_ms" if mode == "budget" else "map"
    values = sorted(c[name].value for c in run.candidates)
    bounds = [values[0] * 0.9, values[0], values[len(values) // 2], values[-1], values[-1] * 1.1]
    bounds += [a + f * (b - a) for a, b in zip(values[::12], values[1::12], strict=False) for f in (0.0, 0.5)]
    entry, out = page.locator("#sliders input[type=number]").first, page.locator("#sliders output").first
    for bound in bounds:
        entry.fill(repr(bound))
        expected = chosen(run, mode, bound)
        shown = out.inner_text()
        assert (f"· {expected}" in shown) if expected else ("no candidate" in shown), (bound, expected, shown)
    slider = page.locator("#sliders input[type=range]").last
    for place in (0, 400, 1000):
        slider.evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", place)
        bound = float(page.locator("#sliders input[type=number]").last.input_value())
        expected = chosen(run, mode, bound)
        shown = page.locator("#sliders output").last.inner_text()
        assert (f"· {expected}" in shown) if expected else ("no candidate" in shown)
    page.click("[data-key=mode][data-value=budget]")


def test_the_command_is_that_of_the_sliders(wide: Opened, run_folder: Path) -> None:
    entries = wide.page.locator("#sliders input[type=number]")
    for i, value in enumerate(("3.5", "6.25", "8")):
        entries.nth(i).fill(value)
    assert wide.page.inner_text("#command") == f"nas select {run_folder} --budgets S=3.5ms,M=6.25ms,L=8ms"


def test_a_download_is_the_file(wide: Opened, run: RunData, run_folder: Path, tmp_path: Path) -> None:
    page = wide.page
    page.evaluate("(id) => pin(id)", run.pick("M").id)
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "M.json"
    assert Path(waiting.value.path()).read_bytes() == (run_folder / "M.json").read_bytes()
    other = next(c for c in run.candidates if c.id not in {p.candidate.id for p in run.selection or ()})
    page.evaluate("(id) => pin(id)", other.id)
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "other.json")
    artifact = read_artifact(tmp_path / "other.json")
    assert artifact.architecture == other.architecture
    assert artifact.estimates == without_first(other).estimates
    assert artifact.classes == CLASSES


def test_a_click_pins_a_candidate(wide: Opened, run: RunData) -> None:
    page = wide.page
    place = page.evaluate(
        """(id) => { const p = document.getElementById('plot'), c = BY_ID[id], f = p._fullLayout, b = p.querySelector('.nsewdrag').getBoundingClientRect();
        return [b.left + f.xaxis.l2p(c.estimates.latency_ms.value), b.top + f.yaxis.l2p(c.estimates.map.value)]; }""",
        run.pick("L").id,
    )
    page.evaluate("window.scrollTo(0, 0)")
    page.evaluate("document.getElementById('plot').scrollIntoView({block: 'center', behavior: 'instant'})")
    place = page.evaluate(
        """(id) => { const p = document.getElementById('plot'), c = BY_ID[id], f = p._fullLayout, b = p.querySelector('.nsewdrag').getBoundingClientRect();
        return [b.left + f.xaxis.l2p(c.estimates.latency_ms.value), b.top + f.yaxis.l2p(c.estimates.map.value)]; }""",
        run.pick("L").id,
    )
    page.mouse.move(*place)
    page.mouse.click(*place)
    page.wait_for_function(
        "(id) => document.querySelector('#panel .id').textContent.startsWith(id)", arg=run.pick("L").id
    )


def test_questions_are_answered(wide: Opened, run: RunData) -> None:
    page = wide.page
    page.fill("#less", "1")
    pick = run.pick("M")
    other = chosen(run, "budget", pick["latency_ms"].value - 1)
    assert str(other) in page.inner_text("#less-answer")
    page.fill("#fps", "200")
    fast = chosen(run, "budget", 5.0)
    answer = page.inner_text("#fps-answer")
    names = [p.name for p in run.selection or () if p.candidate.id == fast]
    assert (names[0] if names else str(fast)) in answer


def test_axes_scales_and_tabs(wide: Opened) -> None:
    page = wide.page
    page.select_option("#controls select >> nth=0", "macs")
    page.click("[data-key=log][data-value=true]")
    assert page.evaluate("document.getElementById('plot')._fullLayout.xaxis.type") == "log"
    page.select_option("#controls select >> nth=0", "latency_ms")
    page.click("[data-key=log][data-value=false]")
    for tabs in ("why", "time"):
        for i in range(3):
            page.click(f"[data-tabs={tabs}] button >> nth={i}")
            assert page.inner_text(f"#{tabs}-body")


def test_no_complaint_and_no_request(wide: Opened, narrow: Opened) -> None:
    """Last: of everything above."""
    assert wide.complaints == []
    assert narrow.complaints == []


def test_facts_of_the_page_are_those_of_the_file(wide: Opened, facts: dict[str, Any]) -> None:
    assert json.loads(wide.page.evaluate("document.getElementById('facts').textContent")) == facts
