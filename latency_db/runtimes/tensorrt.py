"""TensorRT 10 and 11, and TensorRT-RTX, on NVIDIA GPUs (docs/tensorrt.md).

Their latencies are not comparable: TensorRT chooses kernels by timing them on the GPU, TensorRT-RTX compiles them when
a plan is loaded. So they are two runtimes. The library is imported in the processes that build and run.

TensorRT-RTX 1.6.1 was run on a GPU (fp16, an NVIDIA H100:
results/bench_tensorrt-rtx-fp16.json); TensorRT and int8 were not.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latency_db.conversion.onnx_file import random_input
from latency_db.conversion.precision import converted
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, RuntimeFailure, Workload, file_hash
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.engines.engine_cache import Engine, EngineCache, EngineJob, read_checked, save_checked
from latency_db.engines.plans import Log, Plan, compile_plan, installed, library_version, load_library
from latency_db.gpu.cuda import Cuda, CudaDevice, OutOfDeviceMemory, device_index, no_driver
from latency_db.gpu.gpu_timer import GpuTimer, Ready, lock_name, probe, with_gpu
from latency_db.gpu.protocol import DeviceRun, GpuProtocol, TimedDeviceRun, serve
from latency_db.gpu.providers import PROVIDERS, is_installed, open_cuda
from latency_db.timing.reference_model import GPU_REFERENCE, reference_model_file
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

INT8 = QuantizationScheme("s8", rest="fp16")
"""The scheme of TensorRT's parser: symmetric signed activations per tensor, weights per channel, convolutions only;
the rest of the network is fp16."""


PLAN = "model.plan"
"""Name of the deployed file: the engine as the library deserializes it."""


class _TensorRt(Profiler):
    """Measures plans by the GPU protocol; ``gpu`` is a protocol of its own (paced regime, cold L2 cache)."""

    precisions = ("fp32", "fp16", "int8")
    default_device = "cuda:0"
    deployed_as = PLAN
    builds_on_gpu: ClassVar[bool]

    def __init__(self, target: Target, protocol: Protocol = SEARCHING, gpu: GpuProtocol | None = None) -> None:
        super().__init__(target, protocol)
        device_index(target.device)
        self._protocol = gpu or GpuProtocol.of(protocol)
        self._engines = EngineCache()
        self._timer = GpuTimer(f"{__name__}:engine", target, self._protocol, self._reference)

    @classmethod
    def available(cls) -> str | None:
        """Return None if the library and an NVIDIA driver are installed, else what is missing."""
        return installed(cls.runtime) or no_driver()

    @classmethod
    def version(cls) -> str:
        """Return the version of the installed library, ``unknown`` if it has no metadata."""
        return library_version(cls.runtime)

    @classmethod
    def quantization_scheme(cls, target: Target, device: DeviceFingerprint | None = None) -> QuantizationScheme:
        """Return :data:`INT8`, on every device."""
        return INT8

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Compile an ONNX file to ``model.plan``; TensorRT needs its GPU for that, TensorRT-RTX does not.

        Raises:
            InputError: The library is missing, or cannot compile the model.
            OutOfDeviceMemory: The GPU has too little memory to compile.
        """
        with converted(Workload("", model), target.precision, INT8) as ready:
            plan, _ = compile_plan(ready.path(), cls.runtime, target.batch, target.image_size)
        (folder / PLAN).write_bytes(plan.content)

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession | None:
        """Load ``model.plan`` on the target's GPU; None where there is none.

        Raises:
            InputError: The library is missing, or there is no such device.
            RuntimeFailure: The plan does not load on the device, or a run is refused.
        """
        if no_driver():
            return None
        library, cuda = load_library(cls.runtime), open_cuda(target.device)
        return plan_session(library, cuda, (folder / PLAN).read_bytes(), outputs)

    def fingerprint(self) -> DeviceFingerprint:
        """Return this machine with its GPU and driver."""
        return with_gpu(super().fingerprint(), self.target.device)

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """Return the database key; a regime other than the default is part of the version."""
        key = super().key(workload, beside)
        default = self._protocol.regime == GpuProtocol().regime
        return key if default else replace(key, version=f"{key.version}, {self._protocol.regime}")

    def measure(self, workload: Workload) -> Measurement:
        """Build the model's engines, converted to the target's precision, and measure them with the GPU protocol.

        Raises:
            InputError: The model cannot be converted or compiled.
            RuntimeFailure: A run failed, or the GPU has too little memory.
        """
        with converted(workload, self.target.precision, INT8) as ready:
            model = ready.path()
            engines = self._build(model)
            notes = {"onnx_sha256": file_hash(model)}
            builds = [self._ready(engine) for engine in engines]
            return self._timer.measure_builds(workload, builds, self.version(), self.fingerprint(), notes)

    def prepare(self, models: list[Path]) -> list[Engine]:
        """Build engines of ONNX files ahead of their measurement, concurrently if that needs no GPU."""
        return self._engines.obtain_all([self._job(model) for model in models], self._processes, lock=self._lock)

    def _build(self, model: Path) -> list[Engine]:
        """Return the cached engine; for several rebuilds as many new ones."""
        jobs = [replace(self._job(model), number=i) for i in range(self._protocol.rebuilds)]
        return self._engines.obtain_all(jobs, self._processes, fresh=len(jobs) > 1, lock=self._lock)

    def _job(self, model: Path) -> EngineJob:
        gpu = probe(self.target.device)
        device = f"{gpu.name}, {gpu.driver}" if self.builds_on_gpu else ""
        return EngineJob(model, self.runtime, self.version(), device, self.target.batch, self.target.image_size)

    def _reference(self) -> Ready:
        job = replace(self._job(reference_model_file(GPU_REFERENCE)), batch=1, image_size=None)
        return self._ready(self._engines.obtain(job))

    def _ready(self, engine: Engine) -> Ready:
        record = {
            "path": engine.path.name,
            "sha256": file_hash(engine.path),
            "origin": engine.origin,
            **asdict(engine.report),
        }
        return Ready(engine.path, {"runtime": self.runtime}, {"engine": record})

    @property
    def _lock(self) -> str:
        return lock_name(self.target.device) if self.builds_on_gpu else ""

    @property
    def _processes(self) -> int:
        return 1 if self.builds_on_gpu else os.cpu_count() or 1

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._timer.close()


