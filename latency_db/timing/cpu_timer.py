"""The CPU protocol around any engine: own pinned process, warm-up, anchor, rounds, and the record of the
circumstances."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latency_db.core import cpu
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement, now
from latency_db.core.profiler import Protocol, Workload, file_hash
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
    """Times ONNX files with an engine (``module:function``, see :mod:`latency_db.timing.timing_server`), each in
    fresh processes, beside one lasting anchor.

    ``answer_s``: how long the engine may take for one answer. ``elsewhere``: it computes on a device of its own, so
    that CPU time is no latency.
    """

    def __init__(
        self, engine: str, target: Target, protocol: Protocol, answer_s: float = TIMEOUT_S, elsewhere: bool = False
    ) -> None:
        self._engine = engine
        self._target = target
        self._protocol = protocol
        self._answer_s = answer_s
        self._threads = 0 if elsewhere else target.threads
        self._reference: TimingClient | None = None

    def measure(self, workload: Workload, version: str, fingerprint: DeviceFingerprint) -> Measurement:
        """One measurement by the CPU protocol. Raises InputError (the model) or RuntimeFailure (the run)."""
        watch = _Stopwatch()
        with self._client() as first:  # it imports its libraries while the model is made
            model = workload.path()
            watch.lap("make")
            cpus = cpu.quietest(self._target.threads)
            watch.lap("choose_cpu")
            one, *more = self._protocol.parts()
            sessions = [self._time_process(first, model, cpus, one, watch)]
        for part in more:
            if (
                len(sessions) >= self._protocol.processes
                and self._conclude(sessions)[0].half_width <= self._protocol.half_width
            ):
                break  # the rest was for processes that differ too much
            self.close()  # the anchor's memory lies somewhere as well
            with self._client() as worker:
                sessions.append(self._time_process(worker, model, cpus, part, watch))
        watch.lap("close")
        summary, circumstances = self._conclude(sessions)
        environment = {
            "runtime_version": version,
            "settings": sessions[0].settings,
            "protocol": asdict(self._protocol),
            **circumstances,
            "cpus": list(cpus),
            "device": fingerprint.to_dict(),
            "device_id": fingerprint.id,
            "system": platform.platform(),
            "python": platform.python_version(),
            "onnx_sha256": file_hash(model),
            "network": workload.network.to_dict() if workload.network else None,
            "seconds": watch.laps,
        }
        return Measurement(
            median_ms=summary.median_ms,
            p90_ms=summary.p90_ms,
            p99_ms=summary.p99_ms,
            low_ms=summary.low_ms,
            high_ms=summary.high_ms,
            runs=summary.runs,
            source="measured",
            verdict="throttled" if circumstances["throttle_events"] else summary.verdict,
            clock=summary.clock,
            target=self._target,
            workload=workload.key,
            wall_median_ms=summary.wall_median_ms,
            cpu_median_ms=summary.cpu_median_ms,
            environment=environment,
            time=now(),
        )

    def _client(self) -> TimingClient:
        return TimingClient(self._engine, self._answer_s)

    def _time_process(
        self, worker: TimingClient, model: Path, cpus: tuple[int, ...], part: Protocol, watch: _Stopwatch
    ) -> _CpuSession:
        """One fresh process: load, warm-up and rounds beside the anchor, between two readings of the machine's
        state."""
        settings = worker.load(model, self._load_request(cpus, self._target))
        watch.lap("start_and_load")
        anchor = self._ready_reference(cpus)
        watch.lap("anchor")
        with cpu.exclusive("cpu"):
            watch.lap("lock")
            before, throttled, load = cpu.cpu_times(), cpu.throttle_count(cpus), cpu.load_average()
            anchor.ask("warm", {"runs": 3, "seconds": REFERENCE_WARMUP_S})
            runs, spent = worker.ask("warm", {"runs": part.warmup_runs, "seconds": part.warmup_s})
            protocol = part.for_runs_of(spent / runs)
            watch.lap("warmup")
            start = cpu.cpu_times()
            blocks, anchors, converged = run_rounds(
                lambda: _block(worker, protocol), lambda: _block(anchor, part), protocol, self._threads
            )
            watch.lap("timing")
            after = cpu.cpu_times()
        steal, elsewhere = cpu.steal_share(before, after, cpus), cpu.busy_elsewhere(start, after, cpus)
        throttled = cpu.throttle_count(cpus) - throttled
        return _CpuSession(
            blocks, anchors, protocol, converged, settings, steal, elsewhere, throttled, [load, cpu.load_average()]
        )

    def _conclude(self, sessions: Sequence[_CpuSession]) -> tuple[Summary, dict[str, Any]]:
        """What all samples say, and the circumstances, JSON-ready."""
        protocol, threads = self._protocol, self._threads
        steal, elsewhere = (max(getattr(s, name) for s in sessions) for name in ("steal", "elsewhere"))
        # A hypervisor's theft and what neighbours do to caches and memory are in no process's statistics: no sample
        # can be called clean then.
        needed = protocol.clean_share if steal <= MAX_STEAL and elsewhere <= MAX_ELSEWHERE else float("inf")
        summary = summarise([b for s in sessions for b in s.blocks], threads, needed, protocol.seed)
        reference = summarise([b for s in sessions for b in s.anchors], min(1, threads), needed, protocol.seed)
        medians = [summarise(s.blocks, threads, needed, protocol.seed).median_ms for s in sessions]
        return summary.between(medians), {
            "block": sessions[0].protocol.block,
            "rounds": sum(len(s.blocks) for s in sessions),
            "converged": all(s.converged for s in sessions),
            "processes_ms": medians,
            "clean_share": summary.clean_share,
            "steal_share": round(steal, 4),
            "busy_elsewhere": round(elsewhere, 4),
            "throttle_events": sum(s.throttled for s in sessions),
            "load": sessions[0].load,
            "anchor": {
                "version": REFERENCE_VERSION,
                "wall_ms": reference.wall_median_ms,
                "cpu_ms": reference.cpu_median_ms,
                "drift": round(drift([b for s in sessions for b in s.anchors]), 4),
                "clean_share": reference.clean_share,
            },
        }

    def _load_request(self, cpus: tuple[int, ...], target: Target) -> dict[str, Any]:
        return {
            "cpus": list(cpus),
            "threads": target.threads,
            "batch": target.batch,
            "image_size": target.image_size,
            "precision": target.precision,
            "device": target.device,
            "seed": self._protocol.seed,
        }

    def _ready_reference(self, cpus: tuple[int, ...]) -> TimingClient:
        """The anchor's process on the candidate's CPU; started anew if it has died."""
        if self._reference is None or not self._reference.alive:
            self.close()
            self._reference = TimingClient(self._engine)
            try:
                self._reference.load(
                    reference_model_file(),
                    self._load_request(cpus[:1], Target(self._target.runtime, device=self._target.device)),
                )
            except InputError:
                self.close()
                raise
        self._reference.ask("pin", {"cpus": list(cpus[:1])})
        return self._reference

    def close(self) -> None:
        """Ends the anchor's process; it may be called twice."""
        if self._reference is not None:
            self._reference.close()
        self._reference = None


def _block(worker: TimingClient, protocol: Protocol) -> Block:
    rows = worker.ask("block", {"runs": protocol.block, "settle": protocol.settle})
    return [Sample(wall, cpu_ms, switches, delay) for wall, cpu_ms, switches, delay in rows]


@dataclass(frozen=True)
class _CpuSession:
    """What one process gave: blocks of it and of the anchor, the protocol as it was for so fast a network, what the
    engine and the machine say."""

    blocks: list[Block]
    anchors: list[Block]
    protocol: Protocol
    converged: bool
    settings: dict[str, Any]
    steal: float
    elsewhere: float
    throttled: int
    load: list[float | None]


class _Stopwatch:
    """Splits the time of a measurement into named laps, seconds to the millisecond; a name that comes again is added
    to."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        moment = time.monotonic()
        self.laps[name] = round(self.laps.get(name, 0.0) + moment - self._last, 3)
        self._last = moment
