"""Candidates without a chance are stopped, and only those; what is learned, told and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from nas.core.estimate import Estimate, Objective
from nas.estimators.base import Context, Estimator
from nas.search.evaluate_candidate import Bound, CandidateEvaluator, FrontState
from nas.search.pruner import AUDIT, WARM_UP, Pruner, pruning_savings
from nas.search.study import Study
from search_spaces.architecture import Architecture
from tests._fakes import FakeLatency, numbers_of, tiny_space

SPACE = tiny_space()
CONTEXT = Context(SPACE, 3)
COST, GAIN = Objective("latency_ms", "min", "ms"), Objective("score", "max")


class Rungs(Estimator):
    """A score that is nearly known early: ``quality`` says how nearly."""

    name, direction, rank = "score", "max", 2

    def __init__(self, quality: float = 1.0) -> None:
        super().__init__(CONTEXT)
        self.quality = quality
        self.whole: list[str] = []

    def __call__(self, architecture: Architecture) -> Estimate:
        *_, last = self.rungs(architecture)
        return last

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        value = numbers_of(architecture)[1]
        noise = (int(architecture.id[3:9], 16) / 2**24 - 0.5) * (1 - self.quality)
        yield Estimate("score@10", self.quality * value + noise)
        self.whole.append(architecture.id)
        yield Estimate("score", value, replicates=(0.123456789, 0.25), remarks=("from a hash",))


def searched(folder: Path, estimator: Rungs, trials: int, early_stop: bool = True) -> Study:
    study = Study(folder / "study.journal", "run", SPACE, [COST, GAIN], "random")
    study.run([FakeLatency(CONTEXT), estimator], trials, early_stop=early_stop)
    return study


def test_a_good_early_estimate_spares_most_and_loses_nothing_of_the_front(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    dear, spared = Rungs(), Rungs()
    whole = searched(tmp_path / "a", dear, 60, early_stop=False)
    study = searched(tmp_path / "b", spared, 60)
    assert len(dear.whole) == 60 and len(whole.history.stopped) == 0
    assert len(spared.whole) < 40 and len(study.history.stopped) == 60 - len(spared.whole)
    assert {c.id for c in study.archive.front} == {c.id for c in whole.archive.front}
    assert all("pruned after score@10: its chance" in message for _, message in study.history.stopped)
    assert study.failures == [] and len(study.candidates) == len(spared.whole)
    saved = study.history.savings
    assert (
        saved.tried == 60
        and saved.stopped == len(study.history.stopped)
        and saved.audited == (saved.stopped + saved.audited) // AUDIT
    )
    assert saved.correlations["score@10"] > 0.99 and "were pruned" in str(saved)


def test_an_early_estimate_that_says_nothing_stops_next_to_none(tmp_path: Path) -> None:
    study = searched(tmp_path, Rungs(0.0), 40)
    assert (
        len(study.history.stopped) <= 10
    )  # those the latency alone speaks against; a good one spares more than half (above)


def test_a_resumed_study_has_learned_the_same(tmp_path: Path) -> None:
    study = searched(tmp_path, Rungs(), 30)
    again = Study(tmp_path / "study.journal", "run", SPACE, [COST, GAIN], "random")
    assert len(again.history.pruner) == len(study.history.pruner) == len(study.candidates)
    assert again.history.stopped == study.history.stopped and again.history.records == study.history.records
    assert again.history.savings == study.history.savings
    known = {"latency_ms": 1.5, "score@10": 0.2}
    front = np.array([[1.2, 0.5]])
    assert again.history.pruner.forecast(known, front) == study.history.pruner.forecast(known, front)
    record = next(r for r in again.history.records.values() if r.draws)
    assert list(record.draws.values()) == [[0.12346, 0.25]] and list(record.remarks) == ["from a hash"]


def test_what_a_sampler_is_told_of_a_stopped_one_are_the_values_expected_of_it(tmp_path: Path) -> None:
    study = searched(tmp_path, Rungs(), 40)
    stopped = dict(study.history.stopped)
    told = {
        t.user_attrs["architecture"]: t.values
        for t in study._study.trials
        if t.user_attrs.get("architecture") in stopped
    }
    assert told.keys() == stopped.keys()
    for trial in study._study.trials:
        if (
            trial.user_attrs.get("architecture") in stopped
            and "course" in trial.user_attrs
            and trial.user_attrs["course"]["early"]
        ):
            assert trial.state == TrialState.COMPLETE
            early = trial.user_attrs["course"]["early"]["score@10"]
            assert trial.values[1] == pytest.approx(early, abs=0.1)  # known so well that hardly anything is left open


def test_nothing_is_stopped_before_there_is_something_to_learn_from() -> None:
    pruner = Pruner([COST, GAIN])
    evaluation = CandidateEvaluator([FakeLatency(CONTEXT), Rungs()], [COST, GAIN], (), pruner)
    front = FrontState(np.array([[0.1, 2.0]]))  # dominates everything
    for i in range(WARM_UP):
        assert evaluation(SPACE.smallest, i, front).candidate is not None
        pruner.observe({"latency_ms": 1.0 + i, "score@10": i / 10, "score": i / 10})
    outcome = evaluation(SPACE.smallest, 99, front)
    assert outcome.candidate is None and outcome.state == TrialState.COMPLETE and outcome.expected is not None
    assert outcome.record.early == {} and "latency_ms" in outcome.message  # its latency was enough
    let_through = evaluation(SPACE.smallest, 99, FrontState(front.values, AUDIT - 1))
    assert let_through.candidate is not None and let_through.record.audited


def test_bounds_come_first_and_spare_the_rest() -> None:
    estimator = Rungs()
    evaluation = CandidateEvaluator([estimator, FakeLatency(CONTEXT)], [COST, GAIN], [Bound("latency_ms", True, 0.5)])
    outcome = evaluation(SPACE.smallest, 0, FrontState(np.empty((0, 2))))
    assert (
        outcome.state == TrialState.PRUNED and "violates latency_ms <= 0.5" in outcome.message and estimator.whole == []
    )


def test_forecast_errors_are_as_large_as_they_say() -> None:
    """Of 300 linear targets with noise, the forecast's 95 % interval holds the truth about that often."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        pruner = Pruner([GAIN])
        slope = rng.normal(size=2)
        x = rng.normal(size=(21, 2))
        y = x @ slope + rng.normal(size=21) * 0.3
        for row, target in zip(x[:20], y[:20], strict=True):
            pruner.observe({"a@1": row[0], "b@1": row[1], "score": target})
        forecast = pruner.forecast({"a@1": x[20, 0], "b@1": x[20, 1]}, np.empty((0, 1)))
        assert forecast is not None and forecast.chance == 1.0
        hits += abs(forecast.means[0] - y[20]) <= 1.96 * forecast.deviations[0]
    assert 0.88 <= hits / 300 <= 1.0


def test_saving_counts_the_steps_that_were_left_out() -> None:
    seconds = {
        "a": {"cost": 1.0, "early": 1.0, "gain": 4.0},
        "b": {"cost": 1.0, "early": 1.0, "gain": 6.0},
        "c": {"cost": 1.0, "early": 1.0},
        "d": {"cost": 1.0},
    }
    found = pruning_savings(seconds, ["c", "d"], ["b"], ["b"], {"early": 0.5})
    assert (found.tried, found.stopped, found.audited, found.on_front) == (4, 2, 1, 1)
    assert found.saved_s == 5 + 6 and found.spent_s == 17
    assert "39%" in str(found) and "early 0.50" in str(found)
