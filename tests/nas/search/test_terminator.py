"""When a search may end: by hand-made histories, and on a study."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nas.estimators.base import Context
from nas.search.study import Study
from nas.search.terminator import LEAST, SearchProgress, StopRule
from search_spaces.errors import InputError
from tests._fakes import FakeLatency, FakeScore, tiny_space

SPACE = tiny_space()


def progress(volumes: list[float], expected: float | None = None, seconds: float = 60.0) -> SearchProgress:
    start = datetime(2026, 1, 1)
    return SearchProgress(
        list(volumes), [expected] * len(volumes), [start + timedelta(seconds=seconds * i) for i in range(len(volumes))]
    )


def test_a_search_that_still_gains_goes_on_and_one_that_does_not_ends() -> None:
    rising = [1 - 0.9 ** (i + 1) for i in range(LEAST)]
    flat = [*rising, *[rising[-1]] * 60]
    auto = StopRule()
    assert not auto(progress(rising)) and auto(progress(flat)) and not auto(progress(flat[: LEAST - 1]))
    assert not auto(progress(flat, expected=0.01))  # the models still hope: 1 % of the next one
    assert auto(progress(flat, expected=1e-5))


def test_a_rate_per_minute_counts_minutes() -> None:
    slowly = [1.0 + 0.001 * i for i in range(60)]  # about 0.1 % a candidate
    assert StopRule(0.5)(progress(slowly, seconds=60)) and not StopRule(0.5)(progress(slowly, seconds=1))
    assert "% a minute" in progress(slowly).rate_text and progress(slowly[:5]).rate_text == ""


def test_a_break_of_a_day_does_not_count() -> None:
    history = progress([1.0 + i / 100 for i in range(40)], seconds=6)
    history.times[-3:] = [t + timedelta(days=1) for t in history.times[-3:] if t]
    assert history.minutes == pytest.approx(0.1)


@pytest.mark.parametrize("text", ["never", "0", "-1", "101", "auto%"])
def test_what_is_no_rule_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="auto, or the least gain"):
        StopRule.parse(text)
    assert StopRule.parse("0.05%") == StopRule(0.05) and StopRule.parse("auto") == StopRule()


def test_a_study_ends_when_nothing_is_left_to_gain(tmp_path: Path) -> None:
    context = Context(SPACE, 3)
    study = Study(tmp_path / "s.journal", "run", SPACE, [FakeLatency.objective(), FakeScore.objective()], "random")
    study.run([FakeLatency(context), FakeScore(context)], 72, enough=StopRule())
    ended = len(study.history.progress)
    assert LEAST <= ended < 72
    again = Study(tmp_path / "s.journal", "run", SPACE, [FakeLatency.objective(), FakeScore.objective()], "random")
    again.run([FakeLatency(context), FakeScore(context)], 72, enough=StopRule())
    assert len(again.history.progress) == ended  # the same history, the same end


def test_the_guided_sampler_says_what_it_expects(tmp_path: Path) -> None:
    context = Context(SPACE, 3)
    study = Study(tmp_path / "s.journal", "run", SPACE, [FakeLatency.objective(), FakeScore.objective()], "guided")
    study.run([FakeLatency(context), FakeScore(context)], 14)
    known = [e for e in study.history.progress.expected if e is not None]
    assert known and all(0 <= e < 10 for e in known)
