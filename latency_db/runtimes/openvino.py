"""OpenVINO: Intel's CPU, GPU and NPU, and CPUs of other makers.

The precision is always set, and then checked in the compiled model: OpenVINO chooses bf16 by itself if the CPU has it,
and fp32 silently if it cannot follow a hint. GPU and NPU are timed by the host's clock around a whole inference; they
were not run so far.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_db.conversion.onnx_file import input_shape, naming_nodes, random_input
from latency_db.conversion.precision import converted
from latency_db.core.cpu import cache_dir
from latency_db.core.device import DeviceFingerprint, unsupported_precision
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.timing.cpu_timer import CpuTimer
from latency_db.timing.timing_client import TimingClient
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

# TensorRT's placement, but unsigned activations: signed ones are silently miscomputed through a split and a
# concatenation (2024.6 to 2026.4.1). Asymmetric, so that the zero point after a ReLU is 0: one in the middle costs each
# convolution a correction, and half of the range is unused.
INT8 = QuantizationScheme("u8", symmetric=False)
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
"""Inference precision hints. The rest of an int8 graph runs in fp32."""
COMPUTED = {"fp32": ("f32",), "fp16": ("f16",), "bf16": ("bf16",), "int8": ("u8", "i8")}
"""Names of each precision in a compiled model."""
INSTRUCTIONS = "ONEDNN_MAX_CPU_ISA"
"""The variable that limits the instruction sets of oneDNN, OpenVINO's library of kernels, read when it is loaded."""
FILE = "model.xml"
"""Name of the deployed file; its weights are in ``model.bin``."""
DEVICE = re.compile(r"CPU|NPU|GPU(\.\d+)?")


class OpenVino(Profiler):
    """Measures ONNX files with OpenVINO, one stream, by the CPU protocol.

    fp32, fp16 and bf16 are hints to OpenVINO; int8 is in the graph.
    """

    runtime = "openvino"
    precisions = ("fp32", "fp16", "bf16", "int8")
    default_device = "CPU"
    deployed_as = FILE

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        if not DEVICE.fullmatch(target.device):
            raise InputError(f"device {target.device} of {target}", "CPU, GPU, GPU.1 or NPU")
        if target.device == "CPU" and (reason := unsupported_precision(target.precision, super().fingerprint())):
            raise InputError(f"{target}: {reason}", "fp32 or int8", "without it the time says nothing of the precision")
        self._device = (
            super().fingerprint() if target.device == "CPU" else _with_accelerator(super().fingerprint(), target.device)
        )
        self._timer = CpuTimer(f"{__name__}:engine", target, protocol, own_device=target.device != "CPU")

    @classmethod
    def available(cls) -> str | None:
        """Return None if OpenVINO is installed, else what to install."""
        return None if find_spec("openvino") else "openvino not installed; pip install 'hw-nas-yolo[openvino]'"

    @classmethod
    def version(cls) -> str:
        """Return the version, with the limit of instruction sets if one is set, since kernels depend on it."""
        try:
            version = package_version("openvino")
        except PackageNotFoundError:
            return "unknown"
        limit = os.environ.get(INSTRUCTIONS)
        return f"{version} (at most {limit})" if limit else version

    def fingerprint(self) -> DeviceFingerprint:
        """Return this machine; for a GPU or NPU with its name and driver."""
        return self._device

    @classmethod
    def quantization_scheme(cls, target: Target, device: DeviceFingerprint | None = None) -> QuantizationScheme:
        """Return :data:`INT8` with the weight bits of ``device``, by default of this machine."""
        return INT8.on(device or DeviceFingerprint.read())

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession:
        """Return a function of images (batch, 3, H, W) that gives the outputs of the compiled model.

        Raises:
            InputError: OpenVINO cannot compile the model, or computes its convolutions in another precision.
        """
        request = {"model": str(model), **asdict(target), "image_size": target.image_size}
        run = _compiled(request)[0].create_infer_request()
        return lambda images: list(run.infer([images]).values())

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Write ``model.xml`` and ``model.bin`` of an ONNX file; fp16 weights for an fp16 target.

        Raises:
            InputError: OpenVINO cannot read the model.
        """
        openvino = prepare()
        with naming_nodes(str(model)):
            read = openvino.Core().read_model(str(model))
        request = asdict(target)
        read.reshape({item.any_name: _shape(item, request) for item in read.inputs})
        openvino.save_model(read, folder / FILE, compress_to_fp16=target.precision == "fp16")

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession:
        """Compile ``model.xml``; return a function of images (batch, 3, H, W) that gives the outputs.

        Raises:
            InputError: OpenVINO cannot compile the model, or computes its convolutions in another precision.
        """
        run = _compiled({"model": str(folder / FILE), **asdict(target)})[0].create_infer_request()

        def session(images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
            run.infer([images])
            return [np.array(run.get_tensor(name).data) for name in outputs]

        return session

    def measure(self, workload: Workload) -> Measurement:
        """Measure the model, converted to the target's precision, with the CPU protocol.

        Raises:
            InputError: The model cannot be converted or compiled, or is computed in another precision.
            RuntimeFailure: A run failed.
        """
        with converted(workload, self.target.precision, self.quantization_scheme(self.target)) as ready:
            return self._timer.measure(ready, self.version(), self.fingerprint())

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._timer.close()


@cache
def _with_accelerator(machine: DeviceFingerprint, device: str) -> DeviceFingerprint:
    """Return the machine with the name and driver of its GPU or NPU; a process of its own asks OpenVINO."""
    with TimingClient(f"{__name__}:probe") as client:
        found = client.load(Path(device), {"cpus": [], "device": device})
    if "error" in found:
        raise InputError(found["error"])
    return replace(machine, **found)


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Compile ``request["model"]``; return a function that runs it once on random input, and OpenVINO's settings.

    The timing server pins the process, and denormals are zero (see
    :func:`latency_db.runtimes.onnxruntime.engine`). Compiled models are kept on disk for GPU and NPU, where compiling
    takes long; on a CPU it takes half a second, and a search would only fill the disk.

    Raises:
        InputError: No such device, an unsupported operator, convolutions that are computed in another precision, or
            inputs that do not fit the request.
    """
    compiled, shapes, config = _compiled(request)
    run = _with_inputs(compiled, shapes, request["seed"])
    info = {name: _plain(compiled.get_property(name)) for name in config if name != "CACHE_DIR"}
    info |= {
        "devices": list(compiled.get_property("EXECUTION_DEVICES")),
        "convolutions": dict(_precisions(compiled)),
        "inputs": shapes,
    }
    return lambda: run.infer(share_outputs=True), info


