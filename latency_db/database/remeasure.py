"""A shared machine has more than one speed: what was measured while it was off its usual one, or busy, is measured
again, and the better of two stays.

The CPU's counterpart of a throttled GPU's "discard and repeat". The anchor timed beside each measurement tells the
machine's speed. Bringing a figure to the anchor's usual time helps (:func:`latency_db.predictor.database.usual_ms`)
and cannot do all: networks do not follow the anchor alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Profiler, Workload
from latency_db.database.db import LatencyDB, nominal_reference_ms

MAX_DEVIATION = 0.05
"""How far the anchor may be from its usual time, as a share: about what separates two sessions of one network on a
quiet machine."""


def speed_deviation(measurement: Measurement, usual_ms: float) -> float:
    """How far from its usual time the anchor was beside a measurement, as a share of it; 0 where there was no anchor.

    A whole more where other processes were in the way: a measurement at the usual speed that nothing disturbed is
    better than any that was.
    """
    off = 0.0 if measurement.reference_ms is None else abs(math.log(measurement.reference_ms / usual_ms))
    return off + (measurement.verdict != "clean")


def off_nominal(database: LatencyDB, keys: Sequence[LatencyKey]) -> dict[LatencyKey, float]:
    """Which kept measurements are more than :data:`MAX_DEVIATION` off the usual speed of all of them, and by how much; the
    farthest first."""
    found = {key: m for key in keys if (m := database.find(key)) is not None}
    usual = nominal_reference_ms(found.values()) or 1.0  # without an anchor only what was disturbed is off
    off = {key: speed_deviation(m, usual) for key, m in found.items()}
    return {key: share for key, share in sorted(off.items(), key=lambda item: -item[1]) if share > MAX_DEVIATION}


def remeasure(
    database: LatencyDB,
    profiler: Profiler,
    workloads: Sequence[Workload],
    said: Callable[[Workload, Measurement, bool], None] = lambda *_: None,
) -> int:
    """One pass over the unsteady among ``workloads`` (measured ones of one target); how many are unsteady still.

    The usual speed is that of all their measurements. A new measurement replaces the kept one if the machine was
    nearer to its usual speed; ``said`` is told each time.
    """
    of_key = {profiler.key(w.key): w for w in workloads}
    usual = nominal_reference_ms(m for key in of_key if (m := database.find(key)) is not None) or 1.0
    for key, off in off_nominal(database, list(of_key)).items():
        measured = profiler.measure(of_key[key])
        better = speed_deviation(measured, usual) < off
        if better:
            database.put(key, measured)
        said(of_key[key], measured, better)
    return len(off_nominal(database, list(of_key)))
