"""The GPU protocol around any runtime: new processes, the device's lock, reference model, rebuilds, and the conditions.

:mod:`latency_db.gpu` describes the protocol step by step.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from latency_db.core import cpu
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement, now
from latency_db.core.profiler import Protocol, RuntimeFailure, Workload, file_hash
from latency_db.core.target import Target
from latency_db.gpu.cuda import OUT_OF_MEMORY, CudaDevice
from latency_db.gpu.protocol import GpuProtocol, GpuSession
from latency_db.timing.reference_model import GPU_REFERENCE, reference_model_file
from latency_db.timing.statistics import order_statistic_interval, quantile
from latency_db.timing.timing_client import TimingClient
from search_spaces.errors import InputError

PROBE = "latency_db.gpu.providers:probe"
CORES_FOR_TWO = 4
"""CPU cores from which on the next process is started while a model is timed: one queues runs, one imports
libraries."""


@dataclass(frozen=True)
class Ready:
    """A model to be loaded: its file, fields of the request besides the target's, notes for the measurement's
    record."""

    model: Path
    request: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class GpuTimer:
    """Times models with one engine, each in a new process, beside one lasting process of the reference model.

    Loading and timing hold the device's lock; compiling before that does not.

    Args:
        engine: ``module:function``, see :mod:`latency_db.gpu.protocol`.
        target: What the engine computes for.
        protocol: Duration and precision of a measurement.
        reference: Makes what the reference model's process loads; by default the ONNX file.
    """

    def __init__(
        self,
        engine: str,
        target: Target,
        protocol: Protocol | GpuProtocol,
        reference: Callable[[], Ready] | None = None,
    ) -> None:
        self._engine = engine
        self._target = target
        self._protocol = GpuProtocol.of(protocol) if isinstance(protocol, Protocol) else protocol
        self._make_reference = reference or (
            lambda: Ready(reference_model_file(GPU_REFERENCE), {"batch": 1, "image_size": None, "precision": "fp32"})
        )
        self._reference: TimingClient | None = None
        self._next: TimingClient | None = None

    def measure(self, workload: Workload, version: str, fingerprint: DeviceFingerprint) -> Measurement:
        """Measure a model in as many processes as the protocol has rebuilds.

        Raises:
            InputError: The model cannot be loaded.
            RuntimeFailure: A run failed, or the GPU has too little memory.
        """
        model = workload.path()
        return self.measure_builds(
            workload, [Ready(model)] * self._protocol.rebuilds, version, fingerprint, {"onnx_sha256": file_hash(model)}
        )

    def measure_builds(
        self,
        workload: Workload,
        ready: Sequence[Ready],
        version: str,
        fingerprint: DeviceFingerprint,
        notes: Mapping[str, Any],
    ) -> Measurement:
        """Measure builds of one network; of several the one with the middle latency is the result.

        Args:
            workload: The network.
            ready: Its builds.
            version: The runtime's version.
            fingerprint: The machine with its GPU (:func:`with_gpu`).
            notes: Entries of the record's environment.

        Raises:
            InputError: The model cannot be loaded.
            RuntimeFailure: A run failed, or the GPU has too little memory.
        """
        start, load = time.monotonic(), cpu.load_average()
        sessions = [self._time_process(one) for one in ready]
        order = sorted(range(len(ready)), key=lambda i: sessions[i].timed.median_ms)
        middle = order[(len(order) - 1) // 2]
        session, timed = sessions[middle], sessions[middle].timed
        medians = [s.timed.median_ms for s in sessions]
        environment = {
            "runtime_version": version,
            "settings": session.settings,
            "protocol": asdict(self._protocol),
            "regime": self._protocol.regime,
            "gpu": timed.circumstances(),
            "anchor": session.reference(),
            "rebuilds": {"medians_ms": medians, "spread": round(max(medians) / min(medians) - 1, 4), "kept": middle},
            **notes,
            **ready[middle].notes,
            "load": [load, cpu.load_average()],
            "device": fingerprint.to_dict(),
            "device_id": fingerprint.id,
            "system": platform.platform(),
            "python": platform.python_version(),
            "network": workload.network.to_dict() if workload.network else None,
            "seconds": {"sessions": round(time.monotonic() - start, 3)},
        }
        return self._measurement(timed, workload, environment)

    def _measurement(self, timed: GpuSession, workload: Workload, environment: Mapping[str, Any]) -> Measurement:
        low, high = order_statistic_interval(timed.ms)
        return Measurement(
            median_ms=timed.median_ms,
            p90_ms=quantile(timed.ms, 0.90),
            p99_ms=quantile(timed.ms, 0.99),
            low_ms=low,
            high_ms=high,
            runs=len(timed.ms),
            source="measured",
            verdict=timed.verdict,
            clock="wall",
            target=self._target,
            workload=workload.key,
            wall_median_ms=timed.median_ms,
            environment=environment,
            time=now(),
        )

    def _time_process(self, ready: Ready) -> _BracketedSession:
        """Time one model in a new process, the reference model before and after, under the device's lock."""
        with cpu.exclusive(lock_name(self._target.device)), self._fresh() as client:
            reference = self._ready_reference()
            before = self._time(reference, self._short)
            settings = self._load(client, ready)
            timed = self._time(client, self._protocol)
            return _BracketedSession(timed, settings, before, self._time(reference, self._short))

    def _fresh(self) -> TimingClient:
        """Return a process without a model; with enough cores start the next one, too.

        Importing libraries takes longer than timing a network, and does not use the GPU.
        """
        client = self._next if self._next is not None and self._next.alive else TimingClient(self._engine)
        self._next = TimingClient(self._engine) if (os.cpu_count() or 1) >= CORES_FOR_TWO else None
        return client

    @property
    def _short(self) -> GpuProtocol:
        """Protocol of the reference model: warm L2 cache, no pauses, 2 to 8 blocks, no repetition."""
        return replace(self._protocol, min_blocks=2, max_blocks=8, pause_ms=0.0, cold_l2=False, retries=0)

    def _time(self, client: TimingClient, protocol: GpuProtocol) -> GpuSession:
        return GpuSession.from_dict(client.ask("time", {"protocol": asdict(protocol)}))

    def _load(self, client: TimingClient, ready: Ready) -> dict[str, Any]:
        target = self._target
        request = {
            "cpus": [],
            "threads": target.threads,
            "batch": target.batch,
            "image_size": None if target.image_size is None else target.image_size.value,
            "precision": target.precision,
            "device": target.device,
            "seed": self._protocol.seed,
            **ready.request,
        }
        try:
            return client.load(ready.model, request)
        except RuntimeFailure:
            raise
        except InputError as error:
            if OUT_OF_MEMORY in str(error):  # not the model's fault, as everything else that cannot be loaded
                raise RuntimeFailure(
                    re.sub(rf".*({OUT_OF_MEMORY}[^;]*).*", r"\1", str(error)), hint="take a smaller batch or image size"
                ) from None
            raise

    def _ready_reference(self) -> TimingClient:
        """Return the reference model's process; it is started if there is none or it died."""
        if self._reference is None or not self._reference.alive:
            self._close_reference()
            self._reference = TimingClient(self._engine)
            try:
                self._load(self._reference, self._make_reference())
            except InputError:
                self._close_reference()
                raise
        return self._reference

    def _close_reference(self) -> None:
        if self._reference is not None:
            self._reference.close()
        self._reference = None

    def close(self) -> None:
        """End the processes that wait; may be called twice."""
        self._close_reference()
        if self._next is not None:
            self._next.close()
        self._next = None


