"""TensorRT-RTX plans of YOLO-NAS S, M and L in fp32, fp16 and int8, built ahead of time with no GPU: seconds and memory.

``python -m benchmarks.aot_build --repeat 3``

Each build has a process of its own and one core; seconds are the builder's alone, without starting the process and reading the file. Memory is what the
builder logs; a search bounds it with ``nas search --max-activation-mb``. int8 is calibrated on one random picture: memory does not depend on the ranges.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.record import write
from latency_db.cpu import exclusive
from latency_db.engines import EngineCache, EngineJob
from latency_db.plans import installed, library_version
from latency_db.precision import converted
from latency_db.profiler import Workload
from latency_db.runtimes.tensorrt import INT8, TensorRtRtx
from nas.export import skeleton_onnx
from search_spaces.errors import InputError
from search_spaces.yolo_nas import YOLO_NAS, yolo_nas

RUNTIME, IMAGE_SIZE, CLASSES = "tensorrt-rtx", 640, 80


def build(model: Path, folder: Path, repeat: int) -> dict[str, Any]:
    """Median seconds of so many builds, and the memory in MiB."""
    cache, job = EngineCache(folder), EngineJob(model, RUNTIME, library_version(RUNTIME))
    with exclusive("cpu"):
        reports = [cache.obtain(job, fresh=True).report for _ in range(repeat)]
    last = reports[-1]
    sizes = {"plan": last.plan_bytes, "weights": last.weights_bytes, "activations": last.activation_bytes, "scratch": last.scratch_bytes}
    return {"build_s": median(r.build_s for r in reports), **{f"{name}_mib": None if b is None else b / 2**20 for name, b in sizes.items()}}


def main() -> None:
    """Build all nine and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="builds of each (default %(default)s)")
    args = parser.parse_args()
    if reason := installed(RUNTIME):
        raise InputError(reason)
    picture = np.random.default_rng(0).random((1, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    figure: dict[str, Any] = {"version": library_version(RUNTIME), "image_size": IMAGE_SIZE, "batch": 1, "repeat": args.repeat, "networks": {}}
    for size in "sml":
        figure["networks"][size.upper()] = rows = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            onnx = skeleton_onnx(YOLO_NAS, yolo_nas(size), CLASSES, folder / "m.onnx", IMAGE_SIZE)
            for precision in TensorRtRtx.precisions:
                with converted(Workload(size, onnx, calibration=lambda: [picture]), precision, INT8) as ready:
                    rows[precision] = build(ready.path(), folder / "engines", args.repeat)
                print(size, precision, rows[precision])
    write("aot_build", figure)


if __name__ == "__main__":
    main()
