"""Measuring counterfactuals: a network and its neighbours side by side, with latency and accuracy of the search's own
estimators.

The most interesting counterfactuals come first: those whose step would pay by the prediction, and of these the least
certain. With a predicted change d of the cost and of the gain, each in units of the front's range, the interest is
``max(gain - cost, 0) + width``, where ``width`` is the mean width of both intervals.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.runtimes import RUNTIMES
from nas.core.estimate import Candidate, Estimate
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter
from nas.core.text_table import TextTable
from nas.core.units import label, number
from nas.data.source import DataPair
from nas.estimators.base import Context
from nas.profiling.interleaved import ROUND, RoundEntrant, estimates, measure_round, round_order
from nas.search.estimation import open_estimators
from nas.search.explain.counterfactuals import Counterfactual
from nas.search.explain.explanation import explanation_of
from nas.search.explain.run_data import RunData, read_run
from nas.search.explain.surrogate import Difference, RunSurrogates
from nas.search.explain.verified import write_verified
from nas.search.run_supernet import open_supernet, search_data, supernet_source
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

ROUNDS = 4
SHORT = replace(ROUND, max_s=4.0)
"""Protocol of one measurement: the rounds together give the interval."""


@dataclass(frozen=True)
class VerifiedStep:
    """A counterfactual of a pick, with the changes that were measured."""

    name: str
    counterfactual: Counterfactual
    measured: Mapping[str, Difference]


def verify(folder: Path, count: int, reporter: Reporter) -> tuple[VerifiedStep, ...]:
    """Measure the most interesting counterfactuals of a run's picks and keep the results in the run.

    Args:
        folder: The run.
        count: Number of counterfactuals of all picks together.
        reporter: Receives the progress.

    Raises InputError for a run that is not finished, or whose target does not measure.
    """
    run = read_run(folder)
    if not run.artifacts:
        raise InputError(f"{folder} has chosen nothing yet", "a finished search")
    if not RUNTIMES[run.plan.target.runtime].measures:
        raise InputError(f"--verify on {run.plan.target}", "a target that measures")
    chosen = _most_interesting(run, count)
    settings = run.plan.settings
    data = search_data(settings, reporter)
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    found = []
    for name, steps in chosen.items():
        pick = run.pick(name)
        points = [pick.point, *(pick.point.replace(**{s.choice: s.after}) for s in steps)]
        gains = _gains(run, points, data, len(classes), reporter)
        costs = _costs(run, points, data, len(classes), reporter)
        for i, step in enumerate(steps, 1):
            changes = {run.gain.name: _change(gains[0], gains[i])}
            if costs:
                changes[run.cost.name] = _change(costs[0], costs[i])
            found.append(VerifiedStep(name, step, changes))
    kept: dict[str, dict[str, Mapping[str, Difference]]] = {}
    for one in found:
        kept.setdefault(run.pick(one.name).id, {})[one.counterfactual.id] = one.measured
    write_verified(folder, kept)
    return tuple(found)


def _most_interesting(run: RunData, count: int) -> dict[str, list[Counterfactual]]:
    """Return the counterfactuals to measure by name of the pick; those that are verified already are left out."""
    surrogates = RunSurrogates(run)
    ranges = {o.name: _range(run.candidates, o.name) for o in (run.cost, run.gain)}
    rows: list[tuple[float, str, Counterfactual]] = []
    seen: set[str] = set()
    for pick in run.selection or ():
        if pick.candidate.id in seen:
            continue
        seen.add(pick.candidate.id)
        steps = explanation_of(run, pick.name, pick.candidate, surrogates).counterfactuals
        rows += [(interest(s, ranges, run.cost.name, run.gain.name), pick.name, s) for s in steps if not s.verified]
    chosen: dict[str, list[Counterfactual]] = {}
    for _, name, step in sorted(rows, key=lambda row: -row[0])[:count]:
        chosen.setdefault(name, []).append(step)
    return chosen


def interest(step: Counterfactual, ranges: Mapping[str, float], cost: str, gain: str) -> float:
    """Return how interesting it is to measure a counterfactual; ``ranges``: of the candidates by estimate."""
    changes = {name: step.predicted[name] for name in (cost, gain)}
    width = 0.0
    for name, d in changes.items():
        if d.low is not None and d.high is not None:
            width += (d.high - d.low) / ranges[name] / 2
    return max(0.0, changes[gain].value / ranges[gain] - changes[cost].value / ranges[cost]) + width


def _range(candidates: Sequence[Candidate], name: str) -> float:
    values = [c[name].value for c in candidates]
    return (max(values) - min(values)) or 1.0


def _change(before: Estimate, after: Estimate) -> Difference:
    change = after.value - before.value
    halves = [(e.high - e.low) / 2 for e in (before, after) if e.low is not None and e.high is not None]
    if len(halves) < 2:
        return Difference(change, None, None, "measured")
    reach = math.hypot(*halves)
    return Difference(change, change - reach, change + reach, "measured")


def _gains(
    run: RunData, points: Sequence[Architecture], data: DataPair | None, classes: int, reporter: Reporter
) -> list[Estimate]:
    """Return the gain of every point by the search's own estimator."""
    source = supernet_source(run.plan, data, run.folder) if run.plan.needs_supernet and data is not None else None
    if source is not None and source.ready is None:
        raise InputError(f"{run.folder} has no trained supernet", "a search that has evaluated candidates")
    supernet = open_supernet(run.plan, source, data, reporter) if source is not None and data is not None else None
    with open_estimators(run.plan, classes, data, supernet) as estimators:
        estimator = estimators.of(run.gain.name)
        found = []
        with reporter.progress(f"{run.gain.name} of counterfactuals") as update:
            for i, point in enumerate(points):
                update(i, len(points))
                found.append(estimator(point))
            update(len(points), len(points))
    return found


