"""Memory, one stream, events and graphs of one CUDA device: the interface of all that is timed on a GPU.

Its implementations, and :func:`~latency_db.gpu.providers.open_cuda` which picks one, are in
:mod:`latency_db.gpu.providers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latency_db.core.profiler import RuntimeFailure
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

OUT_OF_MEMORY = "GPU out of memory"
Event = Any
"""Opaque: made by :meth:`Cuda.event`, accepted by the same provider only."""


class OutOfDeviceMemory(RuntimeFailure):
    """The GPU has too little free memory; the text has the requested size if it is known."""

    def __init__(self, request: str) -> None:
        super().__init__(
            f"{OUT_OF_MEMORY}: {request}", hint="take a smaller batch or image size, or end other programs on the GPU"
        )


@dataclass(frozen=True)
class CudaDevice:
    """Properties of a GPU: name, driver, memory in MiB, compute capability, L2 cache in bytes, id for NVML.

    The id is a UUID or a PCI address.
    """

    name: str
    driver: str
    memory_mib: int
    capability: str
    l2_bytes: int
    nvml_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CudaDevice:
        """Return the device of a dictionary from :meth:`to_dict`; the exact inverse."""
        return cls(**data)


class Cuda(ABC):
    """One device and one stream on it.

    Pointers are addresses, sizes are bytes. Everything but :meth:`synchronize` is queued on the stream.

    Raises:
        OutOfDeviceMemory: The GPU has too little free memory.
        RuntimeFailure: A call failed; the text is CUDA's.
    """

    name: ClassVar[str]
    graphs: ClassVar[bool] = True
    device: CudaDevice
    stream: int
    """``cudaStream_t`` as a number, for runtimes that take one."""
    _flush: tuple[int, int] | None = None

    @abstractmethod
    def alloc(self, size: int) -> int:
        """Return the address of ``size`` bytes, allocated for the life of this object."""

    @abstractmethod
    def upload(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Copy a contiguous array of any shape to the device; return when the copy is complete.

        Args:
            address: Address from :meth:`alloc`.
            array: The values; ``array.nbytes`` bytes are copied.
        """

    @abstractmethod
    def download(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Fill a contiguous array of any shape from the device; return when the copy is complete.

        Args:
            array: Receives ``array.nbytes`` bytes.
            address: Address from :meth:`alloc`.
        """

    @abstractmethod
    def memset(self, address: int, size: int) -> None:
        """Set ``size`` bytes to zero."""

    @abstractmethod
    def event(self) -> Event:
        """Return an event that records its time."""

    @abstractmethod
    def record(self, event: Event) -> None:
        """Record an event in the stream."""

    @abstractmethod
    def elapsed_ms(self, start: Event, stop: Event) -> float:
        """Return the device time between two recorded events that were reached, ms."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for the stream."""

    @abstractmethod
    def capture(self, step: Callable[[], object]) -> Callable[[], None]:
        """Return a function that launches what ``step`` puts on the stream as one CUDA graph.

        Raises:
            RuntimeFailure: It cannot be captured.
        """

    def flush_l2(self) -> None:
        """Overwrite the L2 cache: set twice its size to zero.

        Raises:
            RuntimeFailure: The size of the cache is unknown.
        """
        if self._flush is None:
            size = 2 * self.device.l2_bytes
            if not size:
                raise RuntimeFailure("the GPU does not tell its L2 cache's size", hint="measure with a warm L2 cache")
            self._flush = (self.alloc(size), size)
        self.memset(*self._flush)


def device_index(device: str) -> int:
    """Return the index of a CUDA device: ``cuda:1`` -> 1, ``cuda`` -> 0.

    Raises:
        InputError: Another kind of device.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index.isdecimal() or not index):
        raise InputError(f"device {device!r}", "cuda:0, cuda:1, …")
    return int(index or 0)


def no_driver() -> str | None:
    """Return why this machine cannot run CUDA; None if its driver is there. Initialises nothing."""
    import ctypes
    import sys

    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return f"there is no NVIDIA driver ({library} not found)"
    return None


def driver_version(otherwise: str, path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Return the driver's version from the kernel module's file, else ``otherwise`` (the CUDA version it supports)."""
    try:
        words = path.read_text().split("\n", 1)[0].split()
    except OSError:
        return otherwise
    return next((w for w in words if w[0].isdigit() and "." in w), otherwise)
