"""The GPU protocol's core: device times by CUDA events until the median is precise to 1 %, and the state of the GPU.

How a runtime uses it: its engine function (``module:function``, run in the timing server) makes the network
ready and returns ``serve(DeviceRun(cuda, enqueue, info))``; its profiler gives that name to
:class:`latency_db.gpu.gpu_timer.GpuTimer`. ``enqueue`` puts one run on ``cuda.stream`` and returns at once; a CUDA
graph comes from ``cuda.capture(step)`` after two warm calls.

Practice of trtexec, NVIDIA's TensorRT best practices and roboflow/single_artifact_benchmarking@9476fb8; without the
clipping of outliers and the all-zero input that others use (the first biases down, the second lowers power).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from latency_db.core.profiler import Protocol
from latency_db.gpu.cuda import Cuda
from latency_db.gpu.nvml import GpuState, Sensor, open_sensor
from latency_db.timing.statistics import order_statistic_interval, quantile
from search_spaces.errors import InputError

BUSY = 0.05
"""Share of time with work of others from which on a GPU is contended."""
QUIET_S = 2.0
"""Seconds to wait for the GPU's utilisation to fall: a reading covers up to a second, and so the previous network."""
PACED_BLOCK = 8
"""Runs of one block in the paced regime, where 64 would take a quarter of a minute."""
SETTLED_SPREAD = 0.02
"""Largest spread of three readings of a constant SM clock, as a share of the highest."""


@dataclass(frozen=True)
class GpuProtocol:
    """Duration and precision of a measurement on a GPU.

    Blocks end at the interval ``half_width``, at ``max_blocks``, or after ``max_s``.

    Attributes:
        warmup_s: Seconds of the warm-up.
        settle_s: Seconds after which the warm-up ends although the SM clock still changes.
        block: Runs of one block, each between two CUDA events, without waiting for the host.
        min_blocks: Fewest blocks.
        max_blocks: Most blocks.
        half_width: Half of the 95 % interval of the median at which blocks end, as a share of the median.
        max_s: Seconds of timing after which blocks end.
        pause_ms: Pause after each run, ms. 0 is the regime ``burst``, more is ``paced``. Pauses lower the clocks, so
            latencies of the two regimes are not comparable.
        cold_l2: Overwrite twice the size of the L2 cache before each run.
        retries: How often a throttled session is discarded and repeated.
        cool_s: Seconds before a repetition.
        rebuilds: Engine builds that are measured, each in a new process.
        seed: Seed of inputs.

    Raises:
        InputError: A field is out of its range.
    """

    warmup_s: float = 0.2
    settle_s: float = 5.0
    block: int = 64
    min_blocks: int = 4
    max_blocks: int = 400
    half_width: float = 0.01
    max_s: float = 10.0
    pause_ms: float = 0.0
    cold_l2: bool = False
    retries: int = 2
    cool_s: float = 3.0
    rebuilds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (
            self.block >= 1
            and 1 <= self.min_blocks <= self.max_blocks
            and 0 < self.half_width < 1
            and self.max_s > 0
            and self.rebuilds >= 1
        ):
            raise InputError(
                f"measuring protocol {self}",
                "block, rebuilds >= 1, 1 <= min_blocks <= max_blocks, half_width in 0..1, max_s above 0",
            )
        if min(self.warmup_s, self.settle_s, self.pause_ms, self.retries, self.cool_s, self.seed) < 0:
            raise InputError(f"measuring protocol {self}", "nothing negative")

    @classmethod
    def of(cls, protocol: Protocol) -> GpuProtocol:
        """Return the GPU protocol for a general one, with a half-width of at most 1 %.

        On a GPU that precision takes less than a second.
        """
        half_width = min(cls.half_width, protocol.half_width)
        return cls(half_width=half_width, max_s=protocol.max_s, seed=protocol.seed, rebuilds=protocol.rebuilds)

    @property
    def regime(self) -> str:
        """``burst`` or ``paced 200 ms``, followed by ``, L2 cold`` for a cold L2 cache."""
        pace = f"paced {self.pause_ms:g} ms" if self.pause_ms else "burst"
        return pace + (", L2 cold" if self.cold_l2 else "")


