"""A reference measured on the target of a search, for budgets that name one."""

from __future__ import annotations

from dataclasses import replace

from latency_db.core.profiler import FINALIST
from latency_db.runtimes import open_profiler
from nas.core.budgets import ReferenceBound
from nas.core.estimate import Estimate
from nas.estimators.base import Context
from nas.search.baseline import Baseline
from search_spaces.references import reference
from search_spaces.spaces import space_of


def measure_baseline(like: ReferenceBound, context: Context) -> Baseline:
    """A reference measured now, to the interval asked of what is reported, on the context's target and with its
    number of classes.

    Its image size is the one that was named, else the target's, else its own. The figure is brought to the machine's
    usual speed, as a search's are.
    """
    from search_spaces.trace import trace  # imports torch

    target, database = context.target, context.database
    assert target is not None
    assert database is not None
    architecture = reference(like.reference).architecture
    space = space_of(architecture)
    size = like.image_size or target.image_size or int(architecture["image_size"])
    # A target without an image size stays so: its networks bring their own, and the usual speed is that of all of them.
    where = replace(target, image_size=size) if target.image_size else target
    workload = replace(context, space=space, target=replace(target, image_size=size)).workload(architecture)
    with open_profiler(where, FINALIST) as profiler:
        m = database.measure_cached(profiler, workload, fresh=True)
        usual = profiler.nominal_reference_ms() or database.nominal_reference_ms(profiler.key(workload.key))
    m = m if usual is None else m.at_nominal_speed(usual)
    cost = trace(space.graph(architecture), context.num_classes, size)
    latency = Estimate("latency_ms", m.median_ms, "ms", m.low_ms, m.high_ms, m.source, str(m.target))
    return Baseline(like.reference, size, latency, cost.params, cost.macs)
