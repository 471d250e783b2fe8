"""The one shape of everything that can time a network on a target."""

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

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.quantization_scheme import QuantizationScheme

    Session = Callable[[npt.NDArray[np.float32]], Sequence[npt.NDArray[np.float32]]]
    """Images (batch, 3, S, S) float32 in 0..1 -> the model's outputs, as the runtime computes them."""


class RuntimeFailure(InputError):
    """A runtime gave up on a workload: its process died, ran out of memory or did not answer. The text is the
    runtime's own, in one line."""


@dataclass(frozen=True)
class Network:
    """A network of a search space: its architecture, number of classes and image size in pixels. All that its speed
    depends on besides the target."""

    architecture: Architecture
    classes: int
    image_size: int

    @property
    def key(self) -> str:
        """``yolo-nano@1/ab12cd34ef56/c10/r128``."""
        a = self.architecture
        return f"{a.space}@{a.version}/{a.id}/c{self.classes}/r{self.image_size}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"architecture": self.architecture.to_dict(), "classes": self.classes, "image_size": self.image_size}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        """Exact inverse of :meth:`to_dict`."""
        try:
            return cls(Architecture.from_dict(data["architecture"]), int(data["classes"]), int(data["image_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not a network ({type(error).__name__}: {error})", "an object with architecture, classes, image_size"
            ) from None


@dataclass(frozen=True)
class Workload:
    """What is timed: a content key (``yolo-nano/ab12cd34ef56/c10/r128``) and the ONNX file, or a function that makes
    it when it is needed.

    The key stands for the content: two networks that may differ in speed must not share one. The function runs only
    when a measurement really takes place and the runtime reads ONNX (a recorded table needs the key alone).

    ``network`` says which network of a search space it is, for runtimes that run the network itself and for
    predictors; None for a file. ``calibration`` gives images as the network sees them, (N, 3, S, S) float32 in
    0..1, one array per batch; int8 needs them.
    """

    key: str
    onnx: Path | Callable[[], Path]
    network: Network | None = None
    calibration: Callable[[], Sequence[npt.NDArray[np.float32]]] | None = None

    def path(self) -> Path:
        """The ONNX file, made now if it has to be; InputError where there is none."""
        path = Path(self.onnx() if callable(self.onnx) else self.onnx)
        if not path.is_file():
            raise InputError(f"no model file {path}", "an ONNX file")
        return path

    @classmethod
    def of_file(cls, path: Path) -> Workload:
        """A workload known by its content alone: the key is the file's SHA-256. Weights in separate files are not
        read for it."""
        return cls(f"onnx/{file_hash(Workload('', path).path())}", path)


def file_hash(path: Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True)
class Protocol:
    """How long and how sure: warm-up in runs and seconds (both are met; where a run takes over 0.1 s, the seconds),
    blocks, and when to stop.

    Rounds go on until the relative half-width of the median's 95 % interval reaches ``half_width``, or ``max_rounds``
    or ``max_s`` seconds of timing are over. ``settle`` runs open each block unrecorded, because the anchor has just
    used the caches. ``clean_share``: with fewer clean samples than this the machine counts as contended. ``seed``
    draws input, order and bootstrap. ``rebuilds``: fresh builds that are measured by runtimes that compile an engine.
    ``processes``: fresh ones that share the effort on a CPU, because where a process's memory comes to lie in the
    caches stays as it is for the process's life, and differs by some percent between them. Where they differ by so
    much that the interval is wider than ``half_width``, more are started, up to ``most_processes`` in all.
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
        """The same effort divided over ``processes``, and as much again for each that may have to follow: the
        interval of one part is wider by the root of their number."""
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
        """The same for a network whose run takes so long: a block lasts half a second or one run, and beside a long
        run the anchor's traces in the caches are nothing that a run has to be thrown away for. Rounds go on until
        there are enough samples that an interval means something."""
        block = max(1, min(self.block, int(0.5 / seconds)))
        least = max(self.min_rounds, min(-(-FEWEST_SAMPLES // block), self.max_rounds))
        return replace(self, block=block, settle=self.settle if seconds < 0.1 else 0, min_rounds=least)


FEWEST_SAMPLES = 12
SEARCHING = Protocol()
FINALIST = Protocol(
    min_rounds=20, max_rounds=400, half_width=0.02, max_s=60.0, rebuilds=3, processes=4, most_processes=8
)


class Profiler(ABC):
    """Times workloads on one target; one final subclass per runtime. Never installs anything, never answers for a
    target it was not asked for.

    A runtime's module must import without the runtime's library: the library belongs to the process that runs the
    model.
    """

    runtime: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    default_device: ClassVar[str] = "cpu"
    measures: ClassVar[bool] = True  # False: answers with what others measured (a recorded table)
    reads_onnx: ClassVar[bool] = True  # False: runs the networks of search spaces itself

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        if target.runtime != self.runtime:
            raise InputError(f"target {target} given to the profiler of {self.runtime}", f"{self.runtime}:…")
        if target.precision not in self.precisions:
            raise InputError(
                f"{target}: precision {target.precision} is not there yet for {self.runtime}",
                f"one of {', '.join(self.precisions)}",
            )
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

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """The database key of a workload's key on this target, version and machine, or on another target of the same
        device.

        The form of int8 counts as part of the version: in another one the same network is another graph.
        """
        target = beside or self.target
        form = self.quantization_scheme(target) if target.precision == "int8" else None
        version = f"{self.version()}, int8 form {form.id}" if form else self.version()
        return LatencyKey(workload, str(target), version, self.fingerprint().id)

    def nominal_reference_ms(self) -> float | None:
        """The anchor's usual time of a recorded table, ms; None where the database knows it
        (``LatencyDB.nominal_reference_ms``)."""
        return None

    @classmethod
    def stands_for(cls, target: Target) -> Target:
        """The target that computes what is timed: itself, or the one that a table was recorded on, on its runtime's
        usual device."""
        return target

    @classmethod
    def quantization_scheme(cls, target: Target) -> QuantizationScheme | None:
        """The form of int8 that the runtime computes fast and right on that target; None where it has no int8."""
        return None

    @classmethod
    def open_session(cls, target: Target, model: Path) -> Session | None:
        """A model ready to be run in this process on given images, with the settings that it is timed with; None
        where that cannot be done.

        Its batch is the target's. Accuracy is measured with it, because runtimes differ in what they make of one file.
        """
        return None

    @classmethod
    def compile_ahead(cls, target: Target, model: Path) -> Mapping[str, Any] | None:
        """What the runtime says when it compiles a model for the target without its device, JSON-ready; None where it
        does not do that.

        Raises InputError for a model that it cannot compile.
        """
        return None

    def close(self) -> None:
        """Ends what the profiler keeps running; it may be called twice."""
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
