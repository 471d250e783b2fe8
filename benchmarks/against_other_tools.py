"""Does another tool, with the same settings, find the same latency for the same ONNX file as ours?

``python -m benchmarks.against_other_tools``

``yolo-nano``'s largest architecture at ``--image-size`` px is timed, on one CPU and with one thread, by our
``openvino`` and ``onnxruntime`` runtimes, by OpenVINO's own ``benchmark_app`` (``pip install
'hw-nas-yolo[openvino]'`` brings it) and by a plain loop around ``InferenceSession.run`` with our session's options.
The loop stands for ONNX Runtime's ``onnxruntime_perf_test``, which is in none of its wheels. The four take turns
``--rounds`` times, each in fresh processes on the same CPU. The figure is the median over rounds of our wall median
by theirs, with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, median_interval, write
from latency_db.core import cpu
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Protocol, Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from search_spaces.onnx import build_onnx
from search_spaces.spaces import SPACES

# Without the first line importing openvino would send an event to its maker.
BENCHMARK_APP = """
import os, sys
sys.modules["openvino_telemetry"] = None
os.sched_setaffinity(0, {int(sys.argv.pop(1))})
from openvino.tools.benchmark.main import main
main()
"""
LOOP = """
import os, sys, time
import numpy as np, onnxruntime as ort
os.sched_setaffinity(0, {int(sys.argv[1])})
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
for name in ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning"):
    options.add_session_config_entry(name, "0")
options.add_session_config_entry("session.set_denormal_as_zero", "1")
session = ort.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
feeds = {i.name: np.random.default_rng(0).standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
end, times = time.perf_counter() + float(sys.argv[3]), []
while time.perf_counter() < end:
    start = time.perf_counter()
    session.run(None, feeds)
    times.append(time.perf_counter() - start)
print("Median:", 1e3 * np.median(times[10:]), "ms")
"""


def other_tool(script: str, *arguments: str) -> float:
    """Median in ms that the tool prints."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    found = re.search(r"Median:\s*([0-9.]+) ms", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"the other tool failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return float(found[1])


def ours(runtime: str, model: Path, seconds: float) -> Measurement:
    """One measurement in fresh processes."""
    protocol = Protocol(min_rounds=20, max_rounds=1000, half_width=0.01, max_s=seconds)
    with open_profiler(Target(runtime), protocol) as profiler:
        return profiler.measure(Workload.of_file(model))


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Within 5 % of the other tool."""
    return [
        Goal(
            f"{name}: distance of our median from that of {figure[name]['tool']}",
            abs(figure[name]["ratio_median"] - 1),
            "<= 0.05",
            "share",
        )
        for name in ("openvino", "onnxruntime")
    ]


OPTIONS = ("-d", "CPU", "-hint", "none", "-api", "sync", "-nstreams", "1", "-nthreads", "1", "-nireq", "1")
"""Options of ``benchmark_app`` that are our settings: one stream, one thread, no hint."""


def compared(name: str, measured: Sequence[Measurement], theirs: Sequence[float]) -> dict[str, Any]:
    """Return the ratio of our medians to theirs, per round, with its interval; times in ms."""
    walls = [m.wall_median_ms or 0.0 for m in measured]
    ratio, low, high = median_interval([w / t for w, t in zip(walls, theirs, strict=True)])
    print(f"{name}: ours {median(walls):.3f} ms, theirs {median(theirs):.3f} ms, {ratio:.3f} ({low:.3f}…{high:.3f})")
    return {
        "tool": "benchmark_app" if name == "openvino" else "a plain loop",
        "version": measured[0].environment["runtime_version"],
        "ratio_median": ratio,
        "ratio_interval": [low, high],
        "ours_ms": walls,
        "theirs_ms": list(theirs),
        "verdicts": [m.verdict for m in measured],
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing, for each tool and round")
    parser.add_argument("--image-size", type=int, default=160)
    args = parser.parse_args()
    space = SPACES["yolo-nano"]
    mine: dict[str, list[Measurement]] = {"openvino": [], "onnxruntime": []}
    theirs: dict[str, list[float]] = {name: [] for name in mine}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(build_onnx(space.graph(space.largest), 80, args.image_size))
        tools: dict[str, Callable[[str], float]] = {
            "openvino": lambda on: other_tool(
                BENCHMARK_APP, on, "-m", str(model), *OPTIONS, "-infer_precision", "f32", "-t", f"{args.seconds:.0f}"
            ),
            "onnxruntime": lambda on: other_tool(LOOP, on, str(model), str(args.seconds)),
        }
        for i in range(args.rounds):
            for name, tool in tools.items():
                found = ours(name, model, args.seconds)
                on = found.environment["cpus"][0] if found.environment["cpus"] else cpu.quietest(1)[0]
                mine[name].append(found)
                theirs[name].append(tool(str(on)))
                wall = found.wall_median_ms or 0.0
                print(
                    f"{i + 1}/{args.rounds} {name}: ours {wall:.3f} ms ({found.verdict}), theirs {theirs[name][-1]:.3f} ms",
                    flush=True,
                )
    figure: dict[str, Any] = {"model": f"yolo-nano largest, {args.image_size} px, 80 classes", "rounds": args.rounds}
    figure |= {name: compared(name, measured, theirs[name]) for name, measured in mine.items()}
    write("against_other_tools", figure, goals_of(figure))


if __name__ == "__main__":
    main()