def infer_request(request: Mapping[str, Any], profile: bool = False) -> Any:
    """Return OpenVINO's inference request for ``request["model"]`` with random inputs.

    ``profile``: whether it counts the time of every operation (``profiling_info``).

    Raises:
        InputError: As :func:`engine`.
    """
    compiled, shapes, _ = _compiled(request, profile)
    return _with_inputs(compiled, shapes, request["seed"])


def _with_inputs(compiled: Any, shapes: Mapping[str, list[int]], seed: int) -> Any:
    """Return an inference request whose inputs are random."""
    import numpy as np

    rng = np.random.default_rng(seed)
    run = compiled.create_infer_request()
    for item in compiled.inputs:
        name = item.any_name
        run.get_tensor(name).data[:] = random_input(name, item.get_element_type().to_dtype(), shapes[name], rng)
    return run


def _compiled(request: Mapping[str, Any], profile: bool = False) -> tuple[Any, dict[str, list[int]], dict[str, Any]]:
    """Return the model compiled for the request's device, precision, batch and threads, its input shapes and settings.

    ``profile``: with counters of time.

    Raises:
        InputError: No such device, an unsupported operator, or convolutions that are computed in another precision.
    """
    core, device, precision = _core(request["device"]), request["device"], request["precision"]
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    if device == "CPU":
        config |= {
            "INFERENCE_NUM_THREADS": request["threads"],
            "ENABLE_CPU_PINNING": False,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
    else:
        config["CACHE_DIR"] = str(cache_dir() / "openvino")
    with naming_nodes(request["model"]):
        model = core.read_model(request["model"])
    shapes = {item.any_name: _shape(item, request) for item in model.inputs}
    model.reshape(shapes)
    with naming_nodes(request["model"]):
        compiled = core.compile_model(model, device, {**config, "PERF_COUNT": True} if profile else config)
    layers = _precisions(compiled)
    if device == "CPU" and not any(p in COMPUTED[precision] for p in layers):
        raise InputError(
            f"OpenVINO computes this model's convolutions in {' and '.join(layers) or 'nothing'}",
            precision,
            "choose another precision",
        )
    return compiled, shapes, config


def probe(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Return an engine that only reports the device, or why there is none."""
    try:
        core = _core(request["device"])
    except InputError as error:
        return (lambda: None), {"error": str(error)}
    name, driver = core.get_property(request["device"], "FULL_DEVICE_NAME"), core.get_versions(request["device"])
    return (lambda: None), {"accelerator": str(name), "driver": ", ".join(v.build_number for v in driver.values())}


def prepare() -> Any:
    """Import OpenVINO without its telemetry."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _core(device: str) -> Any:
    """Return OpenVINO's core. Raises InputError, with the available devices, if the device is not among them."""
    core = prepare().Core()
    if device not in core.available_devices and f"{device}.0" not in core.available_devices:
        hint = "" if device == "CPU" else "a GPU or NPU needs its driver"
        raise InputError(f"OpenVINO finds no device {device}", f"one of {', '.join(core.available_devices)}", hint)
    return core


def _shape(item: Any, request: Mapping[str, Any]) -> list[int]:
    dims = [d.get_length() if d.is_static else str(d) for d in item.get_partial_shape()]
    return input_shape(item.any_name, dims, request["batch"], request["image_size"])


def _precisions(compiled: Any) -> Counter[str]:
    """Return the number of convolutions and matrix products by precision; of all operators if there are none."""
    pairs = []
    for op in compiled.get_runtime_model().get_ops():
        about = op.get_rt_info()
        if "layerType" in about and "runtimePrecision" in about:
            pairs.append((about["layerType"].astype(str), about["runtimePrecision"].astype(str)))
    heavy = Counter(
        precision for kind, precision in pairs if kind in ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
    )
    return heavy or Counter(precision for _, precision in pairs)


def _plain(value: Any) -> Any:
    """Return a property as a JSON-ready value."""
    return (
        value
        if isinstance(value, (bool, int, float, str))
        else value.get_type_name()
        if hasattr(value, "get_type_name")
        else str(value)
    )
