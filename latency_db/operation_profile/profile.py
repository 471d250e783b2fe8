"""Latency per operation of one network on one target.

A fresh process runs the network in two forms in turn: as the runtime runs it (``run_ms``), and with the runtime's own
profile switched on, which gives the times of the operations. Each time is the median over all runs. The time between
operations (``gap_ms``) is what the runs take beyond the operations.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from latency_db.conversion.precision import converted
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.operation_profile.node_costs import NodeCost, costs_of
from latency_db.runtimes import RUNTIMES
from latency_db.timing.timing_client import TimingClient
from search_spaces.errors import InputError

ENGINES = {
    "onnxruntime": "latency_db.operation_profile.onnxruntime_engine:engine",
    "openvino": "latency_db.operation_profile.openvino_engine:engine",
    "ncnn": "latency_db.operation_profile.ncnn_engine:engine",
    "tensorrt": "latency_db.operation_profile.tensorrt_engine:engine",
}
"""Runtime -> engine that profiles it. The one of TensorRT was not run so far: it needs an NVIDIA GPU."""
RUNS = 60
SMALL = 32
"""Image size of the network that the overhead of a profile is measured on: its operations take next to nothing."""
COMPUTING = re.compile("conv|matmul|gemm|fullyconnected|innerproduct", re.IGNORECASE)
"""Kinds of operations that multiply and accumulate, as the runtimes name them."""
LAYOUT = "layout"
"""Stage of operations that a runtime adds, such as changes of the memory layout."""


@dataclass(frozen=True)
class OperationTime:
    """One operation as the runtime runs it.

    Args:
        name: The runtime's name of the operation.
        stage: Part of the network: ``stem``, ``stage1``, …, ``head``; :data:`LAYOUT` where the runtime added it.
        kind: The runtime's name of its kind.
        ms: Median time, ms.
        macs: Multiply-accumulates; 0 where it has none or they are unknown.
        bytes: Bytes that it reads and writes: inputs, weights, outputs; 0 where they are unknown.
    """

    name: str
    stage: str
    kind: str
    ms: float
    macs: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class OperationProfile:
    """Latency per operation of a network.

    Args:
        target: The target.
        workload: Content key of the network.
        operations: The operations in order of execution.
        run_ms: Median time of a run without the profile, ms.
        run_low_ms, run_high_ms: Quartiles of the runs without the profile, ms.
        runs: Number of runs of either form.
        version: Version of the runtime.
        overhead_ms: Time that the profile adds to an operation, ms; it is subtracted from all of them.
    """

    target: str
    workload: str
    operations: tuple[OperationTime, ...]
    run_ms: float
    run_low_ms: float
    run_high_ms: float
    runs: int
    version: str
    overhead_ms: float = 0.0

    @property
    def operations_ms(self) -> float:
        """Sum of the operations' times, ms."""
        return sum(o.ms for o in self.operations)

    @property
    def gap_ms(self) -> float:
        """Time of a run that no operation accounts for, ms; below zero where profiling slows the operations."""
        return self.run_ms - self.operations_ms

    @property
    def stages(self) -> dict[str, list[OperationTime]]:
        """Operations by stage, in order of execution."""
        found: dict[str, list[OperationTime]] = defaultdict(list)
        for operation in self.operations:
            found[operation.stage].append(operation)
        return dict(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the sums."""
        return {
            **asdict(self),
            "operations": [o.to_dict() for o in self.operations],
            "operations_ms": self.operations_ms,
            "gap_ms": self.gap_ms,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OperationProfile:
        """Restore a profile from :meth:`to_dict`."""
        fields = {k: v for k, v in data.items() if k not in ("operations_ms", "gap_ms", "operations")}
        return cls(**fields, operations=tuple(OperationTime(**o) for o in data["operations"]))


def why_unprofiled(target: Target) -> str | None:
    """Return why operations on a target cannot be profiled on this machine; None where they can."""
    if target.runtime not in ENGINES:
        return f"{target.runtime} has no profile of its operations here; {', '.join(ENGINES)} have one"
    if target.runtime != "tensorrt" and target.device.lower() != "cpu":
        return f"operations on {target.device} of {target.runtime} are not profiled"
    if target.batch != 1:
        return "operations are profiled at batch 1"
    return RUNTIMES[target.runtime].available()


def profiling_process(target: Target) -> TimingClient:
    """Start a process that profiles networks; it imports its libraries concurrently with the caller."""
    return TimingClient(ENGINES[target.runtime])


def profile_operations(
    workload: Workload,
    target: Target,
    runs: int = RUNS,
    small: Workload | None = None,
    process: TimingClient | None = None,
    overhead_ms: float | None = None,
) -> OperationProfile:
    """Measure the latency of a network's operations in a process of its own.

    Args:
        workload: The network.
        target: Runtime, precision and image size; on a CPU, at batch 1.
        runs: Runs of either form.
        small: The same network at an image size of :data:`SMALL`, on which the overhead of the profile is measured.
        process: A process of :func:`profiling_process`, which stays open; None for a fresh one.
        overhead_ms: Overhead of the profile per operation, ms, where it is known; None to measure it.

    Raises:
        InputError: The target cannot be profiled here, or the runtime refuses the model.
        RuntimeFailure: A run failed.
    """
    if reason := why_unprofiled(target):
        raise InputError(reason)
    runtime = RUNTIMES[target.runtime]
    with (
        nullcontext(process) if process is not None else profiling_process(target) as client,
        converted(workload, target.precision, runtime.quantization_scheme(target)) as ready,
    ):
        model = ready.path()
        given = None if small is None else [str(small.path().resolve()), SMALL]
        size = None if target.image_size is None else target.image_size.value
        client.load(model, {**asdict(target), "image_size": size, "cpus": [], "seed": 0})
        answer = client.ask("time", {"runs": runs, "small": given, "overhead_ms": overhead_ms})
        costs = costs_of(model)
    return _profile(answer, target, workload.key, costs, runs, runtime.version())


def _profile(
    answer: Mapping[str, Any], target: Target, key: str, costs: Mapping[str, NodeCost], runs: int, version: str
) -> OperationProfile:
    operations, stage = [], ""
    for row in answer["operations"]:
        cost = find_cost(str(row["name"]), costs) if "macs" not in row else None
        if cost is not None and cost.macs and not COMPUTING.search(str(row["kind"])):
            cost = None  # a change of layout is named by the convolution that it is made for
        own = row.get("stage") or stage_of(str(row["name"]), costs)
        stage = own or stage
        operations.append(
            OperationTime(
                str(row["name"]),
                own or LAYOUT,
                str(row["kind"]),
                float(row["ms"]),
                int(row.get("macs", cost.macs if cost else 0)),
                int(row.get("bytes", cost.bytes if cost else 0)),
            )
        )
    return OperationProfile(
        str(target),
        key,
        tuple(operations),
        float(answer["run_ms"]),
        float(answer["run_low_ms"]),
        float(answer["run_high_ms"]),
        runs,
        version,
        float(answer["overhead_ms"]),
    )


def find_cost(name: str, costs: Mapping[str, NodeCost]) -> NodeCost | None:
    """Return the cost of the ONNX node that a runtime's operation came from, by the longest name that begins it."""
    known = [known for known in costs if name == known or name.startswith((f"{known}_", f"{known}/"))]
    best = max(known, key=len, default=None)
    return None if best is None else costs[best]


def stage_of(name: str, costs: Mapping[str, NodeCost]) -> str:
    """Return the part of the network that an operation belongs to, from its name; empty if the name has none."""
    stages = {known.partition("/")[0] for known in costs if "/" in known}
    cost = find_cost(name, costs)
    cells = [text.partition("/")[0] for text in (name, cost.name if cost else "")]
    return next((cell.split("_")[0] for cell in cells if cell in stages), "")


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile of samples."""
    import numpy as np

    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)
