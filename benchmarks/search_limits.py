"""How much of a true front is observation noise? Noise of the latencies of NAS-Bench-201, and what of the front rests
on values
that it made small.

``python -m benchmarks.search_limits --nas-bench-201 nas_bench_201_hw.parquet``

Noise: two cells that are each other's mirror image (nodes 1 and 2 exchanged, nothing between them) are the same
network, so their values differ by noise alone; of latency as a share of it. Noise in the front: a Gaussian process
learns log latency from 600 random rows, the front not among them; a point of the front is explained by noise if its
latency lies below the prediction by more than two standard deviations of what is left on other rows (both robust:
1.4826 median distances). ``without_lucky``: share of the true front's hypervolume that all other rows of the table
hold.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import write
from benchmarks.search_tables import DIRECTIONS, Floats, Problem, nas_bench_201
from nas.core.pareto import non_dominated
from nas.search.samplers.encoding import Encoding, append_inputs
from nas.search.samplers.gaussian import GaussianProcess

LEARNED, LEFT = 600, 4000
"""Rows from which the process learns, and on which its errors are looked at."""
MIRRORED = {
    "op_0to1": "op_0to2",
    "op_0to2": "op_0to1",
    "op_0to3": "op_0to3",
    "op_1to3": "op_2to3",
    "op_2to3": "op_1to3",
    "op_1to2": "op_1to2",
}


def noise(problem: Problem, values: Floats) -> float:
    """Standard deviation (robust) of one value (n,) of a table, from cells that are there twice."""
    differences = []
    for i, row in enumerate(problem.rows):
        twin = problem.row({name: row[other] for name, other in MIRRORED.items()})
        if row["op_1to2"] == 0 and twin is not None and twin > i:
            differences.append(values[i] - values[twin])
    return deviation(np.array(differences)) / 2**0.5


def deviation(values: Floats) -> float:
    """Return the standard deviation about 0 of values [n], estimated by the median."""
    return float(1.4826 * np.median(np.abs(values)))


def noise_in_front(problem: Problem, seed: int) -> dict[str, Any]:
    """Points of the front, those of them that noise explains, and what the table holds without these."""
    rng = np.random.default_rng(seed)
    encoding, features = Encoding(problem.space), problem.features()
    free = np.array([features(row) for row in problem.rows])
    embedded = encoding.embed(encoding.points(problem.rows))
    x, groups = append_inputs(embedded, encoding.groups, free)
    y = np.log(problem.latency)
    on_front = non_dominated(np.column_stack([problem.latency, problem.accuracy]), DIRECTIONS)
    front, others = np.flatnonzero(on_front), rng.permutation(np.flatnonzero(~on_front))
    learned, left = others[:LEARNED], others[LEARNED : LEARNED + LEFT]
    process = GaussianProcess(x[learned], y[learned], groups)
    sigma = deviation(y[left] - process.mean(x[left]))
    noisy = front[y[front] < process.mean(x[front]) - 2 * sigma]
    rest = np.setdiff1d(np.arange(len(y)), noisy)
    return {
        "front": len(front),
        "lucky": len(noisy),
        "left_over": sigma,
        "without_lucky": problem.share([int(i) for i in rest]),
    }


def main() -> None:
    """All devices of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nas-bench-201", type=Path, required=True, help="the table as parquet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import pandas

    figure: dict[str, Any] = {}
    for device in (c for c in pandas.read_parquet(args.nas_bench_201).columns if c.startswith("latency_ms_")):
        problem = nas_bench_201(args.nas_bench_201, device)
        found = {
            "latency_noise": noise(problem, np.log(problem.latency)),
            "accuracy_noise": noise(problem, problem.accuracy),
            **noise_in_front(problem, args.seed),
        }
        figure[device] = found
        print(device, found, flush=True)
    write("search_limits", figure, (), seeds=[args.seed])


if __name__ == "__main__":
    main()
