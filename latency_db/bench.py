"""The CPU protocol around any engine: own pinned process, warm-up, anchor, rounds, and the record of the circumstances."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from typing import Any

from latency_db import cpu
from latency_db.anchor import VERSION as ANCHOR_VERSION
from latency_db.anchor import anchor_model
from latency_db.device import DeviceFingerprint
from latency_db.measurement import Measurement, now
from latency_db.process import TIMEOUT_S, Worker
from latency_db.profiler import FEW_RUNS, Protocol, Workload, file_hash
from latency_db.rounds import MAX_ELSEWHERE, MAX_STEAL, Block, Sample, Summary, drift, run_rounds, summarise
from latency_db.target import Target
from search_spaces.errors import InputError

ANCHOR_WARMUP_S = 0.05


class CpuBench:
    """Times ONNX files with an engine (``module:function``, see :mod:`latency_db.worker`), each in a fresh process, beside one lasting anchor.

    ``answer_s``: how long the engine may take for one answer. ``elsewhere``: it computes on a device of its own, so that CPU time is no latency.
    """

    def __init__(self, engine: str, target: Target, protocol: Protocol, answer_s: float = TIMEOUT_S, elsewhere: bool = False) -> None:
        self._engine = engine
        self._target = target
        self._protocol = protocol
        self._answer_s = answer_s
        self._threads = 0 if elsewhere else target.threads
        self._anchor: Worker | None = None

    def measure(self, workload: Workload, version: str, fingerprint: DeviceFingerprint) -> Measurement:
        """One measurement by the CPU protocol. Raises InputError (the model) or RuntimeFailure (the run)."""
        model = workload.path()
        seconds: dict[str, float] = {}
        watch = _Stopwatch(seconds)
        cpus = cpu.quietest(self._target.threads)
        watch.lap("choose_cpu")
        with Worker(self._engine, self._answer_s) as worker:
            settings = worker.load(model, self._load_request(cpus, self._target))
            watch.lap("start_and_load")
            anchor = self._ready_anchor(cpus)
            watch.lap("anchor")
            with cpu.exclusive("cpu"):
                watch.lap("lock")
                sitting = self._sit(worker, anchor, cpus, watch)
        watch.lap("close")
        environment = {
            "runtime_version": version,
            "settings": settings,
            **sitting.circumstances,
            "cpus": list(cpus),
            "device": fingerprint.to_dict(),
            "device_id": fingerprint.id,
            "system": platform.platform(),
            "python": platform.python_version(),
            "onnx_sha256": file_hash(model),
            "network": workload.network.to_dict() if workload.network else None,
            "seconds": seconds,
        }
        summary = sitting.summary
        return Measurement(
            median_ms=summary.median_ms,
            p90_ms=summary.p90_ms,
            p99_ms=summary.p99_ms,
            low_ms=summary.low_ms,
            high_ms=summary.high_ms,
            runs=summary.runs,
            source="measured",
            verdict="throttled" if sitting.circumstances["throttle_events"] else summary.verdict,
            clock=summary.clock,
            target=self._target,
            workload=workload.key,
            wall_median_ms=summary.wall_median_ms,
            cpu_median_ms=summary.cpu_median_ms,
            environment=environment,
            time=now(),
        )

    def _sit(self, worker: Worker, anchor: Worker, cpus: tuple[int, ...], watch: _Stopwatch) -> _Sitting:
        """Warm-up and rounds, between two readings of the machine's state."""
        threads = self._threads
        before, throttled, load = cpu.cpu_times(), cpu.throttle_count(cpus), cpu.load_average()
        anchor.ask("warm", {"runs": 3, "few": 3, "seconds": ANCHOR_WARMUP_S})
        runs, spent = worker.ask("warm", {"runs": self._protocol.warmup_runs, "few": FEW_RUNS, "seconds": self._protocol.warmup_s})
        protocol = self._protocol.for_runs_of(spent / runs)
        watch.lap("warmup")
        start = cpu.cpu_times()
        blocks, anchors, converged = run_rounds(lambda: _block(worker, protocol), lambda: _block(anchor, self._protocol), protocol, threads)
        watch.lap("timing")
        after = cpu.cpu_times()
        steal, elsewhere = cpu.steal_share(before, after, cpus), cpu.busy_elsewhere(start, after, cpus)
        # A hypervisor's theft and what neighbours do to caches and memory are in no process's statistics: no sample can be called clean then.
        needed = protocol.clean_share if steal <= MAX_STEAL and elsewhere <= MAX_ELSEWHERE else float("inf")
        summary = summarise(blocks, threads, needed, protocol.seed)
        reference = summarise(anchors, min(1, threads), needed, protocol.seed)
        return _Sitting(
            summary,
            {
                "protocol": asdict(protocol),
                "rounds": len(blocks),
                "converged": converged,
                "clean_share": summary.clean_share,
                "steal_share": round(steal, 4),
                "busy_elsewhere": round(elsewhere, 4),
                "throttle_events": cpu.throttle_count(cpus) - throttled,
                "load": [load, cpu.load_average()],
                "anchor": {
                    "version": ANCHOR_VERSION,
                    "wall_ms": reference.wall_median_ms,
                    "cpu_ms": reference.cpu_median_ms,
                    "drift": round(drift(anchors), 4),
                    "clean_share": reference.clean_share,
                },
            },
        )

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

    def _ready_anchor(self, cpus: tuple[int, ...]) -> Worker:
        """The anchor's process on the candidate's CPU; started anew if it has died."""
        if self._anchor is None or not self._anchor.alive:
            self.close()
            self._anchor = Worker(self._engine)
            try:
                self._anchor.load(anchor_model(), self._load_request(cpus[:1], Target(self._target.runtime, device=self._target.device)))
            except InputError:
                self.close()
                raise
        self._anchor.ask("pin", {"cpus": list(cpus[:1])})
        return self._anchor

    def close(self) -> None:
        """Ends the anchor's process; it may be called twice."""
        if self._anchor is not None:
            self._anchor.close()
        self._anchor = None


def _block(worker: Worker, protocol: Protocol) -> Block:
    rows = worker.ask("block", {"runs": protocol.block, "settle": protocol.settle})
    return [Sample(wall, cpu_ms, switches, delay) for wall, cpu_ms, switches, delay in rows]


@dataclass(frozen=True)
class _Sitting:
    """What the samples say, and the circumstances, JSON-ready."""

    summary: Summary
    circumstances: dict[str, Any]


class _Stopwatch:
    """Splits the time of a measurement into named laps, seconds to the millisecond."""

    def __init__(self, laps: dict[str, float]) -> None:
        self._laps = laps
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        moment = time.monotonic()
        self._laps[name] = round(moment - self._last, 3)
        self._last = moment
