"""Progress on a terminal and without one: an ETA as soon as two points in time are known, no line without content."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from nas.core.console_reporter import ConsoleReporter, _Clock


def test_the_eta_is_the_mean_time_of_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.core.console_reporter.time.monotonic", lambda: 100.0)
    clock = _Clock()
    assert clock.remaining(100.0) is None
    clock.update(0, 10, 105.0)  # the work begins: what was before it does not count
    assert clock.remaining(106.0) is None
    clock.update(2, 10, 109.0)
    assert clock.remaining(109.0) == pytest.approx(16.0) and clock.remaining(112.0) == pytest.approx(13.0)
    assert clock.remaining(200.0) == 0.0


def test_units_of_an_earlier_run_took_no_time_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.core.console_reporter.time.monotonic", lambda: 0.0)
    clock = _Clock()
    clock.update(50, 100, 10.0)
    assert clock.remaining(10.0) is None
    clock.update(60, 100, 30.0)
    assert clock.remaining(30.0) == pytest.approx(80.0)


def test_the_first_unit_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.core.console_reporter.time.monotonic", lambda: 0.0)
    clock = _Clock()
    clock.update(1, 5, 3.0)
    assert clock.remaining(3.0) == pytest.approx(12.0)


def test_a_terminal_shows_no_count_without_a_total() -> None:
    out = io.StringIO()
    reporter = ConsoleReporter(Console(file=out, force_terminal=True, width=120))
    with reporter.bars(["train S"]) as (update,):
        update(0, 40, "")
        update(1, 40, "iou 1.0")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "None" not in shown and "-:--:--" not in shown and "1/40" in shown and "ETA" in shown


def test_a_unit_of_minutes_is_announced_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with ConsoleReporter(Console(file=out, width=120)).steps("measuring again") as update:
        update(0, 3, "S on openvino:fp32")
        assert out.getvalue() == "measuring again 0/3  S on openvino:fp32\n"


def test_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now, out = [0.0], io.StringIO()
    monkeypatch.setattr("nas.core.console_reporter.time.monotonic", lambda: now[0])
    with ConsoleReporter(Console(file=out, width=120)).bars(["train S"]) as (update,):
        for done in range(41):
            now[0] += 1.0
            update(done, 40, "")
        update(40, 40, "evaluating 1/9 images")  # nothing new within ten seconds
        now[0] += 11
        update(40, 40, "evaluating 9/9 images")
    lines = out.getvalue().splitlines()
    assert lines.pop(0) == "train S 0/40  "
    assert lines[0] == "train S 1/40  ETA 39 s  " and lines[-1].endswith("evaluating 9/9 images")
    assert len(lines) == 6 and not any("None" in line for line in lines)
