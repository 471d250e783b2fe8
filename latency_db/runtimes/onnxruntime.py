"""ONNX Runtime: ``onnxruntime`` on the CPU or with the CUDA provider, ``onnxruntime-tensorrt`` with the TensorRT
provider.

The library is imported in the timing server, and where a model's accuracy is measured. Not run on a GPU so far.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_db.conversion.onnx_file import input_shape, naming_nodes, random_input
from latency_db.conversion.precision import converted
from latency_db.core.cpu import cache_dir
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.gpu.cuda import device_index, no_driver
from latency_db.gpu.gpu_timer import GpuTimer, with_gpu
from latency_db.timing.cpu_timer import CpuTimer
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

# Distributions with the same module; the first one that is installed gives the version.
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        name: ONNX Runtime's name.
        engine: The function of this module that is its engine.
        precisions: Precisions that it computes in without casts to another.
        int8: Its quantization scheme; None if it has no int8.
        install: What to install.
    """

    name: str
    engine: str
    precisions: tuple[str, ...]
    int8: QuantizationScheme | None
    install: str


CPU_ENTRIES = {
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    "session.set_denormal_as_zero": "1",
}
GPU_WHEEL = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"  # both bring the same module
# Only unsigned activations with Q/DQ nodes after every operator are fast: 1.5 times as fast as fp32, where TensorRT's
# scheme is slower than fp32.
_FULL = QuantizationScheme("u8", symmetric=False, op_types=(), bias=True, outputs=True, last_convs=False)
CPU = Provider(
    "CPUExecutionProvider", "engine", ("fp32", "int8"), _FULL, "pip install onnxruntime"
)  # fp16 would be computed in fp32, between casts
CUDA = Provider(
    "CUDAExecutionProvider", "cuda_engine", ("fp32", "fp16"), None, GPU_WHEEL
)  # its convolutions have no int8
TENSORRT = Provider(
    "TensorrtExecutionProvider",
    "tensorrt_engine",
    ("fp32", "fp16", "int8"),
    QuantizationScheme("s8"),
    f"{GPU_WHEEL} tensorrt",
)


class _OnnxRuntime(Profiler):
    """Common part of both runtimes: the CPU protocol, or the GPU protocol with inputs and outputs in device memory."""

    precisions = ("fp32", "fp16", "int8")

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        self._provider = provider = self._provider_of(target)
        if target.precision not in provider.precisions:
            raise InputError(
                f"{target}: ONNX Runtime's {provider.name} does not compute in {target.precision}",
                " or ".join(provider.precisions),
            )
        if provider is not CPU and (reason := no_driver()):
            raise InputError(f"{target}: {reason}", "a machine with an NVIDIA GPU")
        self._timer = (CpuTimer if provider is CPU else GpuTimer)(f"{__name__}:{provider.engine}", target, protocol)

    @classmethod
    @abstractmethod
    def _provider_of(cls, target: Target) -> Provider:
        """Return the provider of the target's device. Raises InputError for an unknown device."""

    @classmethod
    def available(cls) -> str | None:
        """Return None if ONNX Runtime is installed, else what to install."""
        return None if find_spec("onnxruntime") else "onnxruntime not installed; pip install onnxruntime"

    @classmethod
    def version(cls) -> str:
        """Return the version of the installed distribution, ``unknown`` if it has no metadata."""
        for package in PACKAGES:
            try:
                return package_version(package)
            except PackageNotFoundError:
                continue
        return "unknown"

    def fingerprint(self) -> DeviceFingerprint:
        """Return this machine, with its GPU and driver unless the target is the CPU."""
        machine = super().fingerprint()
        return machine if self._provider is CPU else with_gpu(machine, self.target.device)

    @classmethod
    def quantization_scheme(cls, target: Target, device: DeviceFingerprint | None = None) -> QuantizationScheme | None:
        """Return the scheme of the target's provider; None if it has no int8.

        On a CPU the weight bits are those of ``device``, by default of this machine.
        """
        provider = cls._provider_of(target)
        if provider.int8 is None or provider is not CPU:
            return provider.int8
        return provider.int8.on(device or DeviceFingerprint.read())

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession | None:
        """Return a function of images (batch, 3, H, W) that gives the model's outputs; None unless on the CPU.

        Raises:
            InputError: ONNX Runtime cannot load the model.
        """
        if cls._provider_of(target) is not CPU:
            return None
        session, _ = _session({"model": str(model), "threads": target.threads}, CPU, {}, CPU_ENTRIES)
        (name,) = (item.name for item in session.get_inputs())
        return lambda images: session.run(None, {name: images})

    def measure(self, workload: Workload) -> Measurement:
        """Measure the model, converted to the target's precision, with the CPU or the GPU protocol.

        Raises:
            InputError: The model cannot be converted or loaded.
            RuntimeFailure: A run failed.
        """
        with converted(workload, self.target.precision, self.quantization_scheme(self.target)) as ready:
            return self._timer.measure(ready, self.version(), self.fingerprint())

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._timer.close()


