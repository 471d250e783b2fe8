"""The runtimes that a target can name.

A new one is one file in ``latency_db/runtimes`` and one line here (or an entry point of the group).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from latency_db.core.profiler import Profiler

RUNTIMES: Registry[type[Profiler]] = Registry(
    "nas.runtimes",
    {
        "litert": "latency_db.runtimes.litert:LiteRt",
        "mnn": "latency_db.runtimes.mnn:Mnn",
        "ncnn": "latency_db.runtimes.ncnn:Ncnn",
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
