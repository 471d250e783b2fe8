"""Measures networks of a search space, spread over their MACs, into a latency database: what
``benchmarks.latency_predictor --database`` is judged on.

``python -m benchmarks.collect_latencies latencies.sqlite --target onnxruntime:fp32 --target openvino:fp32 --networks
150``

Everything measured is kept at once, under its content: stopped and started again with the same options it resumes
where it was. Then what was measured while the machine was off its nominal speed is measured again
(:mod:`latency_db.database.remeasure`), at most ``--passes`` times.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Protocol, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.remeasure import remeasure
from nas.data.source import open_data
from nas.estimators.base import Context
from nas.estimators.latency import Latency
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.fixed_values import fixed_values
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES
from search_spaces.trace import trace

DRAWN = 8  # networks drawn for every one that is kept


def spread_over_macs(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """``count`` random architectures whose MACs are spread evenly on a log scale, in random order.

    Uniform over a space's choices, most networks are of middling size. The order is random so that a machine which
    slows down with time does not look like a device that is slow on large networks. Raises InputError if the space has
    fewer architectures.
    """
    rng = random.Random(seed)
    drawn = {a.id: a for a in (space.sample(rng) for _ in range(DRAWN * count))}
    size = {a.id: math.log(trace(space.graph(a), 80).macs) for a in drawn.values()}
    if len(drawn) < count:
        raise InputError(
            f"{count} networks of {space.name}",
            f"at most the {len(drawn)} that were found in it",
            "allow more of its choices",
        )
    low, high = min(size.values()), max(size.values())
    kept = []
    for i in range(count):
        wanted = low + (high - low) * (i + 0.5) / count
        nearest = min(drawn.values(), key=lambda a: abs(size[a.id] - wanted))
        kept.append(drawn.pop(nearest.id))
    rng.shuffle(kept)
    return kept


def collect(
    architectures: Sequence[Architecture],
    targets: Sequence[Target],
    database: LatencyDB,
    context: Context,
    protocol: Protocol,
    passes: int,
) -> int:
    """Measure every architecture on every target, one after the other; how many failed. A failure is printed and leaves
    nothing."""
    failed, asked, start = 0, 0, time.monotonic()
    with ExitStack() as stack:
        estimators = []
        for target in targets:
            estimators.append(Latency(replace(context, target=target), protocol))
            stack.callback(estimators[-1].close)
        total = len(architectures) * len(targets)
        for architecture in architectures:
            for target, latency in zip(targets, estimators, strict=True):
                asked += 1
                try:
                    found = latency(architecture)
                    outcome = f"{found.value:.3f} ms"
                except InputError as error:
                    failed += 1
                    outcome = f"failed: {error}"
                rest = (time.monotonic() - start) / asked * (total - asked)
                print(
                    f"{asked}/{total} {architecture.id} at {architecture['image_size']} px on {target}: {outcome}; {rest / 60:.0f} min left",
                    flush=True,
                )
        for number in range(1, passes + 1):
            left = [
                remeasure(database, e.profiler, [e.context.workload(a) for a in architectures], _say)
                for e in estimators
            ]
            print(f"pass {number}: {sum(left)} of {total} measured off the nominal speed still", flush=True)
            if not any(left):
                break
    return failed


def _say(workload: Workload, measured: Measurement, better: bool) -> None:
    print(
        f"again {workload.key} on {measured.target}: {measured.median_ms:.3f} ms, {'kept' if better else 'no nearer to the nominal speed'}",
        flush=True,
    )


def main() -> None:
    """Collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="file or URL")
    parser.add_argument("--space", default="yolo-nano")
    parser.add_argument(
        "--fix",
        action="append",
        default=[],
        metavar="CHOICE=VALUE[,…]",
        help="keep a choice of the space at these values (repeatable)",
    )
    parser.add_argument("--target", action="append", help="repeatable; default onnxruntime:fp32")
    parser.add_argument("--networks", type=int, default=150)
    parser.add_argument("--num-classes", type=int, default=80)
    parser.add_argument("--data", help="images to calibrate int8 with")
    parser.add_argument(
        "--processes", type=int, default=3, help="fresh processes that share the effort on each network"
    )
    parser.add_argument(
        "--passes", type=int, default=3, help="how often what was measured off the nominal speed may be measured again"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    space = SPACES[args.space].restrict(fixed_values(SPACES[args.space], args.fix))
    targets = [Target.parse(text) for text in args.target or ["onnxruntime:fp32"]]
    architectures = spread_over_macs(space, args.networks, args.seed)
    with tempfile.TemporaryDirectory() as scratch, LatencyDB(args.database) as database:
        data = open_data(args.data) if args.data else None
        context = Context(space, args.num_classes, data, database=database, scratch=Path(scratch))
        protocol = replace(SEARCHING, processes=args.processes, most_processes=3 * args.processes)
        failed = collect(architectures, targets, database, context, protocol, args.passes)
    print(
        f"{len(architectures) * len(targets) - failed} latencies in {args.database}"
        + (f", {failed} failed" if failed else "")
    )


if __name__ == "__main__":
    main()
