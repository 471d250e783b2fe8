"""What a search without any training is worth, and what it costs.

``python -m benchmarks.zero_cost --candidates 200 --table yolobench.parquet``

Cost: seconds to score ``--candidates`` random architectures of a space with pre-activation NWOT (measuring their
latency is not counted). Worth, when a table is given: of the 968 trained detectors of YOLOBench (arXiv:2307.13901;
Deeplite/deeplite-torch-zoo, results/yolobench, with a column ``nwot_preact``), those on the front of *measured
latency and NWOT* are looked up in the true table: the hypervolume that they hold of the true front's (log latency,
mAP50-95, reference = the worst of the table), for every latency and accuracy column. Chance is the same number of
detectors drawn at random.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import write
from nas.core.pareto import hypervolume, non_dominated
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context
from search_spaces.spaces import SPACES

DIRECTIONS = ("min", "max")
DRAWS = 200


def cost(space_name: str, image_size: int, candidates: int) -> dict[str, Any]:
    """Seconds to score random architectures, one after the other."""
    space = SPACES[space_name].restrict({"image_size": (image_size,)})
    score = ESTIMATORS["nwot"](Context(space, 80))
    rng = random.Random(0)
    seconds = []
    for _ in range(candidates):
        architecture = space.sample(rng)
        start = time.perf_counter()
        score(architecture)
        seconds.append(time.perf_counter() - start)
    return {
        "space": space_name,
        "image_size": image_size,
        "candidates": candidates,
        "seconds": sum(seconds),
        "seconds_median": median(seconds),
    }


def worth(latency: NDArray[np.float64], score: NDArray[np.float64], accuracy: NDArray[np.float64]) -> dict[str, float]:
    """Return shares of the true front's hypervolume: of the front by score, and of as many random rows (mean).

    All arrays are [rows]; latency in ms.
    """
    true = np.column_stack([np.log(latency), accuracy])
    reference = [true[:, 0].max(), true[:, 1].min()]
    whole = hypervolume(true, reference, DIRECTIONS)
    chosen = non_dominated(np.column_stack([latency, score]), DIRECTIONS)
    rng = np.random.default_rng(0)
    drawn = [
        hypervolume(true[rng.choice(len(true), int(chosen.sum()), replace=False)], reference, DIRECTIONS)
        for _ in range(DRAWS)
    ]
    return {
        "front_size": int(chosen.sum()),
        "of": len(true),
        "share": hypervolume(true[chosen], reference, DIRECTIONS) / whole,
        "share_by_chance": float(np.mean(drawn)) / whole,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="yolo-nano")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--table", type=Path, help="YOLOBench as parquet")
    args = parser.parse_args()
    figure: dict[str, Any] = {"cost": cost(args.space, args.image_size, args.candidates)}
    print(f"{args.candidates} candidates scored in {figure['cost']['seconds']:.0f} s", flush=True)
    if args.table:
        import pandas

        table = pandas.read_parquet(args.table)
        latencies = [c for c in table.columns if c.startswith("latency_ms")]
        accuracies = [c for c in table.columns if c.startswith("map")]
        figure["yolobench"] = {}
        for on in latencies:
            for what in accuracies:
                rows = table[[on, "nwot_preact", what]].dropna().to_numpy(np.float64)
                figure["yolobench"][f"{what} x {on}"] = worth(rows[:, 0], rows[:, 1], rows[:, 2])
        for name, row in figure["yolobench"].items():
            print(
                f"{name}: {row['share']:.1%} by {row['front_size']} of {row['of']} (chance {row['share_by_chance']:.1%})"
            )
    write("zero_cost", figure, ())


if __name__ == "__main__":
    main()
