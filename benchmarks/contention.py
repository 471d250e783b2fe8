"""Is a busy machine noticed? Verdicts of measurements with and without injected load.

``python -m benchmarks.contention --trials 24``

``yolo-nano``'s largest architecture at 128 px is measured by the searching protocol, each trial in fresh processes,
in turns with no load and with processes that compute without end: one, two and four of them, and one that computes
half of the time (10 ms on, 10 ms off). Figures: the share of trials with load that are called contended, the share
without that are called clean, and by how much load moved the reported median against that of the trials without.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from nas.export.onnx import skeleton_onnx
from search_spaces.spaces import SPACES

BUSY = "while True: pass"
HALF = "import time\nwhile True:\n    end = time.perf_counter() + 0.01\n    while time.perf_counter() < end: pass\n    time.sleep(0.01)"
LOADS: dict[str, tuple[str, int]] = {
    "none": (BUSY, 0),
    "half of one": (HALF, 1),
    "one": (BUSY, 1),
    "two": (BUSY, 2),
    "four": (BUSY, 4),
}


@contextmanager
def load(code: str, count: int) -> Iterator[None]:
    """``count`` processes that run ``code`` until the end."""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    time.sleep(0.5 if count else 0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(model: Path, target: Target) -> Measurement:
    """One measurement in fresh processes."""
    with open_profiler(target) as profiler:
        return profiler.measure(Workload.of_file(model))


def summary(trials: list[Measurement], quiet_ms: float) -> dict[str, Any]:
    """What the trials of one load say."""
    return {
        "trials": len(trials),
        "contended": sum(m.verdict == "contended" for m in trials),
        "clean": sum(m.verdict == "clean" for m in trials),
        "median_over_quiet": median(m.median_ms for m in trials) / quiet_ms,
        "wall_over_quiet": median(m.wall_median_ms or m.median_ms for m in trials) / quiet_ms,
        "busy_elsewhere": [m.environment["busy_elsewhere"] for m in trials],
        "clean_share": [m.environment["clean_share"] for m in trials],
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Every contended measurement is noticed."""
    return [Goal("measurements beside other processes that are called contended", figure["flagged"], ">= 1", "share")]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24, help="of each load (default %(default)s)")
    parser.add_argument("--target", default="onnxruntime:fp32")
    args = parser.parse_args()
    space, target = SPACES["yolo-nano"], Target.parse(args.target)
    trials: dict[str, list[Measurement]] = {name: [] for name in LOADS}
    with tempfile.TemporaryDirectory() as folder:
        model = skeleton_onnx(space, space.largest, 80, Path(folder) / "model.onnx", 128)
        for i in range(args.trials):
            for name, (code, count) in LOADS.items():
                with load(code, count):
                    trials[name].append(measure(model, target))
            print(
                f"{i + 1}/{args.trials}: "
                + ", ".join(f"{name} {t[-1].verdict} {t[-1].median_ms:.2f} ms" for name, t in trials.items()),
                flush=True,
            )
    quiet = median(m.median_ms for m in trials["none"])
    loaded = [m for name, t in trials.items() if name != "none" for m in t]
    figure = {
        "flagged": sum(m.verdict == "contended" for m in loaded) / len(loaded),
        "clean_without_load": sum(m.verdict == "clean" for m in trials["none"]) / args.trials,
        "quiet_ms": quiet,
        "loads": {name: summary(t, quiet) for name, t in trials.items()},
        "target": args.target,
    }
    print(f"contended under load: {figure['flagged']:.0%}; clean without: {figure['clean_without_load']:.0%}")
    write("contention", figure, goals_of(figure))


if __name__ == "__main__":
    main()