class OnnxRuntime(_OnnxRuntime):
    """Measures ONNX files with ONNX Runtime's own kernels, for the CPU or CUDA."""

    runtime = "onnxruntime"

    @classmethod
    def _provider_of(cls, target: Target) -> Provider:
        if target.device == "cpu":
            return CPU
        if not target.device.startswith("cuda"):
            raise InputError(f"device {target.device} of {target}", "cpu or cuda:0")
        device_index(target.device)
        return CUDA


class OnnxRuntimeTensorrt(_OnnxRuntime):
    """Measures ONNX files with ONNX Runtime's TensorRT provider, which may split a network, unlike TensorRT itself."""

    runtime = "onnxruntime-tensorrt"
    default_device = "cuda:0"

    @classmethod
    def _provider_of(cls, target: Target) -> Provider:
        device_index(target.device)
        return TENSORRT

    @classmethod
    def available(cls) -> str | None:
        """Return None if ONNX Runtime and an NVIDIA driver are installed, else what is missing."""
        return super().available() or no_driver()


def prepare() -> None:
    """Import what the engines need."""
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Load ``request["model"]`` on the CPU; return a function that runs it once on random input, and the settings.

    All optimisations are on, because the NCHWc layout is only in ALL (20.7 ms against 25.8 ms with EXTENDED). Spinning
    is off, since it would take the CPU from others. Denormals are zero, because activations of networks with random
    weights vanish, and the time of slow denormals is not that of the trained network.

    Raises:
        InputError: ONNX Runtime refuses the model, or its inputs do not fit the request.
    """
    session, feeds, info = cpu_session(request)
    info["inputs"] = {name: list(value.shape) for name, value in feeds.items()}
    return lambda: session.run(None, feeds), info


def cpu_session(
    request: Mapping[str, Any], profile: str | None = None
) -> tuple[Any, dict[str, npt.NDArray[np.generic]], dict[str, Any]]:
    """Load ``request["model"]`` on the CPU as :func:`engine` does; return the session, random inputs (each with the
    shape of the model's input) and the settings.

    ``profile``: prefix of the file that ONNX Runtime writes the times of its operations to; None without.

    Raises:
        InputError: ONNX Runtime refuses the model, or its inputs do not fit the request.
    """
    session, info = _session(request, CPU, {}, CPU_ENTRIES, profile)
    return session, _feeds(session.get_inputs(), request), info


def cuda_engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Load a model with the CUDA provider. fp32 allows TF32, the default of NVIDIA's libraries; settings record it.

    Raises:
        InputError: The provider is missing or refuses the model, or its inputs do not fit the request.
    """
    return _on_gpu(request, CUDA, {"enable_cuda_graph": "1", "use_tf32": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"})


def tensorrt_engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Load a model with the TensorRT provider, whose timings of kernels are cached on disk.

    Raises:
        InputError: The provider is missing or refuses the model, or its inputs do not fit the request.
    """
    cache = cache_dir() / "onnxruntime-tensorrt"
    cache.mkdir(exist_ok=True)
    flags = {f"trt_{precision}_enable": str(int(request["precision"] == precision)) for precision in ("fp16", "int8")}
    options = {
        "trt_cuda_graph_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        **flags,
    }
    return _on_gpu(request, TENSORRT, options)


def _on_gpu(
    request: Mapping[str, Any], provider: Provider, options: Mapping[str, str]
) -> tuple[Callable[[], object], dict[str, Any]]:
    """Load ``request["model"]`` as one CUDA graph on the protocol's stream, with inputs and outputs in device memory.

    A graph can only be captured if every node runs on the GPU. ONNX Runtime refuses otherwise, so that nothing falls
    back to the CPU silently.
    """
    import onnxruntime as ort

    from latency_db.gpu.protocol import DeviceRun, serve
    from latency_db.gpu.providers import open_cuda

    index, cuda = device_index(request["device"]), open_cuda(request["device"])
    session, info = _session(
        request, provider, {"device_id": str(index), "user_compute_stream": str(cuda.stream), **options}, {}
    )
    feeds = _feeds(session.get_inputs(), request)
    eager, bound = ort.RunOptions(), ort.RunOptions()
    eager.add_run_config_entry(
        "gpu_graph_id", "-1"
    )  # not this run: it is for the outputs' shapes, and its memory is its own
    bound.add_run_config_entry("disable_synchronize_execution_providers", "1")
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feeds, eager), strict=True))
    binding = session.io_binding()
    for arrays, bind in ((feeds, binding.bind_input), (outputs, binding.bind_output)):
        for name, array in arrays.items():
            address = cuda.alloc(array.nbytes)
            cuda.upload(address, array)
            bind(name, "cuda", index, array.dtype, list(array.shape), address)
    for _ in range(3):  # the second captures
        session.run_with_iobinding(binding, bound)
    cuda.synchronize()
    info |= {"cuda_graph": True, "inputs": {name: list(value.shape) for name, value in feeds.items()}}
    return serve(DeviceRun(cuda, lambda: session.run_with_iobinding(binding, bound), info))


def _session(
    request: Mapping[str, Any],
    provider: Provider,
    options: Mapping[str, str],
    entries: Mapping[str, str],
    profile: str | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Return a session on ``provider`` alone, and its settings; ``profile`` is the prefix of a profile's file."""
    import onnxruntime as ort

    if provider.name not in (there := ort.get_available_providers()):
        raise InputError(f"this ONNX Runtime has no {provider.name}", f"one of {', '.join(there)}", provider.install)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = request["threads"]
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 3
    for name, value in entries.items():
        settings.add_session_config_entry(name, value)
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, profile
    with naming_nodes(request["model"]):
        session = ort.InferenceSession(request["model"], settings, providers=[(provider.name, dict(options))])
    if (
        session.get_providers()[0] != provider.name
    ):  # it only warns when a provider's own libraries are missing, and takes the CPU
        raise InputError(
            f"ONNX Runtime took {session.get_providers()[0]}",
            provider.name,
            "its log says which of the provider's libraries is missing",
        )
    info = {
        "providers": session.get_providers(),
        "intra_op_threads": request["threads"],
        "inter_op_threads": 1,
        "execution": "sequential",
        "optimisation": "all",
        **entries,
        **{
            name: value
            for name, value in options.items()
            if name not in ("user_compute_stream", "trt_timing_cache_path")
        },
    }
    return session, info


def _feeds(inputs: Any, request: Mapping[str, Any]) -> dict[str, npt.NDArray[np.generic]]:
    """Return a random array for each input of a session, by the request's seed."""
    import numpy as np

    rng = np.random.default_rng(request["seed"])
    kinds = {
        "tensor(float)": "float32",
        "tensor(float16)": "float16",
        "tensor(double)": "float64",
        "tensor(uint8)": "uint8",
    }
    shapes = {item.name: input_shape(item.name, item.shape, request["batch"], request["image_size"]) for item in inputs}
    if odd := [f"{item.name!r} of type {item.type}" for item in inputs if item.type not in kinds]:
        raise InputError(f"input {odd[0]}", f"one of {', '.join(kinds)}")
    return {item.name: random_input(item.name, kinds[item.type], shapes[item.name], rng) for item in inputs}
