"""Plans (compiled engines) of ONNX files with TensorRT 10, TensorRT 11 or TensorRT-RTX.

The last one needs neither a GPU nor a driver. Networks are strongly typed: the ONNX graph decides the precision, and
there are no calibrators, dynamic ranges or layer precisions. Differences between the three are found by their
attributes, not by their versions. The file of a plan is one line of JSON, its report with a checksum, and the engine.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from latency_db.conversion.onnx_file import input_shape
from latency_db.gpu.cuda import OutOfDeviceMemory
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize

# The modules of each runtime and the distributions that bring them; the first one found is used.
MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
PACKAGES = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings"),
    "tensorrt-rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
}
INSTALL = {"tensorrt": "pip install tensorrt", "tensorrt-rtx": "pip install hw-nas-yolo[tensorrt-rtx]"}
# What the builder logs, in bytes.
FIGURES = {
    "weights_bytes": "Total Weights Memory",
    "activation_bytes": "Total Activation Memory",
    "scratch_bytes": "Max Scratch Memory",
}


@dataclass(frozen=True)
class PlanReport:
    """Report of the builder: version, seconds, size of the plan, and memory of a run in bytes (None if it did
    not say).

    ``activation_bytes`` is all device memory of a run besides weights, inputs and outputs; ``scratch_bytes``, a part
    of it, what the hungriest layer needs. TensorRT-RTX compiles a whole network to one layer, so there the two are
    one figure. ``tf32``: whether fp32 layers may use TF32 (the default). ``convolutions``: their number by precision,
    int8 where the input is quantized, from the layers that the builder received.
    """

    version: str
    build_s: float
    plan_bytes: int
    layers: int
    tf32: bool
    weights_bytes: int | None
    activation_bytes: int | None
    scratch_bytes: int | None
    convolutions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A serialized engine and its report."""

    content: bytes
    report: PlanReport

    def to_bytes(self) -> bytes:
        """Return the content of its file: a line of JSON, then the engine."""
        head = {"sha256": hashlib.sha256(self.content).hexdigest(), "report": asdict(self.report)}
        return json.dumps(head).encode() + b"\n" + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Return the plan of a file's content; the inverse of :meth:`to_bytes`. Raises InputError for a damaged one."""
        head, _, content = data.partition(b"\n")
        try:
            parsed = json.loads(head)
            report = PlanReport(**parsed["report"])
            intact = parsed["sha256"] == hashlib.sha256(content).hexdigest()
        except (ValueError, TypeError, KeyError):
            intact = False
        if not intact:
            raise InputError("a damaged plan", "one whose checksum is right", "it is built again")
        return cls(content, report)


def installed(runtime: str) -> str | None:
    """Return None if the runtime's library is installed, else what to install. Imports nothing."""
    if any(find_spec(name) is not None for name in MODULES[runtime]):
        return None
    return f"{MODULES[runtime][0]} not installed; {INSTALL[runtime]}"


def library_version(runtime: str) -> str:
    """Return the installed version without importing the library."""
    for package in PACKAGES[runtime]:
        try:
            return package_version(package)
        except PackageNotFoundError:
            continue
    return "unknown"


def load_library(runtime: str) -> Any:
    """Import the library. Raises InputError if it is missing or lacks its shared libraries."""
    for name in MODULES[runtime]:
        if find_spec(name) is not None:
            try:
                return import_module(name)
            except (ImportError, OSError) as error:
                raise InputError(
                    f"{name} cannot be loaded ({' '.join(str(error).split())})", hint=INSTALL[runtime]
                ) from None
    raise InputError(f"runtime {runtime}: {installed(runtime)}")


def is_rtx(library: Any) -> bool:
    """Return whether a library is TensorRT-RTX, which compiles for given compute capabilities without a GPU."""
    return hasattr(library, "ComputeCapability")


class Log:
    """Messages of a library by severity, and the logger that it is given."""

    def __init__(self, library: Any) -> None:
        lines: list[tuple[str, str]] = []

        class Listener(library.ILogger):
            def __init__(self) -> None:
                library.ILogger.__init__(self)  # its constructor refuses super()

            def log(self, severity: Any, message: str) -> None:
                lines.append((str(severity).rpartition(".")[2], message))

        self.lines = lines
        self.listener = Listener()

    def errors(self) -> str:
        """Return all errors in one line."""
        return " | ".join(
            " ".join(message.split()) for severity, message in self.lines if severity in ("ERROR", "INTERNAL_ERROR")
        )[:400]

    def figure(self, name: str) -> int | None:
        """Return the last number logged after ``name:``; None if there is none."""
        found = [
            match.group(1) for _, message in self.lines for match in [re.search(rf"{name}: (\d+)", message)] if match
        ]
        return int(found[-1]) if found else None


