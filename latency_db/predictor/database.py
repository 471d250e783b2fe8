"""What a database of latencies has to teach a predictor."""

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
"""Measurements, and standard deviation of the anchor's logarithm, from which on it is fitted how networks follow the
anchor."""
STEPS = 5
_WEIGHTS, _MACS = SUMMARY.index("log weights"), SUMMARY.index("log MACs")


def rows_of(database: LatencyDB, key: LatencyKey) -> list[Row]:
    """The measured networks of a key's target (at any image size), version and device; the key's workload does not
    matter. May be none."""
    wanted = replace(Target.read(key.target), image_size=None)
    chosen = MeasurementFilter(target=f"{wanted.runtime}:{wanted.precision}", version=key.version)
    found = (
        m for k, m in database.rows(chosen) if k.device == key.device and replace(m.target, image_size=None) == wanted
    )
    return rows_of_measurements(found)


def rows_of_measurements(measurements: Iterable[Measurement]) -> list[Row]:
    """Measurements of one target, version and device as rows, at the machine's usual speed.

    Those that do not say which network they are of (an ONNX file) are left out, and what was predicted teaches nothing.
    """
    kept = [m for m in measurements if m.environment.get("network") and m.source != "predicted"]
    networks = [Network.from_dict(m.environment["network"]) for m in kept]
    described = [network_features(network, m.target.batch) for network, m in zip(networks, kept, strict=True)]
    levels = usual_ms(kept, described)
    return [
        Row(f, float(ms), n.architecture.id, m.half_width)
        for f, ms, n, m in zip(described, levels, networks, kept, strict=True)
    ]


def usual_ms(measurements: Sequence[Measurement], described: Sequence[Features]) -> Array:
    """(networks,) in ms: what the measurements would have been, had the anchor taken its usual time beside each.

    With few measurements, or an anchor that hardly varied, a network follows the anchor in proportion
    (``Measurement.at_nominal_speed``). Else the exponent is fitted, as a line in log(weights / MACs): on a shared 2-core
    machine whose anchor varied by 30 %, latency followed it with an exponent of 0.9 to 1 at 320 px and more, of 1.9
    (ONNX Runtime) and 2.4 (OpenVINO) at 96 px, where weights are many for the work and caches shared with others
    decide.
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
    # Least absolute error by reweighting: a network that the physics misses is no reason to change an exponent.
    for _ in range(STEPS):
        levels = raw * np.exp(-follows @ exponents)
        missed = np.log(levels / Prior.fit(basis, levels).ms(basis))
        noise = np.sqrt(np.maximum(np.abs(missed), 0.03))
        exponents = exponents + linear_posterior(follows, missed, noise=noise, prior_deviation=1e-3**-0.5)[0]
    return np.asarray(raw * np.exp(-follows @ exponents))