@dataclass(frozen=True)
class _BracketedSession:
    """A network's session, its settings, and the reference model's sessions before and after."""

    timed: GpuSession
    settings: Mapping[str, Any]
    before: GpuSession
    after: GpuSession

    def reference(self) -> dict[str, Any]:
        """Return the reference model's latency (ms) and its change from before to after (a share), JSON-ready."""
        first, second = self.before.median_ms, self.after.median_ms
        return {"version": GPU_REFERENCE.name, "wall_ms": (first + second) / 2, "drift": round(second / first - 1, 4)}


def lock_name(device: str) -> str:
    """Return the name of a device's lock, the same for all names that runtimes have for the device.

    Raises:
        InputError: There is no such device.
    """
    return "gpu-" + re.sub(r"[^A-Za-z0-9]", "-", probe(device).nvml_id or device)


@cache
def probe(device: str) -> CudaDevice:
    """Return the properties of a device such as ``cuda:0``.

    A process of its own asks for them, since CUDA does not survive a fork.

    Raises:
        InputError: There is no such device.
    """
    with TimingClient(PROBE) as client:
        found = client.load(Path(device), {"device": f"cuda:{device.partition(':')[2] or 0}", "cpus": []})
    if "error" in found:
        raise InputError(found["error"])
    return CudaDevice.from_dict(found["gpu"])


def with_gpu(machine: DeviceFingerprint, device: str) -> DeviceFingerprint:
    """Return a machine's fingerprint with the name, memory and driver of its GPU ``device``.

    Raises:
        InputError: There is no such device.
    """
    gpu = probe(device)
    return replace(machine, accelerator=f"{gpu.name} {gpu.memory_mib} MiB", driver=gpu.driver)
