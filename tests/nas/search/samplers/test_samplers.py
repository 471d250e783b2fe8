"""The guided sampler: its parts against closed forms, and its proposals on problems whose solution is available."""

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
from scipy.linalg import cho_solve
from threadpoolctl import threadpool_info, threadpool_limits

from nas.core.pareto import hypervolume
from nas.search.optuna_compat import contains, frozen_trial, set_constraint
from nas.search.samplers import WarmStarted
from nas.search.samplers.acquisition import BudgetImprovement, HypervolumeImprovement, additive_epsilon
from nas.search.samplers.config import SamplerConfig
from nas.search.samplers.encoding import Encoding
from nas.search.samplers.gaussian import MAX_FITTED, GaussianProcess, Hyperparameters, OutputWarp
from nas.search.samplers.guided import GuidedSampler
from nas.search.samplers.history import History
from nas.search.samplers.surrogates import MAX_ROWS, Surrogates, training_rows

SPACE: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(("a", "b", "c")),
    "depth": IntDistribution(0, 4),
    "width": IntDistribution(8, 128, log=True),
    "step": FloatDistribution(-1.0, 1.0, step=0.25),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "only": IntDistribution(3, 3),
}


def test_points_and_parameters_are_inverse() -> None:
    encoding, rng = Encoding(SPACE), np.random.default_rng(0)
    for points in (
        encoding.random(rng, 50),
        encoding.filling(rng, 50),
        encoding.mutated(rng, encoding.random(rng, 50)),
    ):
        params = [encoding.params(p) for p in points]
        for values in params:
            assert all(contains(d, values[name]) for name, d in SPACE.items()), values
        again = encoding.points(params)
        assert [encoding.params(p) for p in again] == params
        assert np.allclose(again, points, atol=1e-9)


def test_neighbours_differ_in_one_parameter_and_are_all_there() -> None:
    space = {name: SPACE[name] for name in ("kind", "depth", "step", "only")}
    encoding = Encoding(space)
    middle = {"kind": "b", "depth": 2, "step": 0.0, "only": 3}
    found = [encoding.params(p) for p in encoding.neighbours(encoding.points([middle])[0])]
    assert all(sum(f[k] != middle[k] for k in space) == 1 for f in found)
    assert {(f["kind"], f["depth"], f["step"]) for f in found} == {
        *((k, 2, 0.0) for k in "ac"),
        *(("b", d, 0.0) for d in (1, 3)),
        *(("b", 2, s) for s in (-0.25, 0.25)),
    }


def test_two_categories_are_as_far_apart_as_the_ends_of_a_number() -> None:
    encoding = Encoding({"kind": SPACE["kind"], "depth": SPACE["depth"]})
    a, b, c = encoding.embed(encoding.points([{"kind": k, "depth": d} for k, d in (("a", 0), ("b", 0), ("a", 4))]))
    assert np.linalg.norm(a - b) == pytest.approx(1) == np.linalg.norm(a - c)


