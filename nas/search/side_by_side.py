"""Chosen architectures against the reference models of their budgets, measured side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.runtimes import RUNTIMES
from nas.core.estimate import Candidate, Estimate
from nas.core.precision_choice import joined
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.estimators.base import Context
from nas.profiling.interleaved import ROUND, RoundEntrant, estimates, measure_round, round_order
from nas.search.baseline import Baseline, Comparison, compare
from nas.search.estimation import SearchEstimators
from nas.search.plan import SearchPlan
from nas.search.selection import Selection
from search_spaces.errors import InputError
from search_spaces.references import point_of, reference
from search_spaces.spaces import space_of

ROUNDS = 5
"""Interleaved rounds: each network once per round, in random order, so that none has one time of the day to itself."""


def compare_side_by_side(
    plan: SearchPlan,
    selection: Selection,
    estimators: SearchEstimators,
    num_classes: int,
    data: DataPair | None,
    reporter: Reporter,
) -> tuple[Comparison, ...]:
    """Compare the picks whose budget is a reference model's latency with that reference.

    Both are measured in one interleaved bench now; a target that replays recorded latencies keeps these. The accuracy
    of the reference is estimated as a candidate's is, if the reference is a point of the space.

    Args:
        plan: The plan, with its measured reference models.
        selection: The picks.
        estimators: Open estimators of the search.
        num_classes: Number of classes of all networks.
        data: Data set for int8 calibration.
        reporter: Receives the progress.
    """
    baselines = {p.name: plan.settings.baselines[p.name] for p in selection if p.name in plan.settings.baselines}
    if not baselines:
        return ()
    gain = plan.aims.gain.name
    baselines = {name: replace(b, accuracy=_accuracy(plan, b, estimators)) for name, b in baselines.items()}
    measured: dict[str, Estimate] = {}
    if RUNTIMES[plan.target.runtime].measures:
        measured = _measured(plan, selection, baselines, num_classes, data, reporter)
    found = []
    for comparison in compare(baselines, selection, gain):
        own, other = comparison.name, _key(comparison.baseline)
        if own in measured and other in measured:
            baseline = replace(comparison.baseline, latency=measured[other])
            comparison = replace(comparison, latency=measured[own], baseline=baseline, side_by_side=True)
        found.append(comparison)
    return tuple(found)


def _accuracy(plan: SearchPlan, baseline: Baseline, estimators: SearchEstimators) -> Estimate | None:
    """Return the reference's accuracy by the search's own estimate; None if it is no point of the space."""
    try:
        point = point_of(plan.space, baseline.name)
    except InputError:
        return None
    if point.image_size != baseline.image_size:
        return None
    precision = plan.target.precision if plan.settings.precisions else None
    return estimators.of(plan.aims.gain.name)(joined(point, precision))


def _measured(
    plan: SearchPlan,
    selection: Selection,
    baselines: Mapping[str, Baseline],
    num_classes: int,
    data: DataPair | None,
    reporter: Reporter,
) -> dict[str, Estimate]:
    """Return latencies in ms by the picks' names and the references' keys, from interleaved rounds."""
    with tempfile.TemporaryDirectory(prefix="nas-compare-") as scratch:
        entrants: dict[str, RoundEntrant] = {}
        for number, (name, baseline) in enumerate(baselines.items()):
            folder = Path(scratch) / str(number)
            for part in ("own", "reference"):
                (folder / part).mkdir(parents=True)
            context = Context(plan.space, num_classes, data, plan.target, scratch=folder / "own")
            entrants[name] = _candidate_entrant(plan, name, selection[name].candidate, context)
            entrants[_key(baseline)] = _reference_entrant(
                plan, baseline, replace(context, scratch=folder / "reference")
            )
        rounds: dict[str, list[Measurement]] = {name: [] for name in entrants}
        with reporter.progress("comparing with the reference models") as update:
            update(0, ROUNDS)
            for number in range(ROUNDS):
                order = round_order(list(entrants.values()), plan.settings.seed, number)
                for outcome in measure_round(order, replace(ROUND, seed=plan.settings.seed + number)):
                    if outcome.measurement is not None:
                        rounds[outcome.entrant.name].append(outcome.measurement)
                update(number + 1, ROUNDS)
    return estimates(rounds)


def _candidate_entrant(plan: SearchPlan, name: str, candidate: Candidate, context: Context) -> RoundEntrant:
    target = plan.targets[candidate.precision] if candidate.precision else plan.target
    workload = replace(context, target=target).workload(candidate.architecture)
    return RoundEntrant(name, target, lambda: workload)


def _reference_entrant(plan: SearchPlan, baseline: Baseline, context: Context) -> RoundEntrant:
    architecture = reference(baseline.name).architecture
    sized = replace(plan.target, image_size=baseline.image_size)
    workload = replace(context, space=space_of(architecture), target=sized).workload(architecture)
    return RoundEntrant(_key(baseline), sized if plan.target.image_size else plan.target, lambda: workload)


def _key(baseline: Baseline) -> str:
    return f"reference {baseline.name}@{baseline.image_size}"
