"""Does a search end with a front in every edge runtime? One search per runtime, all with one supernet.

``python -m benchmarks.search_runtimes RUN --out runs/search-runtimes``

``RUN`` is the folder of ``nas quickstart``. Each search has its space, images and supernet, measures every candidate in
its own runtime, and evaluates int8 candidates as LiteRT computes them. fp32 accuracies are evaluated once and shared.
Figures per target: candidates, points of the front, latency and mAP (of the supernet) of S, M and L, and the mean
latency of all candidates in ms. What is finished in ``--out`` is kept. ``results/search_runtimes.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.record import Goal, write
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.search.chosen_files import supernet_of
from nas.search.report.front_files import read_front
from nas.search.run import search
from nas.search.settings import SearchSettings

TARGETS = ("ncnn:fp32", "mnn:fp32", "litert:fp32", "litert:int8")
LATENCY, ACCURACY = "latency_ms", "map"
LEAST = 3
"""Goal: points of each front, so that S, M and L differ."""


def searched(target: str, args: argparse.Namespace, reporter: ConsoleReporter) -> dict[str, Any]:
    """Search for one target and return its figures."""
    settings = SearchSettings.read(args.run)
    supernet = str(supernet_of(args.run).resolve())
    settings = replace(settings, target=target, trials=args.trials, supernet=supernet, seed=args.seed)
    folder = args.out / target.replace(":", "-")
    result = search(settings, folder, reporter)
    front = read_front(folder / "front.json").candidates
    chosen = {
        artifact.name: {e.name: e.value for e in artifact.estimates if e.name in (LATENCY, ACCURACY)}
        | {"architecture": artifact.architecture.id}
        for artifact in result.artifacts
    }
    return {
        "target": target,
        "candidates": len(result.candidates),
        "front": len(front),
        "mean_ms": fmean(c[LATENCY].value for c in result.candidates if LATENCY in c),
        "chosen": chosen,
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Points of the smallest front."""
    least = min(row["front"] for row in figure["searches"])
    targets = ", ".join(row["target"] for row in figure["searches"])
    return [Goal(f"points of the smallest front, searches on {targets}", least, f">= {LEAST}")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search on every target and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a quickstart")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; what is finished is kept")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    new_folder(args.out)
    searches = []
    for target in args.targets:
        searches.append(searched(target, args, reporter))
        reporter.note(f"{target}: {searches[-1]['candidates']} candidates, {searches[-1]['front']} on the front")
    figure = {"trials": args.trials, "searches": searches}
    write("search_runtimes", figure, goals_of(figure), (args.seed,))


if __name__ == "__main__":
    main()
