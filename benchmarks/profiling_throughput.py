"""How long does it take from an architecture to its measured latency, and on what is that time spent?

``python -m benchmarks.profiling_throughput --candidates 8``

Random architectures of ``yolo-nas`` with about the MACs of YOLO-NAS S (15.9 G at 640 px, within a quarter) are
measured one after the other by the searching protocol, as a search does. Seconds of each part per candidate: make
(the ONNX file, straight from the network definition; beside it torch's exporter, which takes no part in the sum),
start of the measuring process and load of the model, warm-up, timing, the rest.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from nas.export.onnx import skeleton_onnx
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES
from search_spaces.trace import trace

S_MACS, SIZE = 15.9e9, 640
TIMING = "timing"


def like_s(space: SearchSpace, rng: random.Random) -> Iterator[Architecture]:
    """Random architectures at 640 px with the MACs of YOLO-NAS S, within a quarter."""
    while True:
        architecture = space.sample(rng)
        if abs(trace(space.graph(architecture), 80, SIZE).macs / S_MACS - 1) <= 0.25:
            yield architecture


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """At most 30 % of the time goes to anything but timing."""
    return [
        Goal(
            f"{target}: share of a measurement that is not timing",
            row["share_not_timing"],
            f"<= {figure['goal_share_not_timing']:g}",
            "share",
        )
        for target, row in figure["targets"].items()
    ]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--target", action="append", help="repeatable; default onnxruntime:fp32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    space = SPACES["yolo-nas"].restrict({"image_size": (SIZE,)})
    figure = {}
    for text in args.target or ["onnxruntime:fp32"]:
        target = Target.parse(text)
        architectures = like_s(space, random.Random(args.seed))
        rows, torch_s, medians = [], [], []
        with tempfile.TemporaryDirectory() as folder, open_profiler(target) as profiler:
            for i in range(args.candidates):
                architecture = next(architectures)
                make = partial(skeleton_onnx, space, architecture, 80, Path(folder) / "candidate.onnx", SIZE)
                start = time.monotonic()
                measured = profiler.measure(Workload(architecture.id, make))
                total = time.monotonic() - start
                parts = measured.environment["seconds"]
                rows.append({**parts, "total": total, "other": total - sum(parts.values())})
                medians.append(measured.median_ms)
                start = time.monotonic()
                skeleton_onnx(space, architecture, 80, Path(folder) / "torch.onnx", SIZE, direct=False)
                torch_s.append(time.monotonic() - start)
                print(
                    f"{text} {i + 1}/{args.candidates}: {measured.median_ms:.0f} ms, {', '.join(f'{k} {v:.2f}' for k, v in rows[-1].items())}",
                    flush=True,
                )
        # The first candidate also starts the anchor's process and fills memos, as the first of a search does: it is in
        # the sums.
        spent = {name: sum(r[name] for r in rows) for name in rows[0]}
        figure[text] = {
            "seconds_per_candidate": {name: seconds / len(rows) for name, seconds in spent.items()},
            "share_not_timing": 1 - spent[TIMING] / spent["total"],
            "torch_exporter_s": median(torch_s),
            "median_ms": median(medians),
            "candidates": len(rows),
        }
        print(f"{text}: {figure[text]['share_not_timing']:.0%} of the time is not timing")
    record = {"targets": figure, "goal_share_not_timing": 0.30}
    write("profiling_throughput", record, goals_of(record), seeds=(args.seed,))


if __name__ == "__main__":
    main()
