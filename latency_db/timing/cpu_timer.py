"""The CPU protocol around any engine: a pinned process, warm-up, reference model, rounds, and the record of conditions.

:mod:`latency_db.timing` describes the protocol step by step.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from latency_db.core import cpu
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement, now
from latency_db.core.profiler import Protocol, Workload, file_hash
from latency_db.core.system_state import SystemState, read_state, was_throttled
from latency_db.core.target import Target
from latency_db.timing.reference_model import VERSION as REFERENCE_VERSION
from latency_db.timing.reference_model import reference_model_file
from latency_db.timing.timing_client import TIMEOUT_S, TimingClient
from latency_db.timing.timing_samples import (
    MAX_ELSEWHERE,
    MAX_STEAL,
    Block,
    Sample,
    Summary,
    drift,
    run_rounds,
    summarise,
)
from search_spaces.errors import InputError

REFERENCE_WARMUP_S = 0.05


class CpuTimer:
    """Times ONNX files with one engine, each in new processes, beside one lasting process of the reference model.

    Args:
        engine: ``module:function``, see :mod:`latency_db.timing.timing_server`.
        target: What the engine computes for.
        protocol: Duration and precision of a measurement.
        answer_s: Seconds within which the engine answers one request.
        own_device: The engine computes on a device other than the CPU, so that CPU time is no latency.
    """

    def __init__(
        self, engine: str, target: Target, protocol: Protocol, answer_s: float = TIMEOUT_S, own_device: bool = False
    ) -> None:
        self._engine = engine
        self._target = target
        self._protocol = protocol
        self._answer_s = answer_s
        self._threads = 0 if own_device else target.threads
        self._reference: TimingClient | None = None
        self.extra: dict[str, Any] = {}
        """Added to the request that loads a model; the engine then reports details of the runs when they are over."""

    def measure(self, workload: Workload, version: str, fingerprint: DeviceFingerprint) -> Measurement:
        """Measure one workload.

        Raises:
            InputError: The model cannot be loaded.
            RuntimeFailure: A run failed, died or did not answer in time.
        """
        watch = _Stopwatch()
        with self.new_client() as first:  # the process imports its libraries while the model is written
            model = workload.path()
            watch.lap("make")
            cpus = cpu.quietest(self._target.threads)
            watch.lap("choose_cpu")
            one, *more = self._protocol.parts()
            sessions = [self.time_process(first, model, cpus, one, watch)]
        for part in more:
            enough = len(sessions) >= self._protocol.processes
            if enough and self._summarise(sessions)[0].half_width <= self._protocol.half_width:
                break  # the remaining processes are for models whose processes differ too much
            self.close()  # the reference model's place in memory matters as well
            with self.new_client() as client:
                sessions.append(self.time_process(client, model, cpus, part, watch))
        watch.lap("close")
        summary, conditions = self._summarise(sessions)
        environment = {
            "runtime_version": version,
            "settings": sessions[0].settings,
            "protocol": asdict(self._protocol),
            **conditions,
            "cpus": list(cpus),
            "device": fingerprint.to_dict(),
            "device_id": fingerprint.id,
            "system": platform.platform(),
            "python": platform.python_version(),
            "onnx_sha256": file_hash(model),
            "network": workload.network.to_dict() if workload.network else None,
            "seconds": watch.laps,
        }
        return self._measurement(summary, workload, environment)

    def _measurement(self, summary: Summary, workload: Workload, environment: dict[str, Any]) -> Measurement:
        return Measurement(
            median_ms=summary.median_ms,
            p90_ms=summary.p90_ms,
            p99_ms=summary.p99_ms,
            low_ms=summary.low_ms,
            high_ms=summary.high_ms,
            runs=summary.runs,
            source="measured",
            verdict="throttled" if environment["throttle_events"] else summary.verdict,
            clock=summary.clock,
            target=self._target,
            workload=workload.key,
            wall_median_ms=summary.wall_median_ms,
            cpu_median_ms=summary.cpu_median_ms,
            environment=environment,
            time=now(),
        )

    def new_client(self) -> TimingClient:
        """Start a process with the engine."""
        return TimingClient(self._engine, self._answer_s)

    def time_process(
        self, client: TimingClient, model: Path, cpus: tuple[int, ...], part: Protocol, watch: _Stopwatch
    ) -> CpuSession:
        """Load, warm up and time a model in one new process, between two readings of the machine's state.

        Args:
            client: The process, from :meth:`new_client`.
            model: The file that the engine loads.
            cpus: CPUs that the process is pinned to.
            part: Its share of the protocol (:meth:`Protocol.parts`).
            watch: Receives the seconds of each step.

        Raises:
            InputError: The model cannot be loaded.
            RuntimeFailure: A run failed.
        """
        settings = client.load(model, self._load_request(cpus, self._target) | self.extra)
        watch.lap("start_and_load")
        reference = self._ready_reference(cpus)
        watch.lap("anchor")
        with cpu.exclusive("cpu"):
            watch.lap("lock")
            state = read_state(cpus)
            before, throttled, load = cpu.cpu_times(), cpu.throttle_count(cpus), cpu.load_average()
            reference.ask("warm", {"runs": 3, "seconds": REFERENCE_WARMUP_S})
            runs, spent = client.ask("warm", {"runs": part.warmup_runs, "seconds": part.warmup_s})
            protocol = part.for_runs_of(spent / runs)
            watch.lap("warmup")
            if self.extra:
                client.ask("time", {})  # of the warm-up
            start = cpu.cpu_times()
            blocks, references, converged = run_rounds(
                lambda: _block(client, protocol), lambda: _block(reference, part), protocol, self._threads
            )
            watch.lap("timing")
            after = cpu.cpu_times()
            details = client.ask("time", {}) if self.extra else None
            states = (state, read_state(cpus))
        return CpuSession(
            blocks=blocks,
            references=references,
            protocol=protocol,
            converged=converged,
            settings=settings,
            steal=cpu.steal_share(before, after, cpus),
            elsewhere=cpu.busy_elsewhere(start, after, cpus),
            throttled=cpu.throttle_count(cpus) - throttled + was_throttled(*states),
            states=states,
            load=[load, cpu.load_average()],
            details=details,
        )

    def _summarise(self, sessions: Sequence[CpuSession]) -> tuple[Summary, dict[str, Any]]:
        """Return the summary of all samples, and the conditions (JSON-ready)."""
        protocol, threads = self._protocol, self._threads
        steal, elsewhere = (max(getattr(s, name) for s in sessions) for name in ("steal", "elsewhere"))
        # Steal time, and what neighbours do to caches and memory, is in no process's statistics: no sample is clean.
        needed = protocol.clean_share if steal <= MAX_STEAL and elsewhere <= MAX_ELSEWHERE else float("inf")
        summary = summarise([b for s in sessions for b in s.blocks], threads, needed, protocol.seed)
        references = [b for s in sessions for b in s.references]
        reference = summarise(references, min(1, threads), needed, protocol.seed)
        medians = [summarise(s.blocks, threads, needed, protocol.seed).median_ms for s in sessions]
        return summary.covering(medians), {
            "block": sessions[0].protocol.block,
            "rounds": sum(len(s.blocks) for s in sessions),
            "converged": all(s.converged for s in sessions),
            "processes_ms": medians,
            "clean_share": summary.clean_share,
            "steal_share": round(steal, 4),
            "busy_elsewhere": round(elsewhere, 4),
            "throttle_events": sum(s.throttled for s in sessions),
            "load": sessions[0].load,
            **_details([s.details for s in sessions if s.details]),
            "system_state": {
                "before": sessions[0].states[0].to_dict(),
                "after": sessions[-1].states[1].to_dict(),
            },
            "anchor": {  # the name that records of earlier versions have for the reference model
                "version": REFERENCE_VERSION,
                "wall_ms": reference.wall_median_ms,
                "cpu_ms": reference.cpu_median_ms,
                "drift": round(drift(references), 4),
                "clean_share": reference.clean_share,
            },
        }

    def _load_request(self, cpus: tuple[int, ...], target: Target) -> dict[str, Any]:
        return {
            "cpus": list(cpus),
            "runtime": target.runtime,
            "threads": target.threads,
            "batch": target.batch,
            "image_size": None if target.image_size is None else target.image_size.value,
            "precision": target.precision,
            "device": target.device,
            "seed": self._protocol.seed,
        }

    def _ready_reference(self, cpus: tuple[int, ...]) -> TimingClient:
        """Return the reference model's process, on the candidate's CPU; it is started if there is none or it died."""
        if self._reference is None or not self._reference.alive:
            self.close()
            self._reference = TimingClient(self._engine)
            target = Target(self._target.runtime, device=self._target.device)
            try:
                self._reference.load(reference_model_file(), self._load_request(cpus[:1], target))
            except InputError:
                self.close()
                raise
        self._reference.ask("pin", {"cpus": list(cpus[:1])})
        return self._reference

    def close(self) -> None:
        """End the reference model's process; may be called twice."""
        if self._reference is not None:
            self._reference.close()
        self._reference = None


