"""PyTorch: ``torch`` runs the network operator by operator, ``torch-compile`` through ``torch.compile``.

A network runs on the CPU, or on ``cuda:0`` as one CUDA graph. It is built from its architecture in the timing server,
the only place where torch is imported. On a GPU
``torch`` was run (fp16, an NVIDIA H100: results/bench_torch-fp16.json); ``torch-compile`` was not.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from latency_db.core.device import DeviceFingerprint, unsupported_precision
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Network, Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.gpu.cuda import device_index, no_driver
from latency_db.gpu.gpu_timer import GpuTimer, with_gpu
from latency_db.timing.cpu_timer import CpuTimer
from search_spaces.errors import InputError

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
COMPILE_S = 1800.0
"""Seconds to load: a C++ compiler runs for every fused kernel, a minute in all for the smallest yolo-nano on one core.
torch caches the results on disk."""


class _Torch(Profiler):
    """Common part of both runtimes; ``engine`` is the function of this module for the CPU, ``gpu_…`` for a GPU."""

    precisions = ("fp32", "bf16", "fp16")
    reads_onnx = False
    engine: ClassVar[str]

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        if target.device == "cpu":
            if target.precision == "fp16":
                raise InputError(f"{target}: torch has few fp16 kernels for CPUs", "fp32, bf16, or fp16 on cuda:0")
            if reason := unsupported_precision(target.precision, super().fingerprint()):
                raise InputError(f"{target}: {reason}", "fp32")
            self._timer: CpuTimer | GpuTimer = CpuTimer(f"{__name__}:{self.engine}", target, protocol, COMPILE_S)
            return
        if not target.device.startswith("cuda"):
            raise InputError(f"device {target.device} of {target}", "cpu or cuda:0")
        device_index(target.device)
        if reason := no_driver():
            raise InputError(f"{target}: {reason}", "a machine with an NVIDIA GPU")
        self._timer = GpuTimer(f"{__name__}:gpu_{self.engine}", target, protocol)

    @classmethod
    def available(cls) -> str | None:
        """Return None if torch is installed, else what to install."""
        return None if find_spec("torch") else "torch not installed; pip install torch"

    @classmethod
    def version(cls) -> str:
        """Return torch's version, ``unknown`` if it has no metadata."""
        try:
            return package_version("torch")
        except PackageNotFoundError:
            return "unknown"

    def fingerprint(self) -> DeviceFingerprint:
        """Return this machine, with its GPU and driver unless the target is the CPU."""
        machine = super().fingerprint()
        return machine if self.target.device == "cpu" else with_gpu(machine, self.target.device)

    def measure(self, workload: Workload) -> Measurement:
        """Measure a network of a search space with random weights, by the CPU or the GPU protocol.

        Raises:
            InputError: The workload is an ONNX file, or its image size is not that of the target.
            RuntimeFailure: A run failed.
        """
        network = workload.network
        if network is None:
            hint = "give the architecture file (S.json): torch runs the network itself, not ONNX"
            raise InputError(f"{workload.key} on {self.runtime}", "a network of a search space", hint)
        if self.target.image_size not in (None, network.image_size):
            raise InputError(f"{workload.key} on {self.target}", f"an image size of {network.image_size}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.json"
            file.write_text(json.dumps(network.to_dict()))
            return self._timer.measure(replace(workload, onnx=file), self.version(), self.fingerprint())

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._timer.close()


class Torch(_Torch):
    """Measures a network of a search space as torch runs it, operator by operator."""

    runtime = "torch"
    engine = "eager_engine"


class TorchCompile(_Torch):
    """Measures a network of a search space compiled by ``torch.compile`` with default settings, for one shape."""

    runtime = "torch-compile"
    engine = "compiled_engine"

    @classmethod
    def available(cls) -> str | None:
        """Return None if torch, a C++ compiler and Python's headers are there, else what to install."""
        if reason := super().available():
            return reason
        compiler = os.environ.get("CXX") or "g++"
        if sys.platform == "linux" and not shutil.which(compiler):
            return (
                f"torch.compile needs a C++ compiler and there is no {compiler}; "
                "install one (Debian: apt install g++), or name it in CXX"
            )
        if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
            return (
                "torch.compile needs Python's headers and there is no Python.h; "
                "install them (Debian: apt install python3-dev)"
            )
        return None


def prepare() -> None:
    """Import torch and what a network is built of."""
    import_module("search_spaces.spaces")


Engine = tuple[Callable[[], object], dict[str, Any]]
Transform = Callable[[Any], Any]


def eager_engine(request: Mapping[str, Any]) -> Engine:
    """Load a network on the CPU, not compiled."""
    return _on_cpu(request, lambda predict: predict)


def compiled_engine(request: Mapping[str, Any]) -> Engine:
    """Load a network on the CPU, compiled."""
    return _on_cpu(request, _compiled)


def gpu_eager_engine(request: Mapping[str, Any]) -> Engine:
    """Load a network on a GPU, as one CUDA graph of its operators."""
    return _on_gpu(request, lambda predict: predict)


def gpu_compiled_engine(request: Mapping[str, Any]) -> Engine:
    """Load a network on a GPU, as one CUDA graph of the compiled network."""
    return _on_gpu(request, _compiled)


def _compiled(predict: Any) -> Any:
    """Compile a whole network; a part that cannot be compiled is an error, since it would run slower silently."""
    import torch

    return torch.compile(predict, dynamic=False, fullgraph=True)


def _on_cpu(request: Mapping[str, Any], transform: Transform) -> Engine:
    """Load a network on the CPU; denormals are zero, as in :func:`latency_db.runtimes.onnxruntime.engine`."""
    os.environ.setdefault(
        "TORCHINDUCTOR_COMPILE_THREADS", "1"
    )  # threads of the compiler would outlive compiling, and share the CPU
    import torch

    torch.set_num_threads(request["threads"])
    torch.set_num_interop_threads(1)
    torch.set_flush_denormal(True)
    step, info = _step(request, "cpu", transform)
    step()
    return step, {
        **info,
        "threads": torch.get_num_threads(),
        "flush_denormal": True,
        "onednn": torch.backends.mkldnn.is_available(),
    }


def _on_gpu(request: Mapping[str, Any], transform: Transform) -> Engine:
    from latency_db.gpu.cuda import OutOfDeviceMemory
    from latency_db.gpu.protocol import DeviceRun, serve
    from latency_db.gpu.providers import TorchCuda, open_cuda

    cuda = open_cuda(request["device"], {"torch": TorchCuda})
    import torch

    try:
        step, info = _step(request, f"cuda:{device_index(request['device'])}", transform)
        for _ in range(3):  # libraries choose their kernels, the compiler compiles
            step()
        cuda.synchronize()
        enqueue = cuda.capture(step)
    except torch.OutOfMemoryError:
        raise OutOfDeviceMemory(f"for a network at batch {request['batch']}") from None
    settings = {"cuda_graph": True, "tf32": torch.backends.cudnn.allow_tf32, "cudnn": torch.backends.cudnn.version()}
    return serve(DeviceRun(cuda, enqueue, {**info, **settings}))


def _step(request: Mapping[str, Any], device: str, transform: Transform) -> Engine:
    """Return a function that runs the request's network once on random images, and its description."""
    import torch

    precision = request["precision"]
    layout = torch.contiguous_format if device == "cpu" else torch.channels_last
    torch.manual_seed(request["seed"])
    file = Path(request["model"])
    is_reference = file.suffix == ".onnx"
    module, call, shape = _reference_model(file) if is_reference else _detector(file)
    module.to(device=device, dtype=getattr(torch, DTYPES[precision]), memory_format=layout)
    images = torch.randn(request["batch"], *shape).to(
        device=device, dtype=getattr(torch, DTYPES[precision]), memory_format=layout
    )
    predict = call if is_reference else transform(call)

    def step() -> object:
        with torch.inference_mode():
            return predict(images)

    return step, {"dtype": DTYPES[precision], "layout": str(layout).removeprefix("torch."), "input": list(images.shape)}


def _detector(file: Path) -> tuple[Any, Any, tuple[int, ...]]:
    """Return the deployed network of a :class:`Network`'s JSON with random weights, its function, and the image
    shape."""
    from search_spaces.spaces import space_of

    network = Network.from_dict(json.loads(file.read_text()))
    detector = space_of(network.architecture).build(network.architecture, network.classes).deploy()
    return detector, detector.predict, (3, *network.image_size)


def _reference_model(file: Path) -> tuple[Any, Any, tuple[int, ...]]:
    """Return the reference model, a chain of convolutions with ReLU, from its ONNX file."""
    import onnx
    import torch

    graph = onnx.load(str(file)).graph
    weights = [torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer]
    layers: list[torch.nn.Module] = []
    for weight in weights:
        conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding="same", bias=False)
        conv.weight = torch.nn.Parameter(weight)
        layers += [conv, torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers).eval()
    return module, module, tuple(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:])
