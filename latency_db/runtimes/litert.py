"""LiteRT (TensorFlow Lite), a runtime for phones and boards, on the CPU with XNNPACK.

The library is imported in the measuring process, and where a model's accuracy is measured. An ONNX file is translated
with fixed shapes, box decoding included (:mod:`latency_db.conversion.tflite_file`). XNNPACK computes fp32 in fp32. int8
is an ONNX file with quantizing nodes, whose scales become those of the TFLite file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_db.conversion.onnx_file import naming_nodes, random_input
from latency_db.conversion.precision import converted
from latency_db.conversion.tflite_file import convert
from latency_db.conversion.tflite_graph import SIGNATURE
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Workload
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.target import Target
from latency_db.timing.cpu_profiler import CpuProfiler
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

FILE = "model.tflite"
"""Name of the deployed file."""
INT8 = QuantizationScheme(
    "s8", symmetric=False, op_types=(), bias=True, outputs=True, last_convs=False, shared_scales=True
)
"""XNNPACK sums products of 8 bits in 32 on every CPU, so weights have 8 bits."""


class LiteRt(CpuProfiler):
    """Times ONNX files with LiteRT on the CPU, in fp32 and int8."""

    runtime = "litert"
    precisions = ("fp32", "int8")
    deployed_as, channels_last = FILE, True

    @classmethod
    def available(cls) -> str | None:
        """Return None if LiteRT, flatbuffers, onnx and onnxruntime are installed, else which are missing."""
        missing = [name for name in ("ai_edge_litert", "flatbuffers", "onnx", "onnxruntime") if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed; pip install 'hw-nas-yolo[litert]'" if missing else None

    @classmethod
    def version(cls) -> str:
        """Return the version of the wheel."""
        try:
            return package_version("ai-edge-litert")
        except PackageNotFoundError:
            return "unknown"

    @classmethod
    def quantization_scheme(cls, target: Target, device: DeviceFingerprint | None = None) -> QuantizationScheme:
        """Return LiteRT's scheme; it does not depend on the device."""
        return INT8

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession:
        """Translate and load a model; return a function of images (batch, 3, H, W) that gives boxes and scores.

        Raises:
            InputError: The model cannot be translated, or LiteRT cannot load it.
        """
        return _Network(convert(model, target.batch, target.image_size), target.threads).outputs

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Translate an ONNX file to ``model.tflite``, box decoding included; its input has channels last.

        At int8 the file has quantizing nodes.

        Raises:
            InputError: The model cannot be translated.
        """
        (folder / FILE).write_bytes(convert(model, target.batch, target.image_size))

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession:
        """Load ``model.tflite``; return a function of images (batch, 3, H, W) that gives the outputs.

        Raises:
            InputError: LiteRT cannot load the file, or it has other outputs.
        """
        return _Network((folder / FILE).read_bytes(), target.threads, outputs).outputs

    def measure(self, workload: Workload) -> Measurement:
        """Measure the latency of a workload by the CPU protocol.

        Raises:
            InputError: The model cannot be translated, quantized or loaded, or int8 has no images.
            RuntimeFailure: A run failed.
        """
        with converted(workload, self.target.precision, self.quantization_scheme(self.target)) as ready:
            return self._timer.measure(ready, self.version(), self.fingerprint())


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Translate and load ``request["model"]``; return a function that runs it once, and the settings.

    The input is normally distributed.

    Raises:
        InputError: The model cannot be translated, or LiteRT cannot load it.
    """
    import numpy as np

    with naming_nodes(request["model"]):
        content = convert(Path(request["model"]), request["batch"], request["image_size"])
    network = _Network(content, request["threads"])
    rng = np.random.default_rng(request["seed"])
    for name, shape in network.inputs.items():
        network.feed(name, random_input(name, "float32", shape, rng))
    return network.run, {"delegate": "XNNPACK", "num_threads": request["threads"], "inputs": network.inputs}


def prepare() -> None:
    """Import what the engine needs."""
    import ai_edge_litert.interpreter  # noqa: F401
    import flatbuffers  # noqa: F401
    import onnx  # noqa: F401


class _Network:
    """A TFLite file loaded into LiteRT's interpreter; ``inputs``: name -> shape as in the file, channels last."""

    def __init__(self, content: bytes, threads: int, outputs: Sequence[str] = ()) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"LiteRT cannot load the model: {' '.join(str(error).split())[:300]}") from None
        given = self._interpreter._get_full_signature_list()[SIGNATURE]
        details = self._interpreter.get_input_details()
        place = {int(item["index"]): i for i, item in enumerate([*details, *self._interpreter.get_output_details()])}
        # A signature lists names in alphabetical order; the graph has the order of the ONNX file.
        self._inputs, self._outputs = (
            dict(sorted(given[side].items(), key=lambda pair: place[int(pair[1])])) for side in ("inputs", "outputs")
        )
        self._names = list(outputs or self._outputs)
        if missing := [name for name in self._names if name not in self._outputs]:
            raise InputError(f"the model has no output {missing[0]}", ", ".join(self._names))
        shapes = {int(item["index"]): [int(n) for n in item["shape"]] for item in details}
        self.inputs = {name: shapes[int(i)] for name, i in self._inputs.items()}

    def feed(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Copy values, shaped as :attr:`inputs` says, to an input."""
        self._interpreter.set_tensor(self._inputs[name], values)

    def run(self) -> object:
        """Compute all outputs."""
        return self._interpreter.invoke()

    def outputs(self, *inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Compute the outputs (batch, …) of inputs (batch, …) with channels first, in the file's order."""
        import numpy as np

        for name, values in zip(self.inputs, inputs, strict=True):
            last = values.transpose(0, 2, 3, 1) if values.ndim == 4 else values
            self.feed(name, np.ascontiguousarray(last, np.float32))
        self.run()
        return [np.array(self._interpreter.get_tensor(self._outputs[name])) for name in self._names]
