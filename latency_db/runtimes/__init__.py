"""The runtimes a target can name. A new one is one file here and one line in the table (or an entry point of the
group)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from latency_db.core.profiler import Profiler, Protocol
    from latency_db.core.target import Target

RUNTIMES: Registry[type[Profiler]] = Registry(
    "nas.runtimes",
    {
        "onnxruntime": "latency_db.runtimes.onnxruntime:OnnxRuntime",
        "onnxruntime-tensorrt": "latency_db.runtimes.onnxruntime:OnnxRuntimeTensorrt",
        "openvino": "latency_db.runtimes.openvino:OpenVino",
        "recorded": "latency_db.runtimes.recorded:Recorded",
        "tensorrt": "latency_db.runtimes.tensorrt:TensorRt",
        "tensorrt-rtx": "latency_db.runtimes.tensorrt:TensorRtRtx",
        "torch": "latency_db.runtimes.torch:Torch",
        "torch-compile": "latency_db.runtimes.torch:TorchCompile",
    },
)


def open_profiler(target: Target, protocol: Protocol | None = None) -> Profiler:
    """The profiler of a target, ready to measure; the runtime's own default protocol is ``SEARCHING``.

    Raises InputError for an unknown runtime, a precision or device it does not have, or a library that is missing here.
    """
    runtime = RUNTIMES[target.runtime]
    return runtime(target, protocol) if protocol else runtime(target)
