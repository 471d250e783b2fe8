"""Reference models measured on the target of a search, for budgets that name one."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from latency_db.core.profiler import FINALIST
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.core.budgets import ReferenceBound
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.core.units import compact, quantity
from nas.data.source import DataPair
from nas.estimators.base import Context
from nas.profiling.default_database import default_latency_db
from nas.search.baseline import Baseline
from nas.search.plan import SearchPlan
from search_spaces.references import reference
from search_spaces.spaces import space_of
from search_spaces.text import counted


def with_measured_budgets(plan: SearchPlan, num_classes: int, data: DataPair | None, reporter: Reporter) -> SearchPlan:
    """Return the plan with the latencies of the reference models that are budgets, measured now if they are not yet.

    Args:
        plan: The plan.
        num_classes: Number of classes of the networks.
        data: Data set for int8 calibration.
        reporter: Receives notes and progress.

    Raises InputError if two budgets are in the wrong order.
    """
    if plan.budgets and plan.budgets.references and not plan.settings.baselines:
        plan = plan.with_references(baselines=measure_baselines(plan, num_classes, data, reporter))
    plan.check_budgets()
    if budgets := plan.limits.budgets:
        name, unit = plan.aims.cost.name, f" {budgets.unit}" if budgets.unit else ""
        reporter.note(f"budgets of {name}: " + ", ".join(f"{n} {compact(bound)}{unit}" for n, bound in budgets))
    return plan


def measure_baselines(
    plan: SearchPlan, num_classes: int, data: DataPair | None, reporter: Reporter
) -> dict[str, Baseline]:
    """Measure the reference models whose latency is a budget, each once, with the classes of the search.

    Args:
        plan: The plan; its budgets name references.
        num_classes: Number of classes of the networks.
        data: Data set for int8 calibration.
        reporter: Receives notes and progress.

    Returns the measured references by the names of their budgets.
    """
    bounds = plan.budgets.references if plan.budgets else {}
    distinct = {str(bound): bound for bound in bounds.values()}
    measured: dict[str, Baseline] = {}
    with (
        tempfile.TemporaryDirectory(prefix="nas-reference-") as scratch,
        LatencyDB(plan.settings.latency_db or default_latency_db()) as database,
        reporter.steps("measuring reference models") as update,
    ):
        context = Context(plan.space, num_classes, data, plan.target, database, scratch=Path(scratch))
        update(0, len(distinct), "")
        for done, (text, bound) in enumerate(distinct.items(), 1):
            measured[text] = found = measure_baseline(bound, context)
            update(done, len(distinct), text)
            reporter.note(
                f"budget {text}: {found} takes {quantity(found.latency)} on {plan.target}, "
                f"with {counted(num_classes, 'class', 'classes')}"
            )
    return {name: measured[str(bound)] for name, bound in bounds.items()}


def measure_baseline(bound: ReferenceBound, context: Context) -> Baseline:
    """Measure a reference model now, to the interval of reported latencies, on the context's target.

    Its image size is the one that the bound names, else the target's, else its own. The latency is scaled to the
    machine's nominal speed, as those of a search are.
    """
    from search_spaces.trace import trace  # imports torch

    target, database = context.target, context.database
    assert target is not None
    assert database is not None
    architecture = reference(bound.reference).architecture
    space = space_of(architecture)
    size = bound.image_size or target.image_size or architecture.image_size
    sized = replace(target, image_size=size)
    # A target without an image size stays so: the nominal speed is that of all networks on it.
    where = sized if target.image_size else target
    workload = replace(context, space=space, target=sized).workload(architecture)
    with open_profiler(where, FINALIST) as profiler:
        m = database.measure_cached(profiler, workload, fresh=True)
        nominal = profiler.nominal_reference_ms() or database.nominal_reference_ms(profiler.key(workload.key))
    m = m if nominal is None else m.at_nominal_speed(nominal)
    cost = trace(space.graph(architecture), context.num_classes, size)
    latency = Estimate("latency_ms", m.median_ms, "ms", m.low_ms, m.high_ms, m.source, str(m.target))
    return Baseline(bound.reference, size, latency, cost.params, cost.macs)
