"""What a database of latencies has to teach a predictor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from latency_db.db import Chosen, LatencyDB, usual_anchor_ms
from latency_db.measurement import LatencyKey, Measurement
from latency_db.predictor.features import network_features
from latency_db.predictor.model import Row
from latency_db.profiler import Network
from latency_db.target import Target


def rows_of(database: LatencyDB, key: LatencyKey) -> list[Row]:
    """The measured networks of a key's target (at any image size), version and device; the key's workload does not matter. May be none."""
    wanted = replace(Target.read(key.target), image_size=None)
    chosen = Chosen(target=f"{wanted.runtime}:{wanted.precision}", version=key.version)
    found = (m for k, m in database.rows(chosen) if k.device == key.device and replace(m.target, image_size=None) == wanted)
    return rows_of_measurements(found)


def rows_of_measurements(measurements: Iterable[Measurement]) -> list[Row]:
    """Measurements of one target, version and device as rows, at the machine's usual speed (``Measurement.at_reference``).

    Those that do not say which network they are of (an ONNX file) are left out, and what was predicted teaches nothing.
    """
    kept = [m for m in measurements if m.environment.get("network") and m.source != "predicted"]
    usual = usual_anchor_ms(kept)
    rows = []
    for m in kept:
        network = Network.from_dict(m.environment["network"])
        level = m if usual is None else m.at_reference(usual)
        rows.append(Row(network_features(network, m.target.batch), level.median_ms, network.architecture.id, m.half_width))
    return rows