def _details(of_sessions: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The median over the processes of each step, by clock; nothing if there are no steps."""
    if not of_sessions:
        return {}
    first = of_sessions[0]
    return {
        "details": {
            clock: {name: median(s[clock][name] for s in of_sessions) for name in steps}
            for clock, steps in first.items()
        }
    }


def _block(client: TimingClient, protocol: Protocol) -> Block:
    rows = client.ask("block", {"runs": protocol.block, "settle": protocol.settle})
    return [Sample(wall, cpu_ms, switches, delay) for wall, cpu_ms, switches, delay in rows]


@dataclass(frozen=True)
class CpuSession:
    """Result of one process.

    Attributes:
        blocks: Samples of the candidate.
        references: Samples of the reference model.
        protocol: The protocol, adapted to the duration of a run.
        converged: Whether the interval of the median became narrow enough.
        settings: What the engine reports of itself, JSON-ready.
        steal: Share of CPU time that the hypervisor took, 0 to 1.
        elsewhere: Share of the other CPUs' time in use, 0 to 1.
        throttled: Thermal throttling events.
        load: Load averages before and after.
        states: Clocks, temperatures and throttling before and after.
        details: Median ms of the steps of a run by clock and name; None if the engine has no steps.
    """

    blocks: list[Block]
    references: list[Block]
    protocol: Protocol
    converged: bool
    settings: dict[str, Any]
    steal: float
    elsewhere: float
    throttled: int
    load: list[float | None]
    states: tuple[SystemState, SystemState] = (SystemState(), SystemState())
    details: dict[str, dict[str, float]] | None = None


class _Stopwatch:
    """Splits the time of a measurement into named laps, in seconds; laps of one name are added up."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End the lap that runs under ``name``."""
        moment = time.monotonic()
        self.laps[name] = round(self.laps.get(name, 0.0) + moment - self._last, 3)
        self._last = moment