@dataclass(frozen=True)
class DeviceRun:
    """A network that is ready on the device. ``enqueue`` puts one run on ``cuda.stream`` and does not wait; ``info``
    is JSON-ready."""

    cuda: Cuda
    enqueue: Callable[[], object]
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GpuSession:
    """One network timed once.

    Attributes:
        ms: Device times in their order, ms.
        converged: Whether the interval of the median became narrow enough.
        settled: Whether the SM clock became constant in the warm-up; None if not reported.
        before: State of the GPU before the samples.
        after: State after them.
        discarded: Why each discarded attempt before this one was throttled.
        others: Share of time in which an idle GPU did work of others, 0 to 1; None if not reported.
    """

    ms: tuple[float, ...]
    converged: bool
    settled: bool | None
    before: GpuState
    after: GpuState
    discarded: tuple[str, ...] = ()
    others: float | None = None

    @property
    def throttled(self) -> tuple[str, ...]:
        """Reasons why the GPU was throttled, before or after; () if it was not, or does not report it."""
        return tuple(sorted({*self.before.throttled, *self.after.throttled}))

    @property
    def verdict(self) -> str:
        """``throttled``; ``contended`` if others used more than :data:`BUSY` of the time; else ``clean``.

        The values are those of :class:`latency_db.core.measurement.Measurement`.
        """
        if self.throttled:
            return "throttled"
        return "contended" if self.others is not None and self.others > BUSY else "clean"

    @property
    def median_ms(self) -> float:
        """Median of the device times, ms."""
        return quantile(self.ms, 0.5)

    @property
    def drift(self) -> float:
        """Change of the median from the first to the second half of the samples, a share."""
        half = len(self.ms) // 2
        return quantile(self.ms[half:], 0.5) / quantile(self.ms[:half], 0.5) - 1 if half else 0.0

    def circumstances(self) -> dict[str, Any]:
        """Return everything but the samples, JSON-ready."""
        return {**{k: v for k, v in self.to_dict().items() if k != "ms"}, "drift": round(self.drift, 4)}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        lists = {"ms": list(self.ms), "discarded": list(self.discarded)}
        return {**asdict(self), **lists, "before": self.before.to_dict(), "after": self.after.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuSession:
        """Return the session of a dictionary from :meth:`to_dict`, also after JSON; the exact inverse."""
        states = {name: GpuState.from_dict(data[name]) for name in ("before", "after")}
        return cls(**{**data, **states, "ms": tuple(data["ms"]), "discarded": tuple(data["discarded"])})


@dataclass(frozen=True)
class Clock:
    """The host's clock in seconds and its sleep; tests replace it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


def time_device(run: DeviceRun, sensor: Sensor, protocol: GpuProtocol, clock: Clock | None = None) -> GpuSession:
    """Warm up and sample between two readings of the GPU's state.

    A throttled attempt is discarded and repeated; the last one is kept in any case.

    Args:
        run: The network, ready on the device.
        sensor: Reads the state of the GPU.
        protocol: Duration and precision.
        clock: The host's clock; tests replace it.

    Raises:
        RuntimeFailure: A run failed.
    """
    clock = clock or Clock()
    others = _others(sensor, clock)
    discarded: list[str] = []
    while True:
        settled = _warm_up(run, sensor, protocol, clock)
        before = _state_under_load(run, sensor, protocol)
        ms, converged = _sample(run, protocol, clock)
        after = _state_under_load(run, sensor, protocol)
        session = GpuSession(tuple(ms), converged, settled, before, after, tuple(discarded), others)
        if not session.throttled or len(discarded) >= protocol.retries:
            return session
        discarded.append(", ".join(session.throttled))
        clock.sleep(protocol.cool_s)


def _others(sensor: Sensor, clock: Clock) -> float | None:
    """Return the smallest utilisation within :data:`QUIET_S` of an idle GPU: work of others. None if not reported."""
    end = clock.now() + QUIET_S
    least = sensor.read().utilisation
    while least is not None and least > BUSY and clock.now() < end:
        clock.sleep(0.2)
        least = min(least, sensor.read().utilisation or 0.0)
    return least


def _warm_up(run: DeviceRun, sensor: Sensor, protocol: GpuProtocol, clock: Clock) -> bool | None:
    """Run until the time is over and the SM clock is constant; return whether it became so, None if not reported."""
    start = clock.now()
    pair = [(run.cuda.event(), run.cuda.event())]
    readings: list[int | None] = []
    while True:
        spent = clock.now() - start
        settled = _is_settled(readings)
        if spent >= protocol.warmup_s and (settled is not False or spent >= protocol.settle_s):
            return settled
        _block(run, protocol, clock, pair)
        readings = [*readings[-2:], _state_under_load(run, sensor, protocol).sm_mhz]


def _is_settled(readings: list[int | None]) -> bool | None:
    known = [mhz for mhz in readings if mhz is not None]
    if len(known) < len(readings):
        return None
    return len(known) >= 3 and max(known) - min(known) <= SETTLED_SPREAD * max(known)


def _state_under_load(run: DeviceRun, sensor: Sensor, protocol: GpuProtocol) -> GpuState:
    """Return the GPU's state with runs in flight; after them it would be that of an idle GPU."""
    for _ in range(1 if protocol.pause_ms else protocol.block):
        run.enqueue()
    state = sensor.read()
    run.cuda.synchronize()
    return state


def _sample(run: DeviceRun, protocol: GpuProtocol, clock: Clock) -> tuple[list[float], bool]:
    """Return device times in ms, and whether the interval became narrow enough."""
    pairs = [
        (run.cuda.event(), run.cuda.event())
        for _ in range(min(protocol.block, PACED_BLOCK) if protocol.pause_ms else protocol.block)
    ]
    end = clock.now() + protocol.max_s
    ms: list[float] = []
    for count in range(1, protocol.max_blocks + 1):
        ms += _block(run, protocol, clock, pairs)
        if count >= protocol.min_blocks:
            low, high = order_statistic_interval(ms)
            if (high - low) / 2 <= protocol.half_width * quantile(ms, 0.5):
                return ms, True
        if clock.now() >= end:
            break
    return ms, False


def _block(run: DeviceRun, protocol: GpuProtocol, clock: Clock, pairs: list[tuple[Any, Any]]) -> list[float]:
    """Return the ms of one run per pair of events. The host waits at the end, in the paced regime after each run."""
    cuda = run.cuda
    for start, stop in pairs:
        if protocol.cold_l2:
            cuda.flush_l2()
        cuda.record(start)
        run.enqueue()
        cuda.record(stop)
        if protocol.pause_ms:
            cuda.synchronize()
            clock.sleep(protocol.pause_ms / 1e3)
    cuda.synchronize()
    return [cuda.elapsed_ms(start, stop) for start, stop in pairs]


class TimedDeviceRun:
    """A device run in the timing server: a call runs it once and waits.

    ``time`` follows the protocol of the request.
    """

    def __init__(self, run: DeviceRun, sensor: Sensor) -> None:
        self._run = run
        self._sensor = sensor

    def __call__(self) -> None:
        self._run.enqueue()
        self._run.cuda.synchronize()

    def time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the session, JSON-ready; ``request["protocol"]`` has the fields of :class:`GpuProtocol`."""
        return time_device(self._run, self._sensor, GpuProtocol(**request["protocol"])).to_dict()


def serve(run: DeviceRun) -> tuple[TimedDeviceRun, dict[str, Any]]:
    """Return what an engine function of a GPU gives to the timing server: the timed run, and its description."""
    sensor = open_sensor(run.cuda.device)
    return TimedDeviceRun(run, sensor), {
        **run.info,
        "cuda": run.cuda.name,
        "gpu": run.cuda.device.to_dict(),
        "sensor": sensor.name,
    }
