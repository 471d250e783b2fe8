"""Do the times of a network's operations add up to its latency?

``python -m benchmarks.operation_profiles --image-size 320``

The largest ``yolo-nano`` at ``--image-size`` px is profiled on ONNX Runtime, OpenVINO and ncnn ``--repeat`` times each,
every time in a fresh process, where runs without the profile are timed in turn with profiled ones. Figure: the median
ratio of the sum of all operations to the time of a run, per runtime.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.operation_profile.profile import SMALL, profile_operations
from latency_db.operation_profile.roofline import measure_roofline
from nas.export.onnx import skeleton_onnx
from search_spaces.spaces import SPACES

RUNTIMES = ("onnxruntime", "openvino", "ncnn")


def goals_of(figure: dict[str, Any]) -> list[Goal]:
    """Every runtime within 10 %."""
    return [
        Goal(
            f"{runtime}: sum of the operations away from the latency",
            abs(1 - row["ratio"]),
            "<= 0.1",
            "share",
        )
        for runtime, row in figure["runtimes"].items()
    ]


def main() -> None:
    """Profile and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    space = SPACES["yolo-nano"]
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="nas-profiles-") as folder:
        models = [
            Workload(name, skeleton_onnx(space, space.largest, 80, Path(folder) / f"{name}.onnx", size))
            for name, size in (("network", args.image_size), ("small", SMALL))
        ]
        for runtime in RUNTIMES:
            target = Target.parse(f"{runtime}:fp32@{args.image_size}")
            profiles = [profile_operations(models[0], target, small=models[1]) for _ in range(args.repeat)]
            ratios = [p.operations_ms / p.run_ms for p in profiles]
            last = profiles[-1]
            rows[runtime] = {
                "ratio": median(ratios),
                "ratios": ratios,
                "run_ms": median(p.run_ms for p in profiles),
                "overhead_us": 1e3 * median(p.overhead_ms for p in profiles),
                "operations": len(last.operations),
                "version": last.version,
            }
            print(runtime, rows[runtime], flush=True)
    figure = {"image_size": args.image_size, "runtimes": rows, "roofline": measure_roofline().to_dict()}
    write("operation_profiles", figure, goals_of(figure))


if __name__ == "__main__":
    main()
