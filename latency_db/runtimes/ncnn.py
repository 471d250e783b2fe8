"""ncnn, a runtime for Arm and x86 CPUs of phones and boards.

The library is imported in the measuring process, and where a model's accuracy is measured. An ONNX file is converted
by pnnx (:mod:`latency_db.conversion.ncnn_file`) for one image; a batch is computed one image after another. Where a
file decodes boxes, that part is not in the latency: ncnn gives the outputs of the heads' last convolutions, and for
accuracy ONNX Runtime decodes them.

ncnn stores and computes in fp16 or bf16 by itself where the CPU can. All of these options are switched off, so that
fp32 is fp32; they are part of the measurement's settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_db.conversion.ncnn_file import PARAM, NcnnFile, convert, read_files, write_files
from latency_db.conversion.onnx_file import naming_nodes, random_input
from latency_db.core.target import Target
from latency_db.timing.cpu_profiler import CpuProfiler
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

OFF = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
    "use_int8_inference", "use_vulkan_compute",
)  # fmt: skip
"""Options of ncnn that are switched off for fp32 on a CPU; those that a version does not have are passed over."""


class Ncnn(CpuProfiler):
    """Times ONNX files with ncnn on the CPU, in fp32."""

    runtime = "ncnn"
    precisions = ("fp32",)
    deployed_as = PARAM

    @classmethod
    def available(cls) -> str | None:
        """Return None if ncnn, pnnx, onnx and onnxruntime are installed, else which are missing."""
        missing = [name for name in ("ncnn", "pnnx", "onnx", "onnxruntime") if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed; pip install 'hw-nas-yolo[ncnn]'" if missing else None

    @classmethod
    def version(cls) -> str:
        """Return the versions of ncnn and of its converter, which decides the layers."""
        try:
            return f"{package_version('ncnn')}, pnnx {package_version('pnnx')}"
        except PackageNotFoundError:
            return "unknown"

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession:
        """Convert and load a model; return a function of images (batch, 3, H, W) that gives boxes and scores.

        Raises:
            InputError: ncnn cannot convert or load the model.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = convert(model, Path(folder), target.batch, target.image_size)
            network = NcnnNetwork(file, target.threads)
        decode = _decoder(file)
        return lambda images: decode(network.outputs([images]))

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Convert an ONNX file: layers and weights for ncnn, and the box decoding as an ONNX file.

        Raises:
            InputError: pnnx cannot convert the model.
        """
        with tempfile.TemporaryDirectory() as scratch:
            write_files(convert(model, Path(scratch), target.batch, target.image_size), folder)

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession:
        """Load files of :meth:`write_files`; return a function of images (batch, 3, H, W) that gives the outputs.

        Raises:
            InputError: ncnn cannot load the files.
        """
        file = read_files(folder)
        network, decode = NcnnNetwork(file, target.threads), _decoder(file)
        order = [*range(len(outputs))]
        if file.tail is not None:
            order = [[item.name for item in file.tail.graph.output].index(name) for name in outputs]

        def run(images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
            found = decode(network.outputs([images]))
            return [found[i] for i in order]

        return run


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Convert and load ``request["model"]``; return a function that runs it once, and the settings.

    The input is normally distributed. Images of a batch are computed one after another.

    Raises:
        InputError: ncnn cannot convert or load the model.
    """
    import numpy as np

    model = Path(request["model"])
    with tempfile.TemporaryDirectory() as folder, naming_nodes(str(model)):
        file = convert(model, Path(folder), request["batch"], request["image_size"])
        network = NcnnNetwork(file, request["threads"])
    rng = np.random.default_rng(request["seed"])
    step = network.prepared([random_input(name, "float32", shape, rng) for name, shape in file.inputs.items()])
    info = {**network.options, "inputs": file.inputs, "decoding": "not timed" if file.tail else "none"}
    return step, info


def prepare() -> None:
    """Import what the engine needs."""
    import ncnn  # noqa: F401
    import numpy  # noqa: F401
    import onnx  # noqa: F401


class NcnnNetwork:
    """A network loaded into ncnn."""

    def __init__(self, file: NcnnFile, threads: int) -> None:
        import ncnn

        self._ncnn, self._file, self._net = ncnn, file, ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.openmp_blocktime = 0  # threads do not spin between runs
        off = [name for name in OFF if hasattr(options, name)]
        for name in off:
            setattr(options, name, False)
        self.options: dict[str, Any] = {"num_threads": threads, **dict.fromkeys(off, False)}
        _check_layers(file.param)
        if self._net.load_param(str(file.param)) or self._net.load_model(str(file.weights)):
            raise InputError("ncnn cannot load the converted network", "a network that pnnx converts as a whole")

    def prepared(self, inputs: Sequence[npt.NDArray[np.float32]]) -> Callable[[], object]:
        """Copy the inputs (batch, …) into ncnn; return a function that computes all their images."""
        images = [[self._ncnn.Mat(x[i]).clone() for x in inputs] for i in range(len(inputs[0]))]
        return lambda: [self._run(image) for image in images]

    def extractor(self, inputs: Sequence[npt.NDArray[np.float32]]) -> Any:
        """Return ncnn's extractor of one image (1, …), which keeps every intermediate result."""
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)
        for i, x in enumerate(inputs):
            extractor.input(f"in{i}", self._ncnn.Mat(x[0]).clone())
        return extractor

    def outputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Compute the outputs (batch, …) of inputs (batch, …)."""
        import numpy as np

        rows = []
        for i in range(len(inputs[0])):
            image = [self._ncnn.Mat(np.ascontiguousarray(x[i], np.float32)).clone() for x in inputs]
            rows.append([np.array(mat) for mat in self._run(image)])
        return [np.stack(of_output) for of_output in zip(*rows, strict=True)]

    def _run(self, image: Sequence[Any]) -> list[Any]:
        extractor = self._net.create_extractor()
        for i, mat in enumerate(image):
            extractor.input(f"in{i}", mat)
        found = []
        for k in range(len(self._file.outputs)):
            status, mat = extractor.extract(f"out{k}")
            if status:
                raise InputError(f"ncnn gives no output {self._file.outputs[k]} (status {status})")
            found.append(mat)
        return found


def _check_layers(param: Path) -> None:
    """Raise InputError where the converted network has a layer that ncnn does not know; it names the layer."""
    import ncnn

    for line in param.read_text().splitlines()[2:]:
        kind, name = [*line.split(), "", ""][:2]
        if kind and ncnn.layer_to_index(kind) < 0:
            raise InputError(f"ncnn has no layer {kind} ({name})", "a network of layers that ncnn has")


def _decoder(file: NcnnFile) -> Callable[[list[npt.NDArray[np.float32]]], list[npt.NDArray[np.float32]]]:
    """Return a function that computes the decode tail in ONNX Runtime; without a tail, one that returns its input."""
    if file.tail is None:
        return lambda outputs: outputs
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(file.tail.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda outputs: list(session.run(None, dict(zip(file.outputs, outputs, strict=True))))
