"""Remeasure what was measured while the machine was off its nominal speed or busy; the better of two measurements
stays.

A shared machine has more than one speed. The reference model beside each measurement shows the speed at that moment.
Scaling a latency to the nominal speed helps (:func:`latency_db.predictor.database.nominal_speed_ms`), but networks do
not follow the reference model alike. On a GPU, sessions that were throttled are repeated at once instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Profiler, Workload
from latency_db.database.db import LatencyDB, nominal_reference_ms

MAX_DEVIATION = 0.05
"""Largest deviation from the nominal speed that is accepted: about the difference between two measurements of one
network on a quiet machine."""


def speed_deviation(measurement: Measurement, nominal_ms: float) -> float:
    """Return ``|log(reference_ms / nominal_ms)|``, plus 1 unless the verdict is clean.

    The first term is 0 without a reference model. The second makes any clean measurement near the nominal speed
    better than any disturbed one.
    """
    reference = measurement.reference_ms
    deviation = 0.0 if reference is None else abs(math.log(reference / nominal_ms))
    return deviation + (measurement.verdict != "clean")


def off_nominal(database: LatencyDB, keys: Sequence[LatencyKey]) -> dict[LatencyKey, float]:
    """Return the keys whose measurements deviate by more than :data:`MAX_DEVIATION`, largest deviation first.

    The nominal speed is that of all measurements of ``keys``.
    """
    found = {key: m for key in keys if (m := database.find(key)) is not None}
    nominal = nominal_reference_ms(found.values()) or 1.0  # without a reference model only the verdict counts
    deviations = {key: speed_deviation(m, nominal) for key, m in found.items()}
    return {
        key: deviation
        for key, deviation in sorted(deviations.items(), key=lambda item: -item[1])
        if deviation > MAX_DEVIATION
    }


def remeasure(
    database: LatencyDB,
    profiler: Profiler,
    workloads: Sequence[Workload],
    on_measured: Callable[[Workload, Measurement, bool], None] = lambda *_: None,
) -> int:
    """Measure once more each of the ``workloads`` whose measurement is off the nominal speed.

    Args:
        database: Holds the measurements; a new one replaces the kept one if it deviates less.
        profiler: The profiler of the target that all were measured on.
        workloads: Measured workloads; the nominal speed is that of all their measurements.
        on_measured: Called after each measurement with the workload, the measurement and whether it replaces the
            kept one.

    Returns:
        How many are still off the nominal speed.

    Raises:
        InputError: A stored record is damaged, the runtime refuses a model, or the database cannot be written.
        RuntimeFailure: A run failed.
    """
    of_key = {profiler.key(w.key): w for w in workloads}
    nominal = nominal_reference_ms(m for key in of_key if (m := database.find(key)) is not None) or 1.0
    for key, deviation in off_nominal(database, list(of_key)).items():
        measured = profiler.measure(of_key[key])
        better = speed_deviation(measured, nominal) < deviation
        if better:
            database.put(key, measured)
        on_measured(of_key[key], measured, better)
    return len(off_nominal(database, list(of_key)))
