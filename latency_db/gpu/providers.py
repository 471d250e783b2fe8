"""The libraries that reach CUDA, one class each, imported in the timing server when a provider is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from latency_db.core.profiler import RuntimeFailure
from latency_db.gpu.cuda import Cuda, CudaDevice, Event, OutOfDeviceMemory, device_index, driver_version
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class TorchCuda(Cuda):
    """torch; its stream becomes the current one, so that networks run by torch are queued on it, too."""

    name = "torch"

    def __init__(self, index: int) -> None:
        import torch

        if not torch.cuda.is_available():
            raise InputError("torch sees no CUDA device" if torch.version.cuda else "torch was built without CUDA")
        self._torch = torch
        torch.cuda.set_device(index)
        about: Any = torch.cuda.get_device_properties(index)
        uuid, capability = str(getattr(about, "uuid", "")), f"{about.major}.{about.minor}"
        driver = driver_version(f"cuda {torch.version.cuda}")
        l2 = int(getattr(about, "L2_cache_size", 0))
        self.device = CudaDevice(
            about.name, driver, about.total_memory >> 20, capability, l2, f"GPU-{uuid}" if uuid else ""
        )
        self._stream: Any = torch.cuda.Stream()
        torch.cuda.set_stream(self._stream)
        self.stream = int(self._stream.cuda_stream)
        self._buffers: dict[int, Any] = {}

    def alloc(self, size: int) -> int:
        """Return the address of ``size`` bytes in a tensor that this object keeps.

        Raises:
            OutOfDeviceMemory: The GPU has too little free memory.
        """
        try:
            buffer = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device="cuda")
        except self._torch.cuda.OutOfMemoryError:
            raise OutOfDeviceMemory(f"{size / 2**20:.0f} MiB asked of {self.device.memory_mib}") from None
        self._buffers[buffer.data_ptr()] = buffer
        return int(buffer.data_ptr())

    def upload(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy a contiguous array of any shape to an address from :meth:`alloc`; return when the copy is complete."""
        self._buffers[address][: array.nbytes].copy_(self._torch.from_numpy(array.reshape(-1).view("u1")))
        self.synchronize()

    def download(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Fill a contiguous array of any shape from an address from :meth:`alloc`, after all work on the stream."""
        self.synchronize()
        array.reshape(-1).view("u1")[:] = self._buffers[address][: array.nbytes].cpu().numpy()

    def memset(self, address: int, size: int) -> None:
        """Set the first ``size`` bytes at an address from :meth:`alloc` to zero."""
        self._buffers[address][:size].zero_()

    def event(self) -> Event:
        """Return a ``torch.cuda.Event`` that records its time."""
        return self._torch.cuda.Event(enable_timing=True)

    def record(self, event: Event) -> None:
        """Record an event in the stream."""
        event.record(self._stream)

    def elapsed_ms(self, start: Event, stop: Event) -> float:
        """Return the device time between two recorded events that were reached, ms."""
        return float(start.elapsed_time(stop))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        """Return a function that replays what ``step`` puts on the stream as one ``torch.cuda.CUDAGraph``.

        Raises:
            OutOfDeviceMemory: The GPU has too little free memory.
        """
        graph: Any = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph, stream=self._stream):
                step()
        except self._torch.cuda.OutOfMemoryError:
            raise OutOfDeviceMemory("while a CUDA graph was captured") from None
        self._torch.cuda.set_stream(self._stream)
        return lambda: graph.replay()


class CudaPython(Cuda):
    """cuda-bindings, the calls of the CUDA runtime."""

    name = "cuda-bindings"

    def __init__(self, index: int) -> None:
        from cuda.bindings import runtime

        self._rt = runtime
        self._call(runtime.cudaSetDevice(index))
        about = self._call(runtime.cudaGetDeviceProperties(index))
        driver = driver_version(f"cuda {self._call(runtime.cudaDriverGetVersion()) / 1000:g}")
        nvml_id = self._call(runtime.cudaDeviceGetPCIBusId(32, index))
        name, nvml_id = (text.decode() if isinstance(text, bytes) else str(text) for text in (about.name, nvml_id))
        memory, capability = int(about.totalGlobalMem) >> 20, f"{about.major}.{about.minor}"
        self.device = CudaDevice(
            name.strip("\0"), driver, memory, capability, int(about.l2CacheSize), nvml_id.strip("\0")
        )
        self._stream = self._call(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self.stream = int(self._stream)

    def _call(self, result: tuple[Any, ...]) -> Any:
        """Return the value of a call's ``(status, value…)``."""
        status, *values = result
        if status == self._rt.cudaError_t.cudaErrorMemoryAllocation:
            raise OutOfDeviceMemory("asked of the CUDA runtime")
        if status != self._rt.cudaError_t.cudaSuccess:
            raise RuntimeFailure(f"CUDA returned {status.name}")
        return values[0] if values else None

    def alloc(self, size: int) -> int:
        """Return the address of ``size`` bytes from ``cudaMalloc``; they are never freed.

        Raises:
            OutOfDeviceMemory: The GPU has too little free memory.
        """
        try:
            return int(self._call(self._rt.cudaMalloc(max(size, 1))))
        except OutOfDeviceMemory:
            raise OutOfDeviceMemory(f"{size / 2**20:.0f} MiB asked of {self.device.memory_mib}") from None

    def upload(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy a contiguous array of any shape to a device address; return when the copy is complete."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._rt.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._stream))
        self.synchronize()

    def download(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Fill a contiguous array of any shape from a device address; return when the copy is complete."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._rt.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._stream))
        self.synchronize()

    def memset(self, address: int, size: int) -> None:
        """Set ``size`` bytes to zero."""
        self._call(self._rt.cudaMemsetAsync(address, 0, size, self._stream))

    def event(self) -> Event:
        """Return a ``cudaEvent_t`` that records its time."""
        return self._call(self._rt.cudaEventCreate())

    def record(self, event: Event) -> None:
        """Record an event in the stream."""
        self._call(self._rt.cudaEventRecord(event, self._stream))

    def elapsed_ms(self, start: Event, stop: Event) -> float:
        """Return the device time between two recorded events that were reached, ms."""
        return float(self._call(self._rt.cudaEventElapsedTime(start, stop)))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call(self._rt.cudaStreamSynchronize(self._stream))

    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        """Return a function that launches what ``step`` puts on the stream as one instantiated CUDA graph.

        Raises:
            RuntimeFailure: It cannot be captured.
        """
        self._call(
            self._rt.cudaStreamBeginCapture(
                self._stream, self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )
        try:
            step()
        finally:
            graph = self._call(self._rt.cudaStreamEndCapture(self._stream))
        ready = self._call(self._rt.cudaGraphInstantiate(graph, 0))
        return lambda: self._call(self._rt.cudaGraphLaunch(ready, self._stream))


class PyCuda(Cuda):
    """pycuda, in the device's primary context, which runtimes share. It has no CUDA graphs."""

    name = "pycuda"
    graphs = False

    def __init__(self, index: int) -> None:
        import pycuda.driver as driver

        self._driver = driver
        driver.init()
        device = driver.Device(index)
        self._context = device.retain_primary_context()
        self._context.push()
        capability, l2 = device.compute_capability(), device.get_attribute(driver.device_attribute.L2_CACHE_SIZE)
        version = driver_version(f"cuda {driver.get_driver_version() / 1000:g}")
        self.device = CudaDevice(
            device.name(), version, device.total_memory() >> 20, "{}.{}".format(*capability), l2, device.pci_bus_id()
        )
        self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self._buffers: list[Any] = []

    def alloc(self, size: int) -> int:
        """Return the address of ``size`` bytes that this object keeps.

        Raises:
            OutOfDeviceMemory: The GPU has too little free memory.
        """
        try:
            self._buffers.append(self._driver.mem_alloc(max(size, 1)))
        except self._driver.MemoryError:
            raise OutOfDeviceMemory(f"{size / 2**20:.0f} MiB asked of {self.device.memory_mib}") from None
        return int(self._buffers[-1])

    def upload(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy a contiguous array of any shape to a device address, by a blocking copy outside the stream."""
        self._driver.memcpy_htod(address, array)

    def download(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Fill a contiguous array of any shape from a device address, after all work on the stream."""
        self.synchronize()
        self._driver.memcpy_dtoh(array, address)

    def memset(self, address: int, size: int) -> None:
        """Set ``size`` bytes to zero."""
        self._driver.memset_d8_async(address, 0, size, self._stream)

    def event(self) -> Event:
        """Return a ``pycuda.driver.Event`` that records its time."""
        return self._driver.Event()

    def record(self, event: Event) -> None:
        """Record an event in the stream."""
        event.record(self._stream)

    def elapsed_ms(self, start: Event, stop: Event) -> float:
        """Return the device time between two recorded events that were reached, ms."""
        return float(stop.time_since(start))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        """Raise RuntimeFailure: pycuda has no CUDA graphs."""
        raise RuntimeFailure("pycuda has no CUDA graphs", hint="pip install cuda-bindings")


# Module to look for, provider; tried in this order.
PROVIDERS: Mapping[str, type[Cuda]] = {"torch": TorchCuda, "cuda.bindings": CudaPython, "pycuda": PyCuda}


def open_cuda(device: str, providers: Mapping[str, type[Cuda]] = PROVIDERS) -> Cuda:
    """Return the first provider that works on ``cuda:<index>``; for the timing server.

    Raises:
        InputError: None works; the text names the reason of each.
        OutOfDeviceMemory: The GPU has too little free memory.
    """
    index = device_index(device)
    reasons = []
    for module, provider in providers.items():
        if not is_installed(module):
            reasons.append(f"{provider.name} not installed")
            continue
        try:
            return provider(index)  # type: ignore[call-arg]
        except OutOfDeviceMemory:
            raise
        except Exception as error:  # noqa: BLE001 (what each library raises without a GPU is its own; the text is kept)
            reasons.append(f"{provider.name}: {' '.join(str(error).split())[:160]}")
    raise InputError(
        f"no CUDA device {device} ({'; '.join(reasons)})", "an NVIDIA GPU with its driver and one of these libraries"
    )


def is_installed(module: str) -> bool:
    """Return whether a module is installed; imports its parent only."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent
        return False


def probe(request: Mapping[str, Any]) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return an engine that runs nothing and reports the device, or why there is none."""
    try:
        info: dict[str, Any] = {"gpu": open_cuda(request["device"]).device.to_dict()}
    except InputError as error:
        info = {"error": str(error)}
    return (lambda: None), info
