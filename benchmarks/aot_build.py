"""TensorRT-RTX plans of the references in fp32, fp16 and int8, built ahead of time with no GPU: seconds, memory and
types of convolutions.

``python -m benchmarks.aot_build all --repeat 1``

Each build has a process of its own and one core; seconds are the builder's alone, without starting the process and
reading the file. Memory is what the builder logs; a search bounds it with ``nas search --max-activation-mb``. int8 is
calibrated on one random image: memory does not depend on the ranges. What is not int8 is fp16; ``convolutions`` counts
the convolutions that the builder received by precision.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.record import Goal, write
from latency_db.conversion.precision import converted
from latency_db.core.cpu import exclusive
from latency_db.core.profiler import Workload
from latency_db.engines.engine_cache import EngineCache, EngineJob
from latency_db.engines.plans import installed, library_version
from latency_db.runtimes.tensorrt import INT8, TensorRtRtx
from nas.core.references import matching
from nas.export.onnx import skeleton_onnx
from search_spaces.errors import InputError
from search_spaces.spaces import space_of

RUNTIME, IMAGE_SIZE, CLASSES = "tensorrt-rtx", 640, 80


def build(model: Path, folder: Path, repeat: int) -> dict[str, Any]:
    """Median seconds of so many builds, and the memory in MiB."""
    cache, job = EngineCache(folder), EngineJob(model, RUNTIME, library_version(RUNTIME))
    with exclusive("cpu"):
        reports = [cache.obtain(job, fresh=True).report for _ in range(repeat)]
    last = reports[-1]
    sizes = {
        "plan": last.plan_bytes,
        "weights": last.weights_bytes,
        "activations": last.activation_bytes,
        "scratch": last.scratch_bytes,
    }
    return {
        "build_s": median(r.build_s for r in reports),
        "convolutions": last.convolutions,
        **{f"{name}_mib": None if b is None else b / 2**20 for name, b in sizes.items()},
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Every plan compiles, and no convolution of an int8 or fp16 plan is fp32."""
    networks = figure["networks"].values()
    plans = [plan for plans in networks for plan in plans.values()]
    lower = [plans[p] for plans in networks for p in ("fp16", "int8") if "convolutions" in plans.get(p, {})]
    fp32 = sum(n for plan in lower for name, n in plan["convolutions"].items() if "fp32" in name)
    return [
        *([Goal("fp32 convolutions in fp16 and int8 plans of references", fp32, "<= 0")] if lower else []),
        Goal(
            "plans of references that build without a GPU",
            sum("failed" not in p for p in plans),
            f">= {len(plans)}",
            f"of {len(plans)}",
        ),
    ]


def main() -> None:
    """Build all and write the result; one that does not build is named with the reason, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="*", default=["YOLO-NAS"], help="references, families or patterns, or all (default YOLO-NAS)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="builds of each (default %(default)s)")
    args = parser.parse_args()
    if reason := installed(RUNTIME):
        raise InputError(reason)
    image = np.random.default_rng(0).random((1, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    figure: dict[str, Any] = {
        "version": library_version(RUNTIME),
        "image_size": IMAGE_SIZE,
        "batch": 1,
        "repeat": args.repeat,
        "networks": {},
    }
    for reference in dict.fromkeys(r for word in args.models for r in matching(word)):
        a = reference.architecture
        figure["networks"][reference.name] = rows = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            onnx = skeleton_onnx(space_of(a), a, CLASSES, folder / "m.onnx", IMAGE_SIZE)
            for precision in TensorRtRtx.precisions:
                try:
                    with converted(
                        Workload(reference.name, onnx, calibration=lambda: [image]), precision, INT8
                    ) as ready:
                        rows[precision] = build(ready.path(), folder / "engines", args.repeat)
                except InputError as error:
                    rows[precision] = {"failed": str(error)}
                print(reference.name, precision, rows[precision], flush=True)
    write("aot_build", figure, goals_of(figure))


if __name__ == "__main__":
    main()
