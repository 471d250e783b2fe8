"""The guided sampler on problems whose solution is available."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from threadpoolctl import threadpool_info, threadpool_limits

from nas.core.pareto import hypervolume
from nas.search.optuna_compat import frozen_trial, set_constraint
from nas.search.samplers import WarmStarted
from nas.search.samplers.config import SamplerConfig
from nas.search.samplers.encoding import Encoding
from nas.search.samplers.gaussian import MAX_FITTED, GaussianProcess
from nas.search.samplers.guided import GuidedSampler
from nas.search.samplers.history import History
from nas.search.samplers.surrogates import FITTED, MAX_ROWS, Surrogates, training_rows


def test_training_rows_are_bounded_and_hold_the_best() -> None:
    order = np.random.default_rng(0).permutation(1000)
    assert training_rows(order[:50]).tolist() == sorted(order[:50].tolist())
    rows = training_rows(order, 400)
    assert len(rows) == len(set(rows.tolist())) == 400
    assert set(order[:300].tolist()) <= set(rows.tolist())
    assert rows.tolist() == sorted(rows.tolist())
    rest = sorted(order.tolist().index(row) for row in rows.tolist())[300:]
    assert max(np.diff(rest)) <= 8, "spread over all others"


def test_a_proposal_uses_one_thread_of_linear_algebra() -> None:
    threads: set[int] = set()

    def inputs(params: Mapping[str, Any]) -> list[float]:
        threads.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return [float(params["x0"])]

    config = SamplerConfig(space=GRID, n_startup_trials=3, auxiliary_inputs=inputs)
    with threadpool_limits(2, user_api="blas"):
        _search(GuidedSampler(0, config), 4)
        after = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    assert threads == {1} and after == {2}


def test_a_reopened_study_costs_no_more_than_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of each surrogate and of each step of a fit; the number of steps."""
    rng, encoding = np.random.default_rng(0), Encoding(GRID)
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=GuidedSampler(0, SamplerConfig(space=GRID, log=(0,)))
    )
    for point in encoding.random(rng, 700):
        params = encoding.params(point)
        if params["kind"] == "c" and params["x0"] == 0:
            study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, params=params, distributions=GRID))
        else:
            study.add_trial(optuna.trial.create_trial(values=_tradeoff(params), params=params, distributions=GRID))
    factored: list[int] = []
    steps: list[int] = []
    init, loss = GaussianProcess.__init__, GaussianProcess._loss

    def seen_init(self: GaussianProcess, x: Any, *args: Any, **options: Any) -> None:
        factored.append(len(x))
        init(self, x, *args, **options)

    def seen_loss(self: GaussianProcess, row: Any, x: Any, y: Any) -> Any:
        steps.append(len(x))
        return loss(self, row, x, y)

    monkeypatch.setattr(GaussianProcess, "__init__", seen_init)
    monkeypatch.setattr(GaussianProcess, "_loss", seen_loss)
    study.ask(GRID)
    assert max(factored) == MAX_ROWS and len(factored) == 5, "two warps of two objectives, and failures"
    assert max(steps) == MAX_FITTED and len(steps) < 120 * len(factored)
    fitted = len(steps)
    study.ask(GRID)
    assert len(steps) == fitted and len(factored) == 10, "no fit before the study has grown by a tenth"


GRID: dict[str, BaseDistribution] = {f"x{i}": IntDistribution(0, 7) for i in range(6)} | {
    "kind": CategoricalDistribution("abc")
}


def _tradeoff(params: Mapping[str, Any]) -> tuple[float, float]:
    """Cost and accuracy of a made-up network: widths cost by their product, and help with diminishing returns; one
    kind is better, one cheaper."""
    widths = np.array([params[f"x{i}"] + 1.0 for i in range(6)])
    cost = float(widths[:-1] @ widths[1:]) * {"a": 1.0, "b": 0.9, "c": 1.2}[params["kind"]]
    return cost, float(np.log(widths) @ [3, 1, 2, 1, 0.5, 0.2]) + {"a": 0.0, "b": -0.5, "c": 0.7}[params["kind"]]


