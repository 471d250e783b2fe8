"""The one shape of everything that can time a network on a target."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from latency_db.device import DeviceFingerprint
from latency_db.measurement import LatencyKey, Measurement
from latency_db.target import Target
from search_spaces.errors import InputError


class RuntimeFailure(InputError):
    """A runtime gave up on a workload: its process died, ran out of memory or did not answer. The text is the runtime's own, in one line."""


@dataclass(frozen=True)
class Workload:
    """What is timed: a content key (``yolo-nano/ab12cd34ef56/c10/r128``) and the ONNX file, or a function that makes it when it is needed.

    The key stands for the content: two networks that may differ in speed must not share one. The function runs only when a measurement
    really takes place and the runtime reads ONNX (a recorded table needs the key alone).
    """

    key: str
    onnx: Path | Callable[[], Path]

    def path(self) -> Path:
        """The ONNX file, made now if it has to be; InputError where there is none."""
        path = Path(self.onnx() if callable(self.onnx) else self.onnx)
        if not path.is_file():
            raise InputError(f"no model file {path}", "an ONNX file")
        return path

    @classmethod
    def of_file(cls, path: Path) -> Workload:
        """A workload known by its content alone: the key is the file's SHA-256. Weights in separate files are not read for it."""
        return cls(f"onnx/{file_hash(Workload('', path).path())}", path)


def file_hash(path: Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True)
class Protocol:
    """How long and how sure: warm-up in runs and seconds (both are met), blocks, and when to stop.

    Rounds go on until the relative half-width of the median's 95 % interval reaches ``half_width``, or ``max_rounds`` or ``max_s`` seconds
    of timing are over. ``settle`` runs open each block unrecorded, because the anchor has just used the caches.
    ``clean_share``: with fewer clean samples than this the machine counts as contended. ``seed`` draws input, order and bootstrap.
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

    def __post_init__(self) -> None:
        if not (self.block >= 1 and 1 <= self.min_rounds <= self.max_rounds and min(self.warmup_runs, self.warmup_s, self.settle, self.seed) >= 0):
            raise InputError(f"measuring protocol {self}", "block >= 1, 1 <= min_rounds <= max_rounds, nothing negative")
        if not (0 < self.half_width < 1 and self.max_s > 0 and 0 < self.clean_share <= 1):
            raise InputError(f"measuring protocol {self}", "half_width and clean_share between 0 and 1, max_s above 0")


SEARCHING = Protocol()
FINALIST = Protocol(min_rounds=20, max_rounds=400, half_width=0.02, max_s=60.0)


class Profiler(ABC):
    """Times workloads on one target; one final subclass per runtime. Never installs anything, never answers for a target it was not asked for.

    A runtime's module must import without the runtime's library: the library belongs to the process that runs the model.
    """

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    default_device: ClassVar[str] = "cpu"

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        if target.runtime != self.runtime:
            raise InputError(f"target {target} given to the profiler of {self.runtime}", f"{self.runtime}:…")
        if target.precision not in self.precisions:
            raise InputError(f"{target}: precision {target.precision} is not there yet for {self.runtime}", f"one of {', '.join(self.precisions)}")
        if reason := self.available():
            raise InputError(f"runtime {self.runtime} cannot be used here: {reason}")
        self.target = target
        self.protocol = protocol

    @classmethod
    @abstractmethod
    def available(cls) -> str | None:
        """None when usable on this machine; else why not and what to install. Cheap: nothing heavy is imported."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """The runtime's version: part of every key, since kernels change with it."""

    @abstractmethod
    def measure(self, workload: Workload) -> Measurement:
        """The latency of one workload, measured now. Raises InputError (the model) or RuntimeFailure (the run)."""

    def fingerprint(self) -> DeviceFingerprint:
        """The machine; a runtime of an accelerator overrides this and adds the accelerator and its driver."""
        return _this_machine()

    def key(self, workload: str) -> LatencyKey:
        """The database key of a workload's key on this target, version and machine."""
        return LatencyKey(workload, str(self.target), self.version(), self.fingerprint().id)

    def close(self) -> None:
        """Ends what the profiler keeps running; it may be called twice."""
        return

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


@cache
def _this_machine() -> DeviceFingerprint:
    return DeviceFingerprint.read()
