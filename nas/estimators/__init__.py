"""Estimators: everything that scores an architecture, behind one interface. A new estimator is one file and one line
here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from nas.estimators.base import Estimator

ESTIMATORS: Registry[type[Estimator]] = Registry(
    "nas.estimators",
    {
        "params": "nas.estimators.costs:Params",
        "macs": "nas.estimators.costs:Macs",
        "activations": "nas.estimators.costs:PeakActivations",
        "elements": "nas.estimators.costs:ElementsWritten",
        "engine-activations": "nas.estimators.engine_memory:EngineActivations",
        "engine-weights": "nas.estimators.engine_memory:EngineWeights",
        "latency": "nas.estimators.latency:Latency",
        "latency-end-to-end": "nas.estimators.end_to_end_latency:EndToEndLatency",
        "latency-p99": "nas.estimators.latency:TailLatency",
        "throughput": "nas.estimators.latency:Throughput",
        "energy": "nas.estimators.latency:Energy",
        "predicted_latency": "nas.estimators.predicted_latency:PredictedLatency",
        "nwot": "nas.estimators.nwot:Nwot",
        "synflow": "nas.estimators.synflow:Synflow",
        "supernet": "nas.estimators.supernet_map:SupernetMap",
        "supernet-50": "nas.estimators.supernet_map:SupernetMap50",
        "supernet-small": "nas.estimators.supernet_map:SupernetSmall",
        "supernet-medium": "nas.estimators.supernet_map:SupernetMedium",
        "supernet-large": "nas.estimators.supernet_map:SupernetLarge",
    },
)
