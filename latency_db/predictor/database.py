"""Rows of a predictor from the measurements of a latency database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB, nominal_reference_ms
from latency_db.database.filters import MeasurementFilter
from latency_db.predictor.features import SUMMARY, Array, Features, network_features
from latency_db.predictor.linear import linear_posterior
from latency_db.predictor.model import Row
from latency_db.predictor.prior import Prior

FEWEST, LEAST_CHANGE = 40, 0.02
"""Number of measurements, and standard deviation of the reference model's log latency, from which on exponents of the
machine's speed are fitted."""
STEPS = 5
"""Steps of iteratively reweighted least squares."""
_WEIGHTS, _MACS = SUMMARY.index("log weights"), SUMMARY.index("log MACs")


def rows_of(database: LatencyDB, key: LatencyKey) -> list[Row]:
    """Return the measured networks of a key's target (at any image size), version and device; may be none.

    The key's workload is ignored.

    Raises:
        InputError: A record of the database is damaged, or holds a network that is no longer valid.
    """
    wanted = replace(Target.read(key.target), image_size=None)
    chosen = MeasurementFilter(target=f"{wanted.runtime}:{wanted.precision}", version=key.version)
    found = (
        m for k, m in database.rows(chosen) if k.device == key.device and replace(m.target, image_size=None) == wanted
    )
    return rows_of_measurements(found)


def rows_of_measurements(measurements: Iterable[Measurement]) -> list[Row]:
    """Return measurements of one target, version and device as rows, at the machine's nominal speed.

    Measurements without a network (those of an ONNX file) and predicted latencies are left out.

    Raises:
        InputError: The network of a measurement is not valid.
    """
    kept = [m for m in measurements if m.environment.get("network") and m.source != "predicted"]
    networks = [Network.from_dict(m.environment["network"]) for m in kept]
    described = [network_features(network, m.target.batch) for network, m in zip(networks, kept, strict=True)]
    levels = nominal_speed_ms(kept, described)
    return [
        Row(f, float(ms), n.architecture.id, m.half_width)
        for f, ms, n, m in zip(described, levels, networks, kept, strict=True)
    ]


def nominal_speed_ms(measurements: Sequence[Measurement], described: Sequence[Features]) -> Array:
    """Return the latency (n,) in ms of each measurement at the machine's nominal speed.

    ``ms * (reference / nominal reference)^-(a + b d)``, where ``d`` is the standardised log(weights / MACs) of the
    network. With few measurements, or a reference model of nearly constant latency, ``a = 1`` and ``b = 0``
    (``Measurement.at_nominal_speed``); else both are fitted. On a shared machine with two cores, whose reference model
    varied by 30 %, the exponent was 0.9 to 1 at 320 px and more, 1.9 (ONNX Runtime) and 2.4 (OpenVINO) at 96 px, where
    a network has many weights for its work and shared caches decide.
    """
    raw = np.array([m.median_ms for m in measurements])
    usual = nominal_reference_ms(measurements)
    if usual is None:
        return raw
    change = np.log([(m.reference_ms or usual) / usual for m in measurements])
    if len(raw) < FEWEST or change.std() < LEAST_CHANGE:
        return np.asarray(raw * np.exp(-change))
    density = np.array([f.summary[_WEIGHTS] - f.summary[_MACS] for f in described])
    density = (density - density.mean()) / max(float(density.std()), 1e-9)
    follows = np.column_stack([change, change * density])
    exponents = np.array([1.0, 0.0])
    basis = np.array([f.basis for f in described])
    # Least absolute error by reweighting: a network that the roofline fits badly must not change an exponent.
    for _ in range(STEPS):
        levels = raw * np.exp(-follows @ exponents)
        missed = np.log(levels / Prior.fit(basis, levels).ms(basis))
        noise = np.sqrt(np.maximum(np.abs(missed), 0.03))
        exponents = exponents + linear_posterior(follows, missed, noise=noise, prior_deviation=1e-3**-0.5)[0]
    return np.asarray(raw * np.exp(-follows @ exponents))
