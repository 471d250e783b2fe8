"""A board over SSH: the same latencies as measured here, what the way costs, and cut connections.

``python -m benchmarks.ssh_device --models 5 --rounds 5 --cuts 20``

The board is this machine behind a real SSH server. Each round measures every model here and there, in turn. Cost of a
candidate: wall time of a short measurement of a fixed number of runs over SSH less that of the same here. Cuts: the
connection is killed at a random moment of a measurement, and the measurement has to come all the same.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Goal, write
from benchmarks.sshd import Sshd, client_of, loopback_board, missing
from latency_db.core.profiler import Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.remote.board import Board
from latency_db.remote.profiler import RemoteProfiler
from latency_db.remote.ssh import Backoff
from latency_db.runtimes import open_profiler
from nas.profiling.workload import latency_workload
from search_spaces.errors import InputError
from search_spaces.spaces import SPACES

SPACE = SPACES["yolo-nano"].restrict({"image_size": (128,)})
TARGET = Target("onnxruntime")
QUICK = Backoff(60.0, 0.1, 0.5)
SHORT = Protocol(warmup_runs=1, warmup_s=0.0, block=2, settle=0, min_rounds=2, max_rounds=2, max_s=1.0)
"""Always the same number of runs, so that the time of the way can be seen beside theirs."""


def timed(profiler: Profiler, workload: Workload) -> tuple[float, float]:
    """Return the median in ms of one measurement, and its wall time in seconds."""
    began = time.perf_counter()
    found = profiler.measure(workload)
    return found.median_ms, time.perf_counter() - began


def side_by_side(here: Profiler, there: Profiler, workloads: Sequence[Workload], rounds: int) -> dict[str, Any]:
    """Measure every model here and there, in turn."""
    for profiler in (here, there):  # the reference model and the model's way are paid once
        for workload in workloads:
            profiler.measure(workload)
    rows = [[(timed(here, w), timed(there, w)) for w in workloads] for _ in range(rounds)]
    models = [
        {"here_ms": median(r[i][0][0] for r in rows), "there_ms": median(r[i][1][0] for r in rows)}
        for i in range(len(workloads))
    ]
    return {
        "models": models,
        "largest_difference": max(abs(m["there_ms"] / m["here_ms"] - 1) for m in models),
    }


def cost_s(board: Board, workloads: Sequence[Workload], rounds: int) -> float:
    """Return the median seconds that a short measurement takes longer there than here."""
    there = RemoteProfiler(board, TARGET, SHORT)
    with open_profiler(TARGET, SHORT) as here:
        for profiler in (here, there):
            profiler.measure(workloads[0])
        costs = [timed(there, w)[1] - timed(here, w)[1] for _ in range(rounds) for w in workloads]
    there.close()
    return median(costs)


def cut(server: Sshd) -> None:
    """Kill the processes of all connections."""
    for process in server.processes:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


def survived(server: Sshd, there: Profiler, workload: Workload, cuts: int) -> int:
    """Cut the connection at random moments of measurements; return how many of these came all the same."""
    rng, took, count = random.Random(0), timed(there, workload)[1], 0
    for _ in range(cuts):
        cutting = threading.Timer(rng.uniform(0, took), cut, [server])
        cutting.start()
        try:
            count += there.measure(workload).median_ms > 0
        except InputError as error:
            print(f"lost: {error}", flush=True)
        cutting.join()
    return count


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """The same medians, a small cost, no lost measurement."""
    count = len(figure["models"])
    goals = [
        Goal(
            f"largest difference of {count} medians over SSH and here", figure["largest_difference"], "<= 0.03", "share"
        ),
        Goal("cost of SSH per candidate", figure["cost_s"], "<= 0.3", "s"),
    ]
    if cuts := figure["cuts"]:
        goals.append(Goal(f"measurements that survive {cuts} cut connections", figure["survived"], f">= {cuts}"))
    return goals


def main() -> None:
    """Measure, cut, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cuts", type=int, default=20)
    args = parser.parse_args()
    if (reason := missing()) is not None:
        raise InputError(reason)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch, loopback_board() as server, client_of(server):
        sample = [SPACE.smallest, SPACE.largest, *(SPACE.sample(rng) for _ in range(args.models - 2))]
        workloads = [latency_workload(SPACE, a, 3, TARGET, Path(scratch)) for a in sample]
        with open_profiler(TARGET) as here, Board(server.address, QUICK) as board:
            there = RemoteProfiler(board, TARGET)
            figure = side_by_side(here, there, workloads, args.rounds)
            figure["cost_s"] = cost_s(board, workloads, args.rounds)
            print(figure, flush=True)
            figure |= {"rounds": args.rounds, "cuts": args.cuts}
            figure["survived"] = survived(server, there, workloads[0], args.cuts)
            there.close()
    print(figure)
    write("ssh_device", figure, goals_of(figure))


if __name__ == "__main__":
    main()
