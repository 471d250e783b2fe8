"""Measurements that nobody made, with everything that a real one has."""

from __future__ import annotations

from typing import Any

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.table_io import Row

DEVICE = DeviceFingerprint("x86_64", 'An "odd", CPU', 2, ("avx2",), 24)


def measurement(
    network: Network, ms: float = 0.1 + 0.2, when: str = "2026-01-02T03:04:05+00:00", **environment: Any
) -> Measurement:
    environment = {
        "runtime_version": "1.0",
        "settings": {"threads": 1, "inputs": {"images": [1, 3, 96, 96]}, "empty": {}},
        "load": [0.5, None],
        "device": DEVICE.to_dict(),
        "network": network.to_dict(),
        **environment,
    }
    times = {"median_ms": ms, "p90_ms": ms * 1.1, "p99_ms": ms * 1.3, "low_ms": ms * 0.99, "high_ms": ms * 1.01}
    origin = {
        "runs": 40,
        "source": "measured",
        "verdict": "contended",
        "clock": "cpu",
        "target": Target("onnxruntime"),
        "workload": network.key,
    }
    return Measurement(**times, **origin, wall_median_ms=None, cpu_median_ms=1 / 3, environment=environment, time=when)  # type: ignore[arg-type]


def row(network: Network, m: Measurement | None = None, device: str = DEVICE.id) -> Row:
    m = m or measurement(network)
    return LatencyKey(m.workload, str(m.target), "1.0", device), m
