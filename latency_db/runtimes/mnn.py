"""MNN, a runtime for Arm and x86 CPUs of phones and boards.

The library is imported in the measuring process, and where a model's accuracy is measured. An ONNX file is converted
with fixed shapes by the converter of the same wheel, decoding included. The converter is started in a process of its
own and by its native function: its command line would send statistics to its maker.

The precision is ``high``, which is fp32; by default MNN computes in fp16 where the CPU can.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_db.conversion.onnx_file import naming_nodes, random_input
from latency_db.conversion.onnx_parts import check_operators, input_shapes, read
from latency_db.core.target import Target
from latency_db.timing.cpu_profiler import CpuProfiler
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from latency_db.core.profiler import InferenceSession

CONVERT = (
    "import sys, _tools; _tools.mnnconvert(['mnnconvert', '-f', 'ONNX', '--modelFile', sys.argv[1], "
    "'--MNNModel', sys.argv[2], '--bizCode', 'none', '--keepInputFormat'])"
)
FILE = "model.mnn"
"""Name of the deployed file."""
TIMEOUT_S = 600.0
"""How long the converter may take: seconds for a detector."""


class Mnn(CpuProfiler):
    """Times ONNX files with MNN on the CPU, in fp32."""

    runtime = "mnn"
    precisions = ("fp32",)
    deployed_as = FILE

    @classmethod
    def available(cls) -> str | None:
        """Return None if MNN, onnx and onnxruntime are installed, else which are missing."""
        missing = [name for name in ("MNN", "onnx", "onnxruntime") if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed; pip install 'hw-nas-yolo[mnn]'" if missing else None

    @classmethod
    def version(cls) -> str:
        """Return the version of the MNN wheel, which brings the converter too."""
        try:
            return package_version("MNN")
        except PackageNotFoundError:
            return "unknown"

    @classmethod
    def open_session(cls, target: Target, model: Path) -> InferenceSession:
        """Convert and load a model; return a function of images (batch, 3, H, W) that gives boxes and scores.

        Raises:
            InputError: MNN cannot convert or load the model.
        """
        with tempfile.TemporaryDirectory() as folder:
            network = _Network(model, Path(folder), target.batch, target.image_size, target.threads)
        return network.outputs

    @classmethod
    def write_files(cls, target: Target, model: Path, folder: Path) -> None:
        """Convert an ONNX file to ``model.mnn``, box decoding included.

        Raises:
            InputError: MNN cannot convert the model.
        """
        proto = read(model)
        check_operators(proto)
        with tempfile.TemporaryDirectory() as scratch:
            inputs = input_shapes(proto, target.batch, target.image_size)
            shutil.copyfile(_converted(proto, inputs, Path(scratch), model.name), folder / FILE)

    @classmethod
    def open_files(cls, target: Target, folder: Path, outputs: Sequence[str]) -> InferenceSession:
        """Load ``model.mnn``; return a function of images (batch, 3, H, W) that gives the outputs.

        Raises:
            InputError: MNN cannot load the file.
        """
        return _Loaded(folder / FILE, outputs, target.threads).outputs


def engine(request: Mapping[str, Any]) -> tuple[Callable[[], object], dict[str, Any]]:
    """Convert and load ``request["model"]``; return a function that runs it once, and the settings.

    The input is normally distributed.

    Raises:
        InputError: MNN cannot convert or load the model.
    """
    import numpy as np

    model = Path(request["model"])
    with tempfile.TemporaryDirectory() as folder, naming_nodes(str(model)):
        network = _Network(model, Path(folder), request["batch"], request["image_size"], request["threads"])
    rng = np.random.default_rng(request["seed"])
    for name, shape in network.inputs.items():
        network.feed(name, random_input(name, "float32", shape, rng))
    return network.run, {**network.settings, "inputs": network.inputs}


def prepare() -> None:
    """Import what the engine needs."""
    import MNN  # noqa: F401
    import numpy  # noqa: F401
    import onnx  # noqa: F401


class _Loaded:
    """A file loaded into MNN."""

    def __init__(self, file: Path, outputs: Sequence[str], threads: int) -> None:
        import MNN

        self._mnn, self._outputs = MNN, outputs
        self.settings: dict[str, Any] = {"backend": "CPU", "precision": "high", "numThread": threads}
        with _stdout_as_stderr():
            self._interpreter = MNN.Interpreter(str(file))
            self._session = self._interpreter.createSession(self.settings)
        given = self._interpreter.getSessionInputAll(self._session)
        self.inputs: dict[str, list[int]] = {name: [*tensor.getShape()] for name, tensor in given.items()}
        made = self._interpreter.getSessionOutputAll(self._session)
        if missing := [name for name in outputs if name not in made]:
            raise InputError(f"{file} has no output {missing[0]}", f"outputs {', '.join(outputs)}")

    def feed(self, name: str, values: npt.NDArray[np.float32]) -> None:
        """Copy values (batch, …) to an input."""
        import numpy as np

        mnn = self._mnn
        host = mnn.Tensor(
            values.shape,
            mnn.Halide_Type_Float,
            np.ascontiguousarray(values, np.float32),
            mnn.Tensor_DimensionType_Caffe,
        )
        self._interpreter.getSessionInput(self._session, name).copyFrom(host)

    def run(self) -> object:
        """Compute all outputs."""
        return self._interpreter.runSession(self._session)

    def outputs(self, *inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Compute the outputs (batch, …) of inputs (batch, …), given in the file's order."""
        import numpy as np

        mnn = self._mnn
        for name, values in zip(self.inputs, inputs, strict=True):
            self.feed(name, values)
        self.run()
        found = []
        for name in self._outputs:
            tensor = self._interpreter.getSessionOutput(self._session, name)
            shape = tensor.getShape()
            whole = tensor.getDataType() == mnn.Halide_Type_Int
            kind, dtype = (mnn.Halide_Type_Int, np.int32) if whole else (mnn.Halide_Type_Float, np.float32)
            host = mnn.Tensor(shape, kind, np.zeros(shape, dtype), mnn.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData(), dtype).reshape(shape))
        return found


class _Network(_Loaded):
    """A network converted and loaded into MNN."""

    def __init__(self, model: Path, folder: Path, batch: int, image_size: AnySize | None, threads: int) -> None:
        proto = read(model)
        check_operators(proto)
        inputs = input_shapes(proto, batch, image_size)
        outputs = [item.name for item in proto.graph.output]
        super().__init__(_converted(proto, inputs, folder, model.name), outputs, threads)
        self.inputs = inputs  # in the file's order


def _converted(proto: Any, inputs: Mapping[str, list[int]], folder: Path, name: str) -> Path:
    """Convert a model with fixed shapes; raise InputError with the converter's last words where it fails."""
    import onnx

    for item in proto.graph.input:
        for dim, size in zip(item.type.tensor_type.shape.dim, inputs.get(item.name, ()), strict=False):
            dim.dim_value = size
    source, out = folder / "network.onnx", folder / "network.mnn"
    onnx.save(proto, str(source))
    try:
        done = subprocess.run(
            [sys.executable, "-c", CONVERT, str(source), str(out)],
            capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"MNN cannot convert {name}: {error}") from None
    if done.returncode or not out.is_file():
        words = " ".join((done.stderr or done.stdout).split())[-300:]
        raise InputError(f"MNN cannot convert {name} (status {done.returncode}): {words}")
    return out


@contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """Send what the library prints to standard error: standard output may be read by a program."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what the library's C streams still hold
        os.dup2(kept, 1)
        os.close(kept)
