"""A GPU that replays recorded times: provider, sensor, clock and engine for the tests of the GPU protocol. No GPU, no
CUDA library."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_db.core.profiler import RuntimeFailure
from latency_db.gpu.cuda import Cuda, CudaDevice, Event, OutOfDeviceMemory
from latency_db.gpu.nvml import GpuState, Sensor
from latency_db.gpu.protocol import Clock, DeviceRun, GpuProtocol, TimedDeviceRun, time_device

DEVICE = CudaDevice("Fake GPU", "1.2.3", 1024, "9.9", 1 << 20, "GPU-fake")
STEADY = GpuState(sm_mhz=1500, memory_mhz=5000, power_w=99.5, celsius=50, utilisation=0.0)
HOT = GpuState(sm_mhz=900, memory_mhz=5000, power_w=99.5, celsius=95, utilisation=0.0, throttled=("hardware thermal",))


class FakeCuda(Cuda):
    """Time is what was queued. ``calls`` keeps the names of what was asked, in order."""

    name = "fake"

    def __init__(self, ms: Iterator[float], memory: int = 1 << 30) -> None:
        self.device, self.stream = DEVICE, 7
        self.now, self.calls = 0.0, list[str]()
        self._ms, self._free = ms, memory

    def run(self) -> None:
        self.calls.append("run")
        self.now += next(self._ms)

    def alloc(self, size: int) -> int:
        if size > self._free:
            raise OutOfDeviceMemory(f"{size >> 20} MiB asked of {DEVICE.memory_mib}")
        self._free -= size
        return 1 + len(self.calls)

    def upload(self, address: int, array: npt.NDArray[np.generic]) -> None:
        self.calls.append("upload")

    def download(self, array: npt.NDArray[np.generic], address: int) -> None:
        self.calls.append("download")

    def memset(self, address: int, size: int) -> None:
        self.calls.append(f"memset {size}")

    def event(self) -> Event:
        return [0.0]

    def record(self, event: Event) -> None:
        self.calls.append("record")
        event[0] = self.now

    def elapsed_ms(self, start: Event, stop: Event) -> float:
        return float(stop[0] - start[0])

    def synchronize(self) -> None:
        self.calls.append("wait")

    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        raise RuntimeFailure("the fake captures nothing")


class FakeSensor(Sensor):
    """States one after the other, the last one for good."""

    name = "fake"

    def __init__(self, states: Sequence[GpuState] = (STEADY,)) -> None:
        self._states = list(states)

    def read(self) -> GpuState:
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]


@dataclass
class FakeGpu:
    """What a test scripts: device times in ms that repeat, states that follow each other; the host's clock follows
    the device's."""

    ms: Sequence[float] = (2.0,)
    states: Sequence[GpuState] = (STEADY,)
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cuda = FakeCuda(cycle(self.ms))

    def time(self, protocol: GpuProtocol) -> Any:
        clock = Clock(lambda: self.cuda.now / 1e3 + sum(self.slept), self.slept.append)
        return time_device(DeviceRun(self.cuda, self.cuda.run), FakeSensor(self.states), protocol, clock)


class _Replayed(TimedDeviceRun):
    """Times by the device's clock, so that a test takes no longer than its arithmetic."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__(DeviceRun(gpu.cuda, gpu.cuda.run), FakeSensor(gpu.states))
        self._gpu = gpu

    def time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._gpu.time(GpuProtocol(**request["protocol"])).to_dict()
        return found


def script(path: Path, ms: Sequence[float] = (2.0,), states: Sequence[GpuState] = (STEADY,), needs: int = 0) -> Path:
    """A "model" for :func:`engine`: times, states, bytes of device memory."""
    path.write_text(json.dumps({"ms": list(ms), "states": [asdict(s) for s in states], "needs": needs}))
    return path


def engine(request: Mapping[str, Any]) -> tuple[TimedDeviceRun, dict[str, Any]]:
    """Replays ``request["model"]``; what is no script is an anchor of 1 ms."""
    model = Path(request["model"])
    said: dict[str, Any] = (
        json.loads(model.read_text())
        if model.suffix == ".json"
        else {"ms": [1.0], "states": [asdict(STEADY)], "needs": 0}
    )
    gpu = FakeGpu(said["ms"], [GpuState.from_dict(s) for s in said["states"]])
    gpu.cuda.alloc(said["needs"])
    return _Replayed(gpu), {"precision": request["precision"], "batch": request["batch"]}


def probe(request: Mapping[str, Any]) -> tuple[Callable[[], None], dict[str, Any]]:
    """In the place of :func:`latency_db.gpu.providers.probe`."""
    return (lambda: None), {"gpu": DEVICE.to_dict()}