class TensorRt(_TensorRt):
    """TensorRT 10 or 11. A build times kernels and so holds the GPU's lock."""

    runtime = "tensorrt"
    builds_on_gpu = True


class TensorRtRtx(_TensorRt):
    """TensorRT-RTX. Plans are built without a GPU and run on all that it supports."""

    runtime = "tensorrt-rtx"
    builds_on_gpu = False

    @classmethod
    def compile_ahead(cls, target: Target, model: Path) -> Mapping[str, Any] | None:
        """Return the report of compiling a model without a GPU; None if TensorRT-RTX is not installed.

        Raises:
            InputError: TensorRT-RTX cannot compile the model.
        """
        return (
            None
            if installed(cls.runtime)
            else asdict(compile_plan(model, cls.runtime, target.batch, target.image_size)[0].report)
        )


def prepare() -> None:
    """Import the library that reaches CUDA, often torch, which takes seconds."""
    import_module(next(filter(is_installed, PROVIDERS)))


def engine(request: Mapping[str, Any]) -> tuple[TimedDeviceRun, dict[str, Any]]:
    """Load the plan ``request["model"]`` on the device, with random input.

    Raises:
        InputError: The plan is damaged, the library is missing, or there is no such device.
        RuntimeFailure: The plan does not load on the device, or a run is refused.
    """
    path = Path(request["model"])
    plan = Plan.from_bytes(path.read_bytes())
    cuda = open_cuda(request["device"])  # first: what TensorRT allocates is to be in this library's context
    return serve(
        device_run(
            load_library(request["runtime"]), cuda, plan.content, request["seed"], kernels_file(path, cuda.device)
        )
    )


def device_run(library: Any, cuda: Cuda, content: bytes, seed: int, kernels: Path | None = None) -> DeviceRun:
    """Return a plan as one launch of a CUDA graph, after two calls that warm it up.

    The graph is captured here with TensorRT, and by the library with TensorRT-RTX.

    Args:
        library: The library's module.
        cuda: The device.
        content: The engine.
        seed: Seed of the input.
        kernels: File that keeps TensorRT-RTX's compiled kernels between processes, since compiling takes seconds.

    Raises:
        RuntimeFailure: The engine does not load, or a run is refused.
    """
    start = time.monotonic()
    log = Log(library)
    runtime = library.Runtime(log.listener)
    loaded = runtime.deserialize_cuda_engine(content)
    if loaded is None:
        raise _refusal(log, f"this plan does not load on {cuda.device.name}")
    own_graph = hasattr(library, "CudaGraphStrategy")
    config = _runtime_config(library, loaded, read_checked(kernels) if kernels else None) if own_graph else None
    context = loaded.create_execution_context(config[0]) if config else loaded.create_execution_context()
    if context is None:
        raise _refusal(log, f"no execution context on {cuda.device.name}")
    inputs = _bind(library, loaded, context, cuda, seed)

    def step() -> None:
        if not context.execute_async_v3(cuda.stream):
            raise _refusal(log, "a run was refused")

    for _ in range(2):  # the first call allocates and compiles, neither of which a graph can hold
        step()
        cuda.synchronize()
    compiled = config is not None and not config[2]
    if config and compiled and kernels:
        save_checked(kernels, bytes(memoryview(config[1].serialize())))
    graphs = own_graph or cuda.graphs
    launch = step if own_graph or not cuda.graphs else cuda.capture(step)
    ready = {
        "ready_s": round(time.monotonic() - start, 3),
        **({"kernels": "compiled" if compiled else "kept"} if config else {}),
    }
    info = {
        "library": library.__name__,
        "library_version": str(library.__version__),
        "cuda_graph": graphs,
        "inputs": inputs,
        **ready,
    }
    # What the context reads must outlive it; dropping the runtime cache of TensorRT-RTX crashes the process.
    return DeviceRun(cuda, _Keeping(launch, runtime, loaded, context, config), info)