def _data(count: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x = np.random.default_rng(1).random((count, 3))
    return x, np.sin(5 * x[:, 0]) + 2 * x[:, 1]


def test_the_gradient_of_the_posterior_is_that_of_differences() -> None:
    x, y = _data()
    process = GaussianProcess(x, y, np.arange(3), steps=0)
    row = np.array([0.3, -0.5, 1.0, 0.2, -0.7, -4.0])
    _, gradient = process._loss(row, process._x, process._y)
    for i in range(len(row)):
        up, down = (
            process._loss(row + sign * 1e-5 * np.eye(len(row))[i], process._x, process._y)[0] for sign in (1, -1)
        )
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_a_process_finds_what_matters_and_predicts_what_it_did_not_see() -> None:
    x, y = _data()
    process = GaussianProcess(x, y, np.arange(3))
    assert process.hyperparameters.lengths[2] > process.hyperparameters.lengths[0]  # the third column does nothing
    unseen = np.random.default_rng(2).random((200, 3))
    error = process.mean(unseen) - (np.sin(5 * unseen[:, 0]) + 2 * unseen[:, 1])
    assert np.sqrt((error**2).mean()) < 0.05 * y.std()
    assert Hyperparameters.of(process.hyperparameters.array).array.tolist() == process.hyperparameters.array.tolist()


def test_drawn_functions_are_distributed_as_the_posterior_says() -> None:
    x, y = _data(12)
    process = GaussianProcess(x, y, np.arange(3))
    unseen = np.random.default_rng(3).random((30, 3))
    drawn = process.sample(np.random.default_rng(4), 4000)(unseen)
    assert drawn.mean(1) == pytest.approx(process.mean(unseen), abs=0.15 * y.std())
    across, hyper = process._covariance(unseen, x), process.hyperparameters
    own = math.exp(hyper.smooth) + math.exp(hyper.linear) * ((unseen - x.mean(0)) ** 2).sum(1)
    deviation = y.std() * np.sqrt(own - (across * cho_solve((process._factor, True), across.T).T).sum(1))
    ratio = drawn.std(1) / deviation
    assert 0.8 < np.median(ratio) < 1.25 and ((ratio > 0.5) & (ratio < 2)).all(), (
        ratio
    )  # 512 frequencies are an approximation
    assert process.sample(np.random.default_rng(4), 8)(x) == pytest.approx(
        np.repeat(y[:, None], 8, 1), abs=0.15 * y.std()
    )


def test_a_warp_keeps_order_and_what_is_good_and_can_be_undone() -> None:
    y = np.array([-3.0, -2.0, -1.0, 0.0, 5.0, 500.0])
    for warp in OutputWarp.choices(y):
        assert (np.diff(warp(y)) > 0).all() and warp(y).max() < 20
        assert warp(y)[y <= warp.start].tolist() == y[y <= warp.start].tolist()
        assert warp.inverse(warp(y - 10)) == pytest.approx(y - 10), "better than the best that was seen, too"
        slopes = (warp(y + 1e-6) - warp(y)) / 1e-6
        assert warp.loss(y) == pytest.approx(-np.log(slopes).sum(), abs=1e-3)


def test_the_warp_under_which_values_are_the_most_probable_has_the_least_loss() -> None:
    """Exponentials of what is linear want the logarithm from the best on; what is linear wants to be left alone where
    it can be."""
    x = np.random.default_rng(0).random((60, 2))

    def losses(y: np.ndarray[Any, Any]) -> list[float]:
        return [GaussianProcess(x, warp(y), np.arange(2)).loss + warp.loss(y) for warp in OutputWarp.choices(y)]

    linear = x @ [1.0, 2.0]
    assert np.argmin(losses(linear)) == 0 and np.argmin(losses(np.expm1(2 * linear))) == 1


def test_counts_of_categories_follow_where_several_parameters_offer_them() -> None:
    edges: dict[str, BaseDistribution] = {
        f"edge{i}": CategoricalDistribution(("none", "skip", "conv")) for i in range(4)
    }
    encoding = Encoding(edges | {"depth": SPACE["depth"], "kind": SPACE["kind"]})
    point = {"edge0": "conv", "edge1": "skip", "edge2": "conv", "edge3": "conv", "depth": 1, "kind": "a"}
    row = encoding.embed(encoding.points([point]))[0]
    assert len(row) == len(encoding.groups) == 4 * 3 + 1 + 3 + 3, "kind is alone, and is not counted"
    assert row[-3:] * math.sqrt(8) == pytest.approx([0, 1, 3])
    assert len(set(encoding.groups[-3:])) == 3 and encoding.groups[-3:].min() > encoding.groups[:-3].max()


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_gains_are_differences_of_hypervolume(dims: int) -> None:
    rng = np.random.default_rng(dims)
    front, points, reference = rng.random((6, dims)), 1.3 * rng.random((40, dims)), np.full(dims, 1.1)
    directions = ["min"] * dims
    before = hypervolume(front, reference, directions)
    expected = [hypervolume(np.concatenate([front, p[None]]), reference, directions) - before for p in points]
    assert HypervolumeImprovement(front, reference)(points) == pytest.approx(expected, abs=1e-9)
    assert HypervolumeImprovement(front[:0], reference)(points) == pytest.approx(
        [hypervolume(p[None], reference, directions) for p in points], abs=1e-9
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_improvement_on_a_front_with_more_points_than_the_grid_has_values(dims: int) -> None:
    """Rounded up to quantiles: never less than the exact improvement, and close to it."""
    rng = np.random.default_rng(dims)
    front = np.abs(rng.normal(size=(200, dims)))
    front, reference = 1 - front / np.linalg.norm(front, axis=1, keepdims=True), np.full(dims, 1.1)
    points = rng.random((300, dims))
    exact = HypervolumeImprovement(front, reference, 10**8)(points)
    rounded = HypervolumeImprovement(front, reference, 40**dims)(points)
    assert (rounded >= exact - 1e-12).all()
    assert np.mean(rounded - exact) < 0.25 * exact.mean()
    dominated = 2 * rng.random((300, dims))
    dominated = dominated[(front[:, None] <= dominated).all(2).any(0)]
    assert (HypervolumeImprovement(front, reference, 10**8)(dominated) == 0).all()


def test_additive_epsilon_of_three_objectives_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    points, front, scale = rng.random((20, 3)), rng.random((7, 3)), np.array([1.0, 2.0, 0.5])
    expected = ((front[:, None] - points) / scale).max(2).min(0)
    assert additive_epsilon(points, front, scale) == pytest.approx(expected)


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


def test_additive_epsilon_tells_before_from_behind() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    before, on, behind, further = additive_epsilon(
        np.array([[0.4, 0.4], [1.0, 0.0], [1.1, 1.1], [2.0, 2.0]]), front, np.ones(2)
    )
    assert before > on == 0 > behind > further


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


def test_gains_and_nearness_are_those_of_their_definitions() -> None:
    """Of many small fronts, ties and duplicates among them: hypervolume with the point less without it; the least
    over the front of its best advantage."""
    rng = np.random.default_rng(0)
    reference, spread = np.array([8.0, 8.0]), np.array([2.0, 0.5])
    for i in range(60):
        front = rng.integers(0, 8, (rng.integers(0, 12), 2)).astype(float) + (0 if i % 2 else rng.random())
        points = rng.integers(-1, 10, (12, 2)).astype(float)
        before = hypervolume(front, reference, ["min"] * 2)
        grown = [hypervolume(np.vstack([front, p]), reference, ["min"] * 2) - before for p in points]
        assert HypervolumeImprovement(front, reference)(points) == pytest.approx(grown, abs=1e-9)
        if len(front):
            assert additive_epsilon(points, front, spread) == pytest.approx(
                ((front[:, None] - points) / spread).max(2).min(0), abs=1e-9
            )


def test_improving_within_budgets_and_up_to_goals() -> None:
    front, reference = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 1.0]]), np.array([9.0, 8.0])
    focus = BudgetImprovement.of([2.5, 0.5, 4.0], (), ())
    assert focus is not None
    best = focus.best(front, reference)
    assert best.tolist() == [[0.5, 8.0], [2.5, 3.0], [4.0, 1.0]]
    points = np.array([[0.4, 7.0], [2.5, 2.0], [2.5, 0.0], [5.0, 0.0], [3.0, 2.0]])
    assert focus.improvement(points, best).tolist() == [1.0, 1.0, 4.0, 0.0, 0.0]
    near = focus.additive_epsilon(points, best, np.ones(2))
    assert near[:3].tolist() == [0, 0, 0] and near[3:].tolist() == [-1, -0.5]
    one = BudgetImprovement.of([2.5], (), ())
    assert one is not None
    assert one.improvement(points, one.best(front[:0], reference)).tolist() == [1.0, 6.0, 8.0, 0.0, 0.0]

    goals = BudgetImprovement.of((), [-3.0], ())  # a gain of -3 or more is a second value of 3 or less
    assert goals is not None and goals.applies(np.array([1.0, -1.0])) and not goals.applies(np.array([1.0, 1.0]))
    assert goals.best(front, reference).tolist() == [[3.0, 2.0]]
    assert goals.improvement(np.array([[1.5, 3.0], [1.5, 3.1], [3.0, 0.0]]), goals.best(front, reference)).tolist() == [
        0.5,
        0.0,
        0.0,
    ]
    with pytest.raises(ValueError, match="one of both"):
        BudgetImprovement.of([1.0], [1.0], ())


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
