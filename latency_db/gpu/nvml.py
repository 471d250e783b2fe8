"""Clocks, power, temperature and throttle reasons of a GPU through NVML (nvidia-ml-py); read, never set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from latency_db.gpu.cuda import CudaDevice

# Bits of nvmlClocksEventReasons (nvml.h). "idle", application and display clocks and sync boost are settings, no
# throttling.
THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


@dataclass(frozen=True)
class GpuState:
    """State of a GPU: clocks in MHz, power in W, temperature in °C, share of time in use (0 to 1); None if unknown."""

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    power_w: float | None = None
    celsius: int | None = None
    utilisation: float | None = None
    throttled: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        return {**asdict(self), "throttled": list(self.throttled)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GpuState:
        """Return the state of a dictionary from :meth:`to_dict`; the exact inverse."""
        return cls(**{**data, "throttled": tuple(data["throttled"])})


class Sensor(ABC):
    """Reads a GPU's state; cheap enough to be called while runs are in flight."""

    name: ClassVar[str]

    @abstractmethod
    def read(self) -> GpuState:
        """Return the state now."""


class NoSensor(Sensor):
    """No NVML: the state is unknown, and measurements record that."""

    name = "none: pip install nvidia-ml-py to have clocks and throttling checked"

    def read(self) -> GpuState:
        """Return a state without values."""
        return GpuState()


class Nvml(Sensor):
    """NVML's view of one device."""

    name = "nvml"

    def __init__(self, device: CudaDevice) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        find = (
            pynvml.nvmlDeviceGetHandleByUUID
            if device.nvml_id.startswith("GPU-")
            else pynvml.nvmlDeviceGetHandleByPciBusId
        )
        self._handle = find(device.nvml_id)

    def read(self) -> GpuState:
        """Return the state now, as NVML reports it.

        A value that the GPU or the driver does not report is None; throttle reasons that are not reported are ().
        """
        n, handle = self._nvml, self._handle
        power = self._ask(lambda: n.nvmlDeviceGetPowerUsage(handle))
        used = self._ask(lambda: n.nvmlDeviceGetUtilizationRates(handle).gpu)
        bits = self._ask(lambda: n.nvmlDeviceGetCurrentClocksEventReasons(handle)) or 0
        return GpuState(
            sm_mhz=self._ask(lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_SM)),
            memory_mhz=self._ask(lambda: n.nvmlDeviceGetClockInfo(handle, n.NVML_CLOCK_MEM)),
            power_w=None if power is None else power / 1e3,
            celsius=self._ask(lambda: n.nvmlDeviceGetTemperature(handle, n.NVML_TEMPERATURE_GPU)),
            utilisation=None if used is None else used / 100,
            throttled=tuple(name for bit, name in THROTTLING.items() if bits & bit),
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Return the answer; None if the GPU or driver does not support the question."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def open_sensor(device: CudaDevice) -> Sensor:
    """Return NVML's sensor if it is installed and finds the device, else one that reports nothing."""
    if find_spec("pynvml") is None or not device.nvml_id:
        return NoSensor()
    import pynvml

    try:
        return Nvml(device)
    except pynvml.NVMLError:
        return NoSensor()


def missing() -> str | None:
    """Return None if NVML sees a GPU, else why not and what to do."""
    if find_spec("pynvml") is None:
        return "power is read through NVML: pip install nvidia-ml-py"
    import pynvml

    try:
        pynvml.nvmlInit()
        return None if pynvml.nvmlDeviceGetCount() else "NVML sees no GPU whose power could be read"
    except pynvml.NVMLError as error:
        return f"NVML sees no GPU whose power could be read ({error})"