class _Keeping:
    """A function, with objects that must live as long."""

    def __init__(self, launch: Callable[[], object], *alive: object) -> None:
        self._launch = launch
        self._alive = alive

    def __call__(self) -> None:
        self._launch()


def plan_session(library: Any, cuda: Cuda, content: bytes, outputs: Sequence[str]) -> InferenceSession:
    """Return a plan as a function of images (batch, 3, H, W) that gives the outputs.

    Args:
        library: The library's module.
        cuda: The device.
        content: The engine.
        outputs: Names of the outputs, in the order in which they are returned.

    Raises:
        RuntimeFailure: The engine does not load, or a run is refused.
    """
    import numpy as np

    log = Log(library)
    runtime = library.Runtime(log.listener)
    loaded = runtime.deserialize_cuda_engine(content)
    context = None if loaded is None else loaded.create_execution_context()
    if loaded is None or context is None:
        raise _refusal(log, f"this plan does not load on {cuda.device.name}")
    given = _bind(library, loaded, context, cuda, 0)
    (name,) = given
    shapes = {o: [int(d) for d in context.get_tensor_shape(o)] for o in outputs}
    kinds = {o: np.dtype(library.nptype(loaded.get_tensor_dtype(o))) for o in (name, *outputs)}

    def run(images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        cuda.upload(context.get_tensor_address(name), np.ascontiguousarray(images, kinds[name]))
        if not context.execute_async_v3(cuda.stream):
            raise _refusal(log, "a run was refused")
        cuda.synchronize()
        found = []
        for o in outputs:
            array = np.empty(shapes[o], kinds[o])
            cuda.download(array, context.get_tensor_address(o))
            found.append(array)
        return found

    return _Session(run, runtime, loaded, context)


class _Session:
    """A function of arrays, with objects that must live as long."""

    def __init__(self, run: InferenceSession, *alive: object) -> None:
        self._run, self._alive = run, alive

    def __call__(self, images: npt.NDArray[np.float32]) -> Sequence[npt.NDArray[np.float32]]:
        return self._run(images)


def kernels_file(plan: Path, gpu: CudaDevice) -> Path:
    """Return the file of TensorRT-RTX's compiled kernels of a plan, for a GPU model and driver."""
    return plan.with_name(
        f"{plan.stem}.{hashlib.sha256(f'{gpu.name}, {gpu.driver}'.encode()).hexdigest()[:12]}.kernels"
    )


def _runtime_config(library: Any, loaded: Any, kernels: bytes | None) -> tuple[Any, Any, bool]:
    """Return TensorRT-RTX's run settings, their cache of kernels, and whether the library accepted ``kernels``."""
    config = loaded.create_runtime_config()
    cache = config.create_runtime_cache()
    kept = kernels is not None and bool(cache.deserialize(kernels))
    config.set_runtime_cache(cache)
    config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return config, cache, kept


def _bind(library: Any, loaded: Any, context: Any, cuda: Cuda, seed: int) -> dict[str, list[int]]:
    """Bind device memory to inputs (filled) and outputs; return the inputs' shapes."""
    import numpy as np

    rng = np.random.default_rng(seed)
    names = [loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)]
    given = [name for name in names if loaded.get_tensor_mode(name) == library.TensorIOMode.INPUT]
    shapes: dict[str, list[int]] = {}
    for name in given:  # all shapes first: those of the outputs follow from them
        shape = [int(d) for d in loaded.get_tensor_shape(name)]
        if min(shape, default=1) < 0:
            shape = [int(d) for d in loaded.get_tensor_profile_shape(name, 0)[1]]
            context.set_input_shape(name, shape)
        shapes[name] = shape
    for name in names:
        kind = np.dtype(library.nptype(loaded.get_tensor_dtype(name)))
        shape = [int(d) for d in context.get_tensor_shape(name)]
        if min(shape, default=1) < 0:
            raise InputError(f"output {name!r} has a shape that depends on its values: {shape}", "fixed shapes")
        address = cuda.alloc(int(np.prod(shape)) * kind.itemsize)
        if name in shapes:
            cuda.upload(address, random_input(name, kind, shape, rng))
        context.set_tensor_address(name, address)
    return shapes


def _refusal(log: Log, what: str) -> RuntimeFailure:
    errors = log.errors()
    if any(words in errors.lower() for words in ("out of memory", "outofmemory", "memoryallocation")):
        return OutOfDeviceMemory(errors)
    return RuntimeFailure(f"{what}: {errors or 'the library does not say why'}")