def _costs(
    run: RunData, points: Sequence[Architecture], data: DataPair | None, classes: int, reporter: Reporter
) -> list[Estimate]:
    """Return the latency of every point, measured in interleaved rounds; of another cost by its estimator."""
    plan = run.plan
    if run.cost.name != "latency_ms":
        with open_estimators(plan, classes, data, None) as estimators:
            return [estimators.of(run.cost.name).remeasure(point) for point in points]
    with tempfile.TemporaryDirectory(prefix="nas-verify-") as scratch:
        entrants = []
        for i, point in enumerate(points):
            own = Path(scratch) / str(i)
            own.mkdir()
            context = Context(plan.space, classes, data, plan.target, scratch=own)
            entrants.append(_entrant(run, str(i), point, context))
        rounds: dict[str, list[Measurement]] = {e.name: [] for e in entrants}
        with reporter.progress("measuring counterfactuals side by side") as update:
            for number in range(ROUNDS):
                update(number, ROUNDS)
                order = round_order(entrants, plan.settings.seed, number)
                for outcome in measure_round(order, replace(SHORT, seed=plan.settings.seed + number)):
                    if outcome.measurement is not None:
                        rounds[outcome.entrant.name].append(outcome.measurement)
            update(ROUNDS, ROUNDS)
    found = estimates(rounds)
    if len(found) < len(points):
        raise InputError("a counterfactual could not be measured", hint="nas measure tells why")
    return [found[str(i)] for i in range(len(points))]


def _entrant(run: RunData, name: str, point: Architecture, context: Context) -> RoundEntrant:
    from nas.core.precision_choice import split

    architecture, precision = split(point)
    target = run.plan.targets[precision] if precision else run.plan.target
    return RoundEntrant(name, target, lambda: replace(context, target=target).workload(architecture))


def verified_table(steps: Sequence[VerifiedStep]) -> TextTable:
    """Return the table of verified counterfactuals: the predicted interval and the measured change of each estimate."""
    names = list(dict.fromkeys(name for s in steps for name in s.measured))
    rows = []
    for s in steps:
        one = s.counterfactual
        row = [s.name, f"{one.choice} {one.before} → {one.after}"]
        for name in names:
            predicted, measured = one.predicted[name], s.measured.get(name)
            row += [f"{number(predicted.low or 0)} to {number(predicted.high or 0)}"]
            row += ["–" if measured is None else number(measured.value)]
        rows.append(tuple(row))
    heads = ["", "step", *(text for name in names for text in (f"{label(name)}, predicted", "measured"))]
    return TextTable(tuple(heads), tuple(rows), left=2)
