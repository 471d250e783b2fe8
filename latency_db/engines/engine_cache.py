"""A cache of compiled engines on disk: building takes seconds to minutes, timing less than one second.

The key is the SHA-256 of the ONNX file, the runtime with its version, the device and every setting of the build.
Entries are written to a draft and renamed, carry a checksum, and are built again if damaged. The engines unused for
longest are removed when the folder exceeds its limit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_db.core.cpu import cache_dir, exclusive
from latency_db.engines.plans import Plan, PlanReport, compile_plan
from latency_db.timing.timing_client import TimingClient
from search_spaces.errors import InputError
from search_spaces.image_size import OptionalSizeField

LIMIT_BYTES = 8 << 30
BUILD_TIMEOUT_S = 3600.0
BUILDER = "latency_db.engines.engine_cache:builder"


@dataclass(frozen=True)
class Engine:
    """A plan's file, its report, and its origin: ``kept``, ``built`` or ``rebuilt, the kept one was damaged``."""

    path: Path
    report: PlanReport
    origin: str


@dataclass(frozen=True)
class EngineJob:
    """What to compile for which device.

    Attributes:
        onnx: The model.
        runtime: ``tensorrt`` or ``tensorrt-rtx``.
        version: Version of the runtime.
        device: The GPU's name and driver, or "" for plans that run on any.
        batch: Images per run.
        image_size: Of the images; None if it is fixed in the model.
        number: Distinguishes rebuilds of one network, from 0.
    """

    onnx: Path
    runtime: str
    version: str
    device: str = ""
    batch: int = 1
    image_size: OptionalSizeField = OptionalSizeField()
    number: int = 0

    @property
    def key(self) -> str:
        """64 hex digits of the SHA-256 of all that the plan depends on.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            content = hashlib.sha256(self.onnx.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"cannot read {self.onnx}: {error.strerror}") from None
        size = None if self.image_size is None else self.image_size.value
        parts = [content, self.runtime, self.version, self.device, self.batch, size, self.number]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class EngineCache:
    """A folder of plans, limited in size.

    A plan is built if it is missing or damaged, or if a ``fresh`` one is requested. A build holds ``lock``: TensorRT
    times kernels on the GPU, so a build and a measurement would disturb each other. TensorRT-RTX needs no GPU, and no
    lock ("").
    """

    folder: Path = field(default_factory=lambda: cache_dir() / "engines")
    limit_bytes: int = LIMIT_BYTES

    def obtain(self, job: EngineJob, fresh: bool = False, lock: str = "") -> Engine:
        """Return the kept engine of a job, else build one in a process of its own.

        Raises:
            InputError: The model cannot be compiled, or the engine cannot be written.
        """
        path = self.folder / f"{job.key}.plan"
        origin = "built"
        if not fresh and path.is_file():
            try:
                report = Plan.from_bytes(path.read_bytes()).report
                os.utime(path)
                return Engine(path, report, "kept")
            except InputError:
                origin = "rebuilt, the kept one was damaged"
        self.folder.mkdir(parents=True, exist_ok=True)
        _drop_kernels(path)
        report = _build(job, path, self._timings(job), lock)
        self._prune(path)
        return Engine(path, report, origin)

    def obtain_all(
        self, jobs: Sequence[EngineJob], processes: int, fresh: bool = False, lock: str = ""
    ) -> list[Engine]:
        """Return the engines of several jobs, ``processes`` built concurrently.

        Raises:
            InputError: A model cannot be compiled, or an engine cannot be written. The first such error is raised after
                all jobs have ended.
        """
        with ThreadPoolExecutor(max(1, processes)) as pool:
            waiting = [pool.submit(self.obtain, job, fresh, lock) for job in jobs]
        return [done.result() for done in waiting]

    def _timings(self, job: EngineJob) -> Path:
        """Return the timing cache of all builds of a version on a GPU; with it builds take a tenth of the time."""
        name = hashlib.sha256(json.dumps([job.runtime, job.version, job.device]).encode()).hexdigest()[:16]
        return self.folder / f"timings-{name}.bin"

    def _prune(self, spared: Path) -> None:
        """Remove the plans unused for longest until the folder is within its limit."""
        files = []
        for path in self.folder.glob("*.plan"):
            try:
                files.append((path.stat().st_mtime, path.stat().st_size, path))
            except OSError:
                continue  # another process removed it
        size = sum(entry[1] for entry in files)
        for _, bytes_, path in sorted(files):
            if size <= self.limit_bytes:
                return
            if path != spared:
                path.unlink(missing_ok=True)
                _drop_kernels(path)
                size -= bytes_


def _drop_kernels(plan: Path) -> None:
    """Remove the compiled kernels of a plan that is replaced or removed."""
    for path in plan.parent.glob(f"{plan.stem}.*.kernels"):
        path.unlink(missing_ok=True)


def _build(job: EngineJob, path: Path, timings: Path, lock: str) -> PlanReport:
    request = {
        "runtime": job.runtime,
        "batch": job.batch,
        "image_size": None if job.image_size is None else job.image_size.value,
        "out": str(path),
        "timings": str(timings),
        "lock": lock,
        "cpus": [],
    }
    with TimingClient(BUILDER, BUILD_TIMEOUT_S) as client:
        return PlanReport(**client.load(job.onnx, request))


def builder(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Compile ``request["model"]`` to the file ``out``; an engine of the timing server.

    Its description is the report of the plan.

    Raises:
        InputError: The model cannot be compiled, or the plan cannot be written.
    """
    from contextlib import nullcontext

    out, timings = Path(request["out"]), Path(request["timings"])
    with exclusive(request["lock"]) if request["lock"] else nullcontext():
        plan, timed = compile_plan(
            Path(request["model"]), request["runtime"], request["batch"], request["image_size"], read_checked(timings)
        )
        if timed is not None:
            save_checked(timings, timed)
    _replace(out, plan.to_bytes())
    return (lambda: None), asdict(plan.report)


def save_checked(path: Path, content: bytes) -> None:
    """Write a file for :func:`read_checked`. Raises InputError if it cannot be written."""
    _replace(path, hashlib.sha256(content).digest() + content)


def read_checked(path: Path) -> bytes | None:
    """Return a file's content after its 32-byte SHA-256; None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _replace(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="free some space, or set XDG_CACHE_HOME to another folder"
        ) from None