def compile_plan(
    onnx: Path,
    runtime: str = "tensorrt-rtx",
    batch: int = 1,
    image_size: AnySize | None = None,
    timing_cache: bytes | None = None,
) -> tuple[Plan, bytes | None]:
    """Compile an ONNX file for one input shape.

    Args:
        onnx: The file; an optimisation profile sets a free batch or image size.
        runtime: ``tensorrt`` or ``tensorrt-rtx``.
        batch: Images per run.
        image_size: Of the images, if it is free in the file.
        timing_cache: Timing cache of earlier builds.

    Returns:
        The plan, and the timing cache after it (None with TensorRT-RTX, which has none).

    Raises:
        InputError: The library is missing, or cannot read or compile the model; the node and operator are named.
        OutOfDeviceMemory: The GPU has too little memory to compile.
    """
    library = load_library(runtime)
    log = Log(library)
    builder = library.Builder(log.listener)
    network = builder.create_network(_creation_flags(library))
    parser = library.OnnxParser(network, log.listener)
    if not parser.parse_from_file(str(onnx)):
        raise InputError(
            f"{runtime} cannot read {onnx.name}: {_parse_error(parser)}",
            hint="replace the operator, or choose another target",
        )
    config = builder.create_builder_config()
    _fix_shapes(builder, network, config, batch, image_size)
    if not is_rtx(library):
        _use_timing_cache(config, timing_cache or b"")
    start = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - start
    if plan is None:
        errors = log.errors()
        if "out of memory" in errors.lower():
            raise OutOfDeviceMemory(f"while {onnx.name} was compiled")
        raise InputError(
            f"{runtime} cannot compile {onnx.name}: {errors or 'it does not say why'}",
            hint="choose another precision or target",
        )
    content = bytes(memoryview(plan))
    timings = None if is_rtx(library) else bytes(memoryview(config.get_timing_cache().serialize()))
    return Plan(content, _report(library, network, config, log, seconds, len(content))), timings


def _report(library: Any, network: Any, config: Any, log: Log, seconds: float, size: int) -> PlanReport:
    """Return the report of a plan of ``size`` bytes that was built in ``seconds``."""
    return PlanReport(
        version=str(library.__version__),
        build_s=round(seconds, 3),
        plan_bytes=size,
        layers=int(network.num_layers),
        tf32=bool(config.get_flag(library.BuilderFlag.TF32)),
        **{field: log.figure(name) for field, name in FIGURES.items()},
        convolutions=convolutions(library, network),
    )


def convolutions(library: Any, network: Any) -> dict[str, int]:
    """Count the convolutions of a strongly typed network by precision: ``int8``, ``fp16`` or ``fp32``.

    A convolution is int8 if a dequantizing layer makes its input. Another has the type of its output; that of an int8
    convolution is the type of its scales, which is counted with it: ``int8`` in fp16 networks, ``int8, fp32 output``
    in others.
    """
    kind = library.LayerType
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    made = {layer.get_output(k).name: layer for layer in layers for k in range(layer.num_outputs)}
    counts: dict[str, int] = {}
    for layer in layers:
        if layer.type not in (kind.CONVOLUTION, kind.DECONVOLUTION):
            continue
        output = "fp16" if layer.get_output(0).dtype == library.DataType.HALF else "fp32"
        before = made.get(layer.get_input(0).name)
        name = output
        if before is not None and before.type == kind.DEQUANTIZE:
            name = "int8" if output == "fp16" else "int8, fp32 output"
        counts[name] = counts.get(name, 0) + 1
    return counts


def _creation_flags(library: Any) -> int:
    """Return the flag of strongly typed networks where it is a choice.

    Explicit batches are the default of all three.
    """
    known = library.NetworkDefinitionCreationFlag.__members__
    return 1 << int(known["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in known else 0


def _fix_shapes(builder: Any, network: Any, config: Any, batch: int, image_size: AnySize | None) -> None:
    """Add an optimisation profile with the target's shape, for inputs with free dimensions."""
    profile, needed = builder.create_optimization_profile(), False
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        dims = [None if d < 0 else int(d) for d in tensor.shape]
        shape = tuple(input_shape(tensor.name, dims, batch, image_size))
        if None in dims:
            profile.set_shape(tensor.name, shape, shape, shape)
            needed = True
    if needed:
        config.add_optimization_profile(profile)


def _use_timing_cache(config: Any, content: bytes) -> None:
    """Set the timing cache; the library refuses one of another GPU or version, and an empty one takes its place."""
    if not config.set_timing_cache(config.create_timing_cache(content), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _parse_error(parser: Any) -> str:
    """Return the first error of a parser with its node and operator."""
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    message = " ".join(str(error.desc()).split())[:300]
    node, operator = error.node_name(), error.node_operator()
    return f"node {node!r} of type {operator}: {message}" if operator or node else message
