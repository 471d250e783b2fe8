"""Layers of TensorRT on an NVIDIA GPU, by its layer profile (``IProfiler``). Not run so far: it needs an NVIDIA GPU.

TensorRT reports the layers of an execution that it enqueues itself; a CUDA graph would hide them, so that the profiled
runs take longer than the plain ones by the time of their launches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from latency_db.operation_profile.onnxruntime_engine import mean_of_middle
from latency_db.operation_profile.self_timed import ProfiledRun


def prepare() -> None:
    """Import what the engine needs."""
    import_module("tensorrt")


def engine(request: Mapping[str, Any]) -> tuple[ProfiledRun, dict[str, Any]]:
    """Build ``request["model"]`` for the GPU and attach a profiler to one of two contexts.

    Raises:
        InputError: There is no GPU, or TensorRT refuses the model.
    """
    return TensorRtRun(request), {"runtime": "tensorrt"}


class LayerTimes:
    """Times of layers by name, in order of execution, ms."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)

    def add(self, layer: str, ms: float) -> None:
        """Add the time of a layer in one run."""
        self.samples[layer].append(ms)

    def rows(self, skip: int) -> list[dict[str, Any]]:
        """Return name, kind and time of every layer without the first ``skip`` runs."""
        return [
            {"name": name, "kind": kind_of(name), "ms": mean_of_middle(values[skip:] or values)}
            for name, values in self.samples.items()
        ]


def kind_of(layer: str) -> str:
    """Return the kind of a layer from its name, which lists the fused nodes: ``stem/Conv_0 + stem/Relu_1``."""
    if layer.lower().startswith("reformatting"):
        return "Reformat"
    names = [part.strip().rpartition("/")[2].split("_")[0] for part in layer.split("+")]
    return "+".join(dict.fromkeys(name for name in names if name)) or "Layer"


class TensorRtRun(ProfiledRun):
    """A plan of TensorRT in two execution contexts."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        trt: Any = import_module("tensorrt")
        from latency_db.gpu.providers import open_cuda

        self._request, self.threads = dict(request), 0  # the CPU only waits
        self._cuda = open_cuda(request["device"])
        self._times = times = LayerTimes()

        class Profiler(trt.IProfiler):
            """Passes every reported layer on."""

            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                """Take the time of a layer."""
                times.add(layer_name, ms)

        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(request["model"]):
            from search_spaces.errors import InputError

            raise InputError(f"TensorRT cannot read the model: {parser.get_error(0)}")
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if request["precision"] == "fp16" and hasattr(trt.BuilderFlag, "FP16"):
            config.set_flag(trt.BuilderFlag.FP16)
        self._alive = trt.Runtime(logger), Profiler()
        plan = self._alive[0].deserialize_cuda_engine(builder.build_serialized_network(network, config))
        self._plan = plan
        self._plain, self._profiled = plan.create_execution_context(), plan.create_execution_context()
        self._profiled.profiler = self._alive[1]
        for context in (self._plain, self._profiled):
            for i in range(plan.num_io_tensors):
                name = plan.get_tensor_name(i)
                context.set_tensor_address(name, self._cuda.alloc(_bytes(plan, name)))

    def __call__(self) -> object:
        self._plain.execute_async_v3(self._cuda.stream)
        return self._cuda.synchronize()

    def profiled(self) -> None:
        """Run the plan once with the profiler."""
        self._profiled.execute_async_v3(self._cuda.stream)
        self._cuda.synchronize()

    def another(self, model: Path, image_size: int) -> ProfiledRun:
        """Load another model with the same settings, in float32."""
        return TensorRtRun({**self._request, "model": str(model), "image_size": image_size, "precision": "fp32"})

    def operations(self, skip: int) -> list[dict[str, Any]]:
        """Return the layers."""
        return self._times.rows(skip)


def _bytes(plan: Any, name: str) -> int:
    """Return the bytes of a tensor of a plan, at most 8 per element."""
    size = 8
    for n in plan.get_tensor_shape(name):
        size *= max(1, int(n))
    return size
