"""ONNX Runtime on the CPU, fp32. The library itself is imported by :func:`engine` alone, in the measuring process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from typing import Any

from latency_db.bench import CpuBench
from latency_db.measurement import Measurement
from latency_db.profiler import SEARCHING, Profiler, Protocol, Workload
from latency_db.target import Target
from search_spaces.errors import InputError

# Distributions that bring the same module; the first one installed names the version.
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")


class OnnxRuntime(Profiler):
    """Times ONNX files with ONNX Runtime's CPU provider, by the CPU protocol."""

    runtime = "onnxruntime"
    precisions = ("fp32",)

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        if target.device != "cpu":
            raise InputError(f"device {target.device} of {target}", "cpu", "other devices of onnxruntime are not there yet")
        self._bench = CpuBench("latency_db.runtimes.onnxruntime:engine", target, protocol)

    @classmethod
    def available(cls) -> str | None:
        missing = [name for name in ("onnxruntime", "onnx") if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}" if missing else None

    @classmethod
    def version(cls) -> str:
        for package in PACKAGES:
            try:
                return package_version(package)
            except PackageNotFoundError:
                continue
        return "unknown"

    def measure(self, workload: Workload) -> Measurement:
        return self._bench.measure(workload, self.version(), self.fingerprint())

    def close(self) -> None:
        self._bench.close()


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Loads ``request["model"]``: a function that runs it once on normally distributed input, and its settings.

    All optimisations, because the NCHWc layout is only in ALL (20.7 ms against 25.8 with EXTENDED); no spinning, which would take the CPU from
    others; denormals are zero, because activations of networks with fresh weights vanish, and where denormals are slow that time says nothing of
    the trained network.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    entries = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0", "session.set_denormal_as_zero": "1"}
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    feeds = _feeds(session.get_inputs(), request)
    info = {
        "providers": session.get_providers(),
        "intra_op_threads": request["threads"],
        "inter_op_threads": 1,
        "execution": "sequential",
        "optimisation": "all",
        **entries,
        "inputs": {name: list(value.shape) for name, value in feeds.items()},
    }
    return lambda: session.run(None, feeds), info


def _feeds(inputs: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """An array for each input of a session, drawn by the seed."""
    import numpy as np

    rng = np.random.default_rng(request["seed"])
    feeds = {}
    for item in inputs:
        shape = input_shape(item.name, item.shape, request["batch"], request["image_size"])
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
        if item.type not in kinds:
            raise InputError(f"input {item.name!r} of type {item.type}", f"one of {', '.join(kinds)}")
        dtype = kinds[item.type]
        feeds[item.name] = rng.integers(0, 256, shape, dtype) if dtype is np.uint8 else rng.standard_normal(shape).astype(dtype)
    return feeds


def input_shape(name: str, dims: Sequence[int | str | None], batch: int, image_size: int | None) -> list[int]:
    """The shape to feed: a free first dimension takes the batch, a free height or width of a 4-D input the image size (pixels).

    A dimension that is fixed to something else, or free with nothing to set it, is an error: another network would be timed than was asked for.
    """
    wanted: list[int | None] = [batch] + [None] * (len(dims) - 1)
    if len(dims) == 4:
        wanted[2:] = [image_size, image_size]
    shape = []
    for i, (dim, want) in enumerate(zip(dims, wanted, strict=False)):
        if isinstance(dim, int) and want is not None and dim != want:
            raise InputError(f"input {name!r} has dimension {i} fixed to {dim}", f"{want} or a free dimension", "export it for this target")
        size = dim if isinstance(dim, int) else want
        if size is None:
            raise InputError(f"input {name!r} has the free dimension {i} ({dim})", "a fixed one", "give the image size in the target: …@640")
        shape.append(size)
    return shape
