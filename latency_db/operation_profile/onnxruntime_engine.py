"""Operations of ONNX Runtime on the CPU, by its profile (``SessionOptions.enable_profiling``), in whole microseconds."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency_db.operation_profile.self_timed import ProfiledRun
from latency_db.runtimes import onnxruntime as runtime

_KERNEL = "_kernel_time"


def prepare() -> None:
    """Import what the engine needs."""
    runtime.prepare()


def engine(request: Mapping[str, Any]) -> tuple[ProfiledRun, dict[str, Any]]:
    """Load ``request["model"]`` twice, without and with the profile.

    Raises:
        InputError: ONNX Runtime refuses the model, or its inputs do not fit the request.
    """
    run = OnnxRuntimeRun(request)
    return run, {"runtime": "onnxruntime"}


class OnnxRuntimeRun(ProfiledRun):
    """A network in two sessions of ONNX Runtime."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request, self.threads = dict(request), int(request["threads"])
        self._folder = tempfile.TemporaryDirectory(prefix="nas-profile-")
        self._plain, self._feeds, _ = runtime.cpu_session(request)
        self._profiled, *_ = runtime.cpu_session(request, str(Path(self._folder.name) / "profile"))

    def __call__(self) -> object:
        return self._plain.run(None, self._feeds)

    def profiled(self) -> None:
        """Run the network once with the profile."""
        self._profiled.run(None, self._feeds)

    def another(self, model: Path, image_size: int) -> ProfiledRun:
        """Load another model with the same settings, in float32."""
        return OnnxRuntimeRun({**self._request, "model": str(model), "image_size": image_size, "precision": "fp32"})

    def operations(self, skip: int) -> list[dict[str, Any]]:
        """Return the operations; ends the profile."""
        events = json.loads(Path(self._profiled.end_profiling()).read_text())
        self._folder.cleanup()
        rows: dict[str, dict[str, Any]] = {}
        samples: dict[str, list[float]] = defaultdict(list)
        for event in events:
            name = str(event.get("name", ""))
            if event.get("cat") != "Node" or not name.endswith(_KERNEL):
                continue
            about = event["args"]
            key = f"{about.get('node_index')} {name}"
            rows.setdefault(key, {"name": name.removesuffix(_KERNEL), "kind": about["op_name"], **_traffic(about)})
            samples[key].append(event["dur"] / 1e3)
        return [{**row, "ms": mean_of_middle(samples[key][skip:])} for key, row in rows.items()]


def mean_of_middle(samples: list[float]) -> float:
    """Return the mean of the samples between the quartiles: finer than a median of whole microseconds."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    kept = ordered[quarter : len(ordered) - quarter]
    return math.fsum(kept) / len(kept)


def _traffic(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return MACs and bytes of an event's arguments."""
    sizes = [int(about.get(name) or 0) for name in ("activation_size", "parameter_size", "output_size")]
    macs = 0
    inputs = [tuple(next(iter(item.values()))) for item in about.get("input_type_shape", ()) if item]
    outputs = [tuple(next(iter(item.values()))) for item in about.get("output_type_shape", ()) if item]
    if "Conv" in about["op_name"] and len(inputs) > 1 and outputs:
        weights = next((s for s in inputs[1:] if len(s) == 4), ())
        image = inputs[0] if "Transpose" in about["op_name"] else outputs[0]
        macs = math.prod(weights) * math.prod(image[2:4]) if weights and len(image) == 4 else 0
    elif about["op_name"] in ("MatMul", "Gemm", "FusedMatMul") and inputs and outputs:
        macs = math.prod(outputs[0]) * inputs[0][-1]
    return {"macs": int(macs), "bytes": sum(sizes)}
