"""Latency of one model, measured in fresh processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import FINALIST
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.runtimes import open_profiler
from nas.data.source import DataPair
from nas.profiling.workload import workload_of
from search_spaces.errors import InputError


def measurements(
    model: Path, target: Target, database: LatencyDB, data: DataPair | None = None, repeat: int = 1
) -> Iterator[tuple[Measurement, float | None]]:
    """Measure a model ``repeat`` times, each time in fresh processes, and yield each measurement.

    Beside it the time of the reference model at the nominal speed, in ms, for
    :meth:`~latency_db.core.measurement.Measurement.at_nominal_speed`: that of the database before these measurements,
    else that of the first; None on a target without a reference model. Each measurement is kept in ``database``.

    Args:
        model: ONNX file, architecture file or weights.
        target: where to measure.
        database: keeps the measurements.
        data: images that int8 is calibrated with.
        repeat: number of measurements.

    Raises:
        InputError: the model, the target or the number cannot be used.
    """
    if repeat < 1:
        raise InputError(f"{repeat} measurements", "1 or more")
    with tempfile.TemporaryDirectory() as scratch:
        workload = workload_of(model, target, Path(scratch), data)
        reference: float | None = None
        for i in range(repeat):
            with open_profiler(target, FINALIST) as profiler:
                if i == 0:
                    reference = database.nominal_reference_ms(profiler.key(workload.key))
                measured = database.measure_cached(profiler, workload, fresh=True)
                reference = reference or measured.reference_ms
            yield measured, reference