def _search(sampler: BaseSampler, count: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for _ in range(count):
        trial = study.ask(GRID)
        study.tell(trial, _tradeoff(trial.params))
    return study


def _volume(study: optuna.Study) -> float:
    values = np.array([t.values for t in study.trials if t.state == TrialState.COMPLETE])
    return hypervolume(
        np.column_stack([np.log(values[:, 0]), values[:, 1]]), [math.log(5 * 64 * 1.2), -0.5], ["min", "max"]
    )


def test_it_finds_in_thirty_trials_more_than_chance_in_a_hundred_and_sixty() -> None:
    ours = _volume(_search(GuidedSampler(0, SamplerConfig(space=GRID, log=(0,))), 30))
    assert ours > _volume(_search(optuna.samplers.RandomSampler(seed=0), 160))


def test_the_seed_decides() -> None:
    first, again, other = (
        [t.params for t in _search(GuidedSampler(s, SamplerConfig(space=GRID, n_startup_trials=5)), 12).trials]
        for s in (0, 0, 1)
    )
    assert first == again != other


def test_a_new_process_for_each_trial_proposes_what_one_process_does() -> None:
    """Hyperparameters are fitted now and then and used until the next fit; a process that begins in between uses them
    too."""
    config = SamplerConfig(space=GRID, log=(0,), n_startup_trials=4)
    whole = _search(GuidedSampler(0, config), 20)
    broken = _search(GuidedSampler(0, config), 10)
    for _ in range(10):
        broken.sampler = GuidedSampler(0, config)
        trial = broken.ask(GRID)
        broken.tell(trial, _tradeoff(trial.params))
    assert [t.params for t in broken.trials] == [t.params for t in whole.trials]
    fitted = {t.number for t in whole.trials if FITTED in t.system_attrs}
    assert 0 < len(fitted & set(range(10, 20))) < 10, "the test needs proposals between two fits"


def test_nothing_is_proposed_twice_even_while_it_runs() -> None:
    study = _search(GuidedSampler(0, SamplerConfig(space=GRID, n_startup_trials=5)), 8)
    running = [study.ask(GRID) for _ in range(8)]  # eight workers ask before any of them tells
    everything = [tuple(sorted(t.params.items())) for t in (*study.trials[:8], *running)]
    assert len(set(everything)) == 16


def test_a_known_objective_is_computed_and_features_are_asked_once_a_point() -> None:
    asked: list[tuple[Any, ...]] = []

    def features(params: Mapping[str, Any]) -> list[float]:
        asked.append(tuple(sorted(params.items())))
        return [math.log(_tradeoff(params)[0])]

    sampler = GuidedSampler(
        0,
        SamplerConfig(
            space=GRID,
            n_startup_trials=5,
            log=(0,),
            deterministic={0: lambda p: _tradeoff(p)[0]},
            auxiliary_inputs=features,
        ),
    )
    study = _search(sampler, 10)
    assert len(asked) == len(set(asked)) > 100, "each point once, however often it came up"
    assert sampler._surrogates is not None
    assert {name.split(",")[0] for name in sampler._surrogates[1].hyperparameters} == {"objective 1"}
    assert _volume(study) > 0


def test_the_beginning_lies_along_the_front_of_guesses() -> None:
    sampler = GuidedSampler(0, SamplerConfig(space=GRID, n_startup_trials=6, log=(0,), prior_mean=_tradeoff))
    values = np.array([t.values for t in _search(sampler, 6).trials])
    order = np.argsort(values[:, 0])
    assert (np.diff(values[order, 1]) > 0).all()  # none of them dominates another
    assert values[:, 0].max() > 10 * values[:, 0].min()


def test_a_sampler_may_be_asked_about_one_space_and_another_in_turn() -> None:
    study = optuna.create_study(sampler=GuidedSampler(0, SamplerConfig(n_startup_trials=4)))
    other: dict[str, BaseDistribution] = {"y": FloatDistribution(0, 1), "z": CategoricalDistribution("abcd")}
    for i in range(16):
        trial = study.ask(GRID if i % 2 else other)
        study.tell(trial, float(len(trial.params)))
    sampler = study.sampler
    for i in range(4):
        space = GRID if i % 2 else other
        assert set(sampler.sample_relative(study, frozen_trial(study.ask()), space)) == set(space)


def test_only_candidates_are_proposed() -> None:
    encoding = Encoding(GRID)
    rows = [encoding.params(p) for p in encoding.random(np.random.default_rng(0), 30)]
    study = _search(GuidedSampler(0, SamplerConfig(space=GRID, n_startup_trials=5, candidates=rows)), 30)
    assert all(t.params in rows for t in study.trials)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == len({tuple(sorted(r.items())) for r in rows})


def test_what_is_told_ahead_of_a_cheap_objective_spares_evaluations() -> None:
    encoding = Encoding(GRID)
    points = [encoding.params(p) for p in encoding.random(np.random.default_rng(1), 60)]
    everything = np.array([_tradeoff(p) for p in points])
    worst = (np.log(everything[:, 0].max()), everything[:, 1].min())

    def share(told: bool, seed: int) -> float:
        sampler = GuidedSampler(seed, SamplerConfig(space=GRID, log=(0,)))
        if told:
            sampler.warm_start(0, points, [_tradeoff(p)[0] for p in points])
        found = [t.values for t in _search(sampler, 20).trials]
        return hypervolume([(np.log(cost), gain) for cost, gain in found], worst, ("min", "max"))

    told, alone = ([share(kind, seed) for seed in range(4)] for kind in (True, False))
    assert np.mean(told) > np.mean(alone)


def test_what_is_told_ahead_is_in_the_objectives_own_units() -> None:
    """Maximised, logarithmic, and one of the points evaluated as well: the model has each once, and both agree."""
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=GuidedSampler(0, SamplerConfig(space=GRID, log=(0,)))
    )
    for _ in range(3):
        trial = study.ask(GRID)
        study.tell(trial, _tradeoff(trial.params))
    sampler = study.sampler
    assert isinstance(sampler, GuidedSampler) and isinstance(sampler, WarmStarted)
    tried, encoding = study.trials[0], Encoding(GRID)
    new = next(
        encoding.params(p)
        for p in encoding.random(np.random.default_rng(5), 9)
        if encoding.params(p) not in [t.params for t in study.trials]
    )
    sampler.warm_start(0, [tried.params, new], [tried.values[0], 7.0])
    history = History.of(study, frozen_trial(study.ask()), encoding, GRID, (0,), {})
    surrogates = Surrogates(encoding, SamplerConfig(space=GRID, log=(0,)))
    x, y = surrogates.training_data(0, history, sampler._cheap)
    assert len(x) == len(y) == 4 and y.tolist() == pytest.approx(
        [-math.log(t.values[0]) for t in study.trials[:3]] + [-math.log(7.0)]
    )
    assert len(surrogates.training_data(1, history, sampler._cheap)[1]) == 3


