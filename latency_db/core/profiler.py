"""The interface of a profiler, which measures the latency of workloads on one target, and the values it takes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.target import Target
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.image_size import SizeField

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.quantization_scheme import QuantizationScheme

    InferenceSession = Callable[[npt.NDArray[np.float32]], Sequence[npt.NDArray[np.float32]]]
    """Images (batch, 3, H, W) float32 in 0..1 -> the model's outputs, as the runtime computes them."""


class RuntimeFailure(InputError):
    """A run of a workload failed: its process died, ran out of memory or did not answer. The text is the runtime's."""


@dataclass(frozen=True)
class Network:
    """A network of a search space: architecture, number of classes, and image size.

    Besides the target, its latency depends on these alone.

    Raises:
        InputError: A side of the image is not a multiple of 32, or there is no class.
    """

    architecture: Architecture
    classes: int
    image_size: SizeField = SizeField()

    def __post_init__(self) -> None:
        self.image_size.check("a network")
        if not isinstance(self.classes, int) or self.classes < 1:
            raise InputError(f"{self.classes} classes of a network", "at least 1")

    @property
    def key(self) -> str:
        """Content key, such as ``yolo-nano@1/ab12cd34ef56/c10/r128`` or ``…/r256x448``."""
        a = self.architecture
        return f"{a.space}@{a.version}/{a.id}/c{self.classes}/r{self.image_size}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-ready."""
        return {
            "architecture": self.architecture.to_dict(),
            "classes": self.classes,
            "image_size": self.image_size.value,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        """Return the network of a dictionary from :meth:`to_dict`; the exact inverse.

        Raises:
            InputError: The dictionary is no network.
        """
        try:
            return cls(Architecture.from_dict(data["architecture"]), int(data["classes"]), data["image_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not a network ({type(error).__name__}: {error})", "an object with architecture, classes, image_size"
            ) from None


@dataclass(frozen=True)
class Workload:
    """What is measured.

    Attributes:
        key: Content key (``yolo-nano@1/ab12cd34ef56/c10/r128``). Networks that may differ in speed have different keys.
        onnx: The ONNX file, or a function that writes it; called only if a runtime that reads ONNX measures it.
        network: The network of a search space, for runtimes that run it themselves and for predictors; None for a file.
        converted: The ONNX file is in the target's precision already.
        calibration: Returns images as the network receives them, arrays (N, 3, H, W) float32 in 0..1; int8 needs them.
    """

    key: str
    onnx: Path | Callable[[], Path]
    network: Network | None = None
    calibration: Callable[[], Sequence[npt.NDArray[np.float32]]] | None = None
    converted: bool = False

    def path(self) -> Path:
        """Return the ONNX file, written now if needed. Raises InputError if there is none."""
        path = Path(self.onnx() if callable(self.onnx) else self.onnx)
        if not path.is_file():
            raise InputError(f"no model file {path}", "an ONNX file")
        return path

    @classmethod
    def of_file(cls, path: Path) -> Workload:
        """Return the workload of a file; its key is the file's SHA-256, without weights in separate files.

        Raises:
            InputError: There is no such file, or it cannot be read.
        """
        return cls(f"onnx/{file_hash(Workload('', path).path())}", path)


def file_hash(path: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file. Raises InputError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True)
class Protocol:
    """Duration and precision of a measurement. :mod:`latency_db.timing` describes the steps.

    Rounds end at the interval ``half_width``, at ``max_rounds``, or after ``max_s``.

    Attributes:
        warmup_runs: Runs of the warm-up; a run of over 0.1 s needs ``warmup_s`` only.
        warmup_s: Seconds of the warm-up.
        block: Runs of one block.
        settle: Unrecorded runs before each block, since the reference model has just used the caches.
        min_rounds: Fewest rounds.
        max_rounds: Most rounds.
        half_width: Half of the 95 % interval of the median at which rounds end, as a share of the median.
        max_s: Seconds of timing after which rounds end.
        clean_share: With fewer clean samples than this share the machine is contended.
        seed: Seed of inputs, orders and bootstrap.
        rebuilds: Builds that are measured, for runtimes that compile an engine.
        processes: Processes that share the rounds on a CPU: the place of a process in memory lasts for its life, and
            latencies differ by some percent between processes.
        most_processes: Most processes; more than ``processes`` are used while the interval is too wide.

    Raises:
        InputError: A field is out of its range.
    """

    warmup_runs: int = 10
    warmup_s: float = 0.5
    block: int = 5
    settle: int = 1
    min_rounds: int = 8
    max_rounds: int = 60
    half_width: float = 0.05
    max_s: float = 10.0
    clean_share: float = 0.5
    seed: int = 0
    rebuilds: int = 1
    processes: int = 1
    most_processes: int = 0

    def __post_init__(self) -> None:
        if not (
            self.block >= 1
            and 1 <= self.min_rounds <= self.max_rounds
            and min(self.warmup_runs, self.warmup_s, self.settle, self.seed) >= 0
        ):
            raise InputError(
                f"measuring protocol {self}", "block >= 1, 1 <= min_rounds <= max_rounds, nothing negative"
            )
        if not (0 < self.half_width < 1 and self.max_s > 0 and 0 < self.clean_share <= 1):
            raise InputError(f"measuring protocol {self}", "half_width and clean_share between 0 and 1, max_s above 0")

    def parts(self) -> list[Protocol]:
        """Return one protocol per process, also for those beyond ``processes`` that may be needed.

        Each has a share 1/n of the rounds and seconds, and an interval wider by sqrt(n).
        """
        n = self.processes
        share = replace(
            self,
            min_rounds=-(-self.min_rounds // n),
            max_rounds=-(-self.max_rounds // n),
            max_s=self.max_s / n,
            half_width=min(0.5, self.half_width * n**0.5),
            processes=1,
            most_processes=0,
        )
        return [replace(share, seed=self.seed + i) for i in range(max(n, self.most_processes))]

    def for_runs_of(self, seconds: float) -> Protocol:
        """Return the protocol for a network whose run takes so many seconds.

        A block lasts at most half a second or one run. A run of over 0.1 s needs no settling. There are at least
        :data:`FEWEST_SAMPLES` samples.
        """
        block = max(1, min(self.block, int(0.5 / seconds)))
        least = max(self.min_rounds, min(-(-FEWEST_SAMPLES // block), self.max_rounds))
        return replace(self, block=block, settle=self.settle if seconds < 0.1 else 0, min_rounds=least)


FEWEST_SAMPLES = 12
"""Fewest samples of which an interval is estimated."""
SEARCHING = Protocol()
"""For candidates of a search."""
FINALIST = Protocol(
    min_rounds=20, max_rounds=400, half_width=0.02, max_s=60.0, rebuilds=3, processes=4, most_processes=8
)
"""For networks whose latency is reported."""


def versioned(version: str, scheme: QuantizationScheme | None) -> str:
    """Return the version of a key: the runtime's, of int8 with the quantization scheme ("form" in older records)."""
    return f"{version}, int8 form {scheme.id}" if scheme else version


class Profiler(ABC):
    """Measures workloads on one target; there is one final subclass per runtime.

    A profiler installs nothing and answers for its own target only. A runtime's module imports without the runtime's
    library, which belongs to the process that runs the model.

    Raises:
        InputError: The target names another runtime, the runtime does not compute in its precision, or the runtime
            cannot be used on this machine.
    """

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    default_device: ClassVar[str] = "cpu"
    measures: ClassVar[bool] = True  # False: it replays measurements (a recorded table)
    reads_onnx: ClassVar[bool] = True  # False: runs the networks of search spaces itself
    channels_last: ClassVar[bool] = False  # of the input of those files
    deployed_as: ClassVar[str] = ""  # name of the main file of :meth:`write_files`; empty: no files of its own

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        if target.runtime != self.runtime:
            raise InputError(f"target {target} given to the profiler of {self.runtime}", f"{self.runtime}:…")
        if target.precision not in self.precisions:
            raise InputError(
                f"{target}: precision {target.precision} is not supported by {self.runtime}",
                f"one of {', '.join(self.precisions)}",
            )
        if reason := self.available():
            raise InputError(f"runtime {self.runtime} cannot be used here: {reason}")
        self.target = target
        self.protocol = protocol

    @classmethod
    @abstractmethod
    def available(cls) -> str | None:
        """Return None if usable on this machine, else why not and what to install. Imports nothing heavy."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the runtime's version, a part of every key, since kernels change with it."""

    @abstractmethod
    def measure(self, workload: Workload) -> Measurement:
        """Measure one workload now.

        Raises:
            InputError: The runtime refuses the model.
            RuntimeFailure: A run failed.
        """

    def fingerprint(self) -> DeviceFingerprint:
        """Return the machine; runtimes of accelerators add the accelerator and its driver."""
        return _this_machine()

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """Return the database key of a workload on this target, version and machine, or on another target of the
        device.

        The quantization scheme is part of the version: with another scheme the same network is another graph.
        """
        target = beside or self.target
        scheme = self.quantization_scheme(target) if target.precision == "int8" else None
        return LatencyKey(workload, str(target), versioned(self.version(), scheme), self.fingerprint().id)

    def nominal_reference_ms(self) -> float | None:
        """Return the nominal latency of the reference model in a recorded table, ms.

        None for all other profilers; :meth:`LatencyDB.nominal_reference_ms` gives it.
        """
        return None

    @classmethod
    def stands_for(cls, target: Target) -> Target:
        """Return the target that computes the latency: itself, or for a recorded table the one that it was recorded
        on."""
        return target

    @classmethod
    def quantization_scheme(cls, target: Target, device: DeviceFingerprint | None = None) -> QuantizationScheme | None:
        """Return the quantization scheme that is fast and correct on that target; None if it has no int8.

        ``device`` is the machine that the target is on; None is this one.
        """
        return None

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession | None:
        """Return a model that runs in this process on given images, with the settings of timing.

        Its batch is the target's. Accuracy is measured with it, since runtimes differ in what they compute of one
        file. None if the runtime cannot do that.
        """
        return None

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Convert an ONNX file to the runtime's own files in ``folder``, for the target's batch, size and precision.

        Only a runtime with ``deployed_as`` has such files.

        Raises:
            InputError: The runtime has no files of its own, or cannot convert the model.
        """
        raise InputError(f"{cls.runtime} has no files of its own", "a runtime that converts models")

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession | None:
        """Return the model of files that :meth:`write_files` wrote, as a function that gives the outputs in that order.

        None if the runtime cannot run on this machine (a plan for a GPU).

        Raises:
            InputError: The runtime has no files of its own, or cannot load these.
        """
        raise InputError(f"{cls.runtime} has no files of its own", "a runtime that converts models")

    @classmethod
    def compile_ahead(cls, target: Target, model: Path) -> Mapping[str, Any] | None:
        """Return the report of compiling a model without the target's device, JSON-ready; None if not supported.

        Raises:
            InputError: The runtime cannot compile the model.
        """
        return None

    def close(self) -> None:
        """End the processes that the profiler keeps running; may be called twice."""
        return

    def __enter__(self) -> Profiler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@cache
def _this_machine() -> DeviceFingerprint:
    return DeviceFingerprint.read()
