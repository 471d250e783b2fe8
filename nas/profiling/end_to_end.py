"""Latency from a decoded image to detections: letterboxing, network with box decoding, suppression.

The steps are those of ``nas predict``, on one image of a scene after another (:mod:`nas.profiling.scene`), timed by the
CPU protocol as a network is. The time of each step is measured in the same runs, so the parts sum to the whole but for
the noise of medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from latency_db.conversion.precision import converted
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES, opened_by
from latency_db.timing.cpu_timer import CpuTimer
from nas.profiling.scene import Scene
from search_spaces.errors import InputError
from search_spaces.heads import HEADS
from search_spaces.spaces import space_of

ENGINE = "nas.profiling.end_to_end_engine:engine"
BOARDS = (
    "boards get no code of these steps, which need OpenCV and this package; install it there and run the command there"
)
"""Why the whole way is not measured on another machine (``--on``): a hint."""


@dataclass(frozen=True)
class EndToEndParts:
    """Median ms of the steps of one run: letterboxing, network, box decoding (a part of the network), suppression."""

    preprocessing_ms: float
    network_ms: float
    decoding_ms: float | None
    suppression_ms: float

    @property
    def total_ms(self) -> float:
        """The sum of the steps; the network contains the decoding."""
        return self.preprocessing_ms + self.network_ms + self.suppression_ms

    @classmethod
    def of(cls, measured: Measurement) -> EndToEndParts | None:
        """Return the parts of a measurement; None if it is no end-to-end one."""
        steps = (measured.environment.get("details") or {}).get(measured.clock)
        if not steps:
            return None
        decoding = measured.environment["settings"].get("decoding_ms")
        return cls(steps["preprocessing"], steps["network"], decoding, steps["suppression"])

    def text(self) -> str:
        """Return one line with all parts."""
        decoding = "" if self.decoding_ms is None else f" (decoding {self.decoding_ms:.2f})"
        return (
            f"preprocessing {self.preprocessing_ms:.2f} ms, network {self.network_ms:.2f}{decoding}, "
            f"suppression {self.suppression_ms:.2f}"
        )


class EndToEndProfiler(Profiler):
    """Measures the whole way of a target's runtime on a scene; the precision and the runtime are the target's.

    Raises:
        InputError: The runtime cannot be used here, does not compute in the precision, or cannot be run on images.
    """

    runtime = ""
    precisions = ()

    def __init__(self, target: Target, scene: Scene, protocol: Protocol = SEARCHING) -> None:
        kind = RUNTIMES[target.runtime]
        if not (kind.measures and kind.reads_onnx):
            raise InputError(f"end-to-end latency on {target}", "a runtime that runs ONNX files")
        self._inner = kind(target, protocol)
        self.target, self.protocol = target, protocol
        self._scene, self._id = scene.saved(), scene.id
        self._timer: CpuTimer | None = None

    @classmethod
    def available(cls) -> str | None:
        """Return None: the runtime of the target decides."""
        return None

    def version(self) -> str:  # type: ignore[override]
        """Return the runtime's version and the scene."""
        return f"{self._inner.version()}, end to end on scene {self._id}"

    def fingerprint(self) -> DeviceFingerprint:
        """Return the runtime's device."""
        return self._inner.fingerprint()

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """Return the runtime's key; the scene is part of the version."""
        key = self._inner.key(workload, beside)
        return replace(key, version=f"{key.version}, end to end on scene {self._id}")

    def measure(self, workload: Workload) -> Measurement:
        """Measure the whole way of a network of a search space.

        Raises:
            InputError: The workload is no network of a space, or the model cannot be converted or loaded.
            RuntimeFailure: A run failed.
        """
        network = workload.network
        if network is None:
            raise InputError(f"end-to-end latency of {workload.key}", "an architecture, weights or a reference")
        head = space_of(network.architecture).graph(network.architecture).head
        extra = {
            "scene": str(self._scene),
            "runtime": self.target.runtime,
            "image_size": network.image_size.value,
            "end_to_end": HEADS[head.kind].end_to_end,
        }
        scheme = type(self._inner).quantization_scheme(self.target) if self.target.precision == "int8" else None
        with converted(workload, self.target.precision, scheme) as ready:
            timer = self._ready_timer()
            timer.extra = extra
            return timer.measure(ready, self.version(), self.fingerprint())

    def _ready_timer(self) -> CpuTimer:
        if self._timer is None:
            own = self.target.device.lower() != "cpu"
            self._timer = CpuTimer(ENGINE, self.target, self.protocol, own_device=own)
        return self._timer

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._inner.close()
        if self._timer is not None:
            self._timer.close()


def end_to_end(scene: Scene) -> Callable[[Target, Protocol | None], Profiler]:
    """Return the function that opens the profiler of the whole way on a scene, for a target and a protocol."""
    return lambda target, protocol: EndToEndProfiler(target, scene, protocol or SEARCHING)


@contextmanager
def measuring_end_to_end(scene: Scene | None) -> Iterator[None]:
    """Have every profiler that is opened in the context measure the whole way on a scene; None changes nothing."""
    if scene is None:
        yield
        return
    with opened_by(end_to_end(scene)):
        yield


def parts_dict(measured: Measurement) -> Mapping[str, Any] | None:
    """Return the parts of an end-to-end measurement with their sum, JSON-ready; None for another measurement."""
    parts = EndToEndParts.of(measured)
    return None if parts is None else {**vars(parts), "total_ms": parts.total_ms}