def test_constraints_are_learned() -> None:
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=GuidedSampler(0, SamplerConfig(space=GRID, log=(0,)))
    )
    for _ in range(30):
        trial = study.ask(GRID)
        cost, accuracy = _tradeoff(trial.params)
        set_constraint(trial, "x0 at most 3", trial.params["x0"] - 3.0)
        study.tell(trial, (cost, accuracy))
    begun, learned = study.trials[:10], study.trials[20:]
    assert np.mean([t.params["x0"] <= 3 for t in learned]) > 0.8 > np.mean([t.params["x0"] <= 3 for t in begun])


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_what_fails_is_avoided(state: TrialState) -> None:
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=GuidedSampler(0, SamplerConfig(space=GRID, log=(0,)))
    )
    for _ in range(32):
        trial = study.ask(GRID)
        if trial.params["kind"] == "c":
            study.tell(trial, state=state)
        else:
            study.tell(trial, _tradeoff(trial.params))
    assert np.mean([t.state == state for t in study.trials[20:]]) < 0.2


def test_the_example_of_the_documentation_runs() -> None:
    text = (Path(__file__).parents[4] / "docs" / "samplers.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    done = subprocess.run([sys.executable, "-c", found[1]], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+ on the front", done.stdout.strip())


@pytest.mark.parametrize("count", [1, 4])
def test_one_and_many_objectives(count: int) -> None:
    def values(params: Mapping[str, Any]) -> list[float]:
        widths = np.array([params[f"x{i}"] for i in range(6)], float)
        return [float(((widths - centre) ** 2).sum()) for centre in (2, 5, 0, 7)[:count]]

    def volume(sampler: BaseSampler, trials: int) -> float:
        study = optuna.create_study(directions=["minimize"] * count, sampler=sampler)
        for _ in range(trials):
            trial = study.ask(GRID)
            study.tell(trial, values(trial.params))
        return hypervolume([t.values for t in study.trials], [100.0] * count, ["min"] * count)

    assert volume(GuidedSampler(0, SamplerConfig(space=GRID, n_startup_trials=8)), 35 if count == 1 else 20) > volume(
        optuna.samplers.RandomSampler(seed=0), 100
    )


@pytest.mark.parametrize(("budgets", "goals"), [((40.0,), ()), ((), (2.0,))])
def test_budgets_and_goals_draw_proposals_to_themselves(budgets: tuple[float, ...], goals: tuple[float, ...]) -> None:
    """From the same thirty random trials, five proposals each: those with a budget (or goal) lie nearer to it than
    those without."""
    known = _search(optuna.samplers.RandomSampler(seed=0), 30)
    column, at = (0, 40.0) if budgets else (1, 2.0)

    def away(sampler: GuidedSampler) -> float:
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        study.add_trials(known.trials)
        values = [_tradeoff(study.ask(GRID).params)[column] for _ in range(5)]
        return float(np.median([abs(v - at) for v in values]))

    assert away(GuidedSampler(0, SamplerConfig(space=GRID, log=(0,), budgets=budgets, goals=goals))) < 0.75 * away(
        GuidedSampler(0, SamplerConfig(space=GRID, log=(0,)))
    )


def test_what_cannot_be_a_budget() -> None:
    with pytest.raises(ValueError, match="positive"):
        GuidedSampler(0, SamplerConfig(budgets=(0.0, 2.0)))
