"""Is the search for float blocks worth it? Its front against the known heuristic and against blocks drawn by chance,
at equal latency.

``python -m benchmarks.selective_quantization runs/select --data digits@96 --target openvino:int8 --model
S=runs/s/S.safetensors --random 24``

Of each model: a selective quantization (its journal, ``selective.json`` and images in the folder), then as many
sets of blocks drawn by chance as ``--random`` says (of every size alike), evaluated in the same way. Then the
search's front, the heuristic, all-int8, all-float and the drawn sets are timed side by side in the same rounds, so
that all are at the same speeds of the machine and none is there by the noise of one measurement. Compared are the
hypervolume of (latency, points lost) under the worst corner, as a share of what all points together hold, and at the
latency of each drawn set and of the heuristic how much mAP the best of the search loses that is no slower.
``results/selective_quantization.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.quantization import models
from benchmarks.record import RESULTS, write
from latency_db.core.target import Target
from nas.core.console_reporter import ConsoleReporter
from nas.core.pareto import hypervolume
from nas.core.paths import new_folder
from nas.data.source import DataPair
from nas.plotting.frontier_png import write_frontier_png
from nas.quantization.block_selection import FloatBlocks, SelectionPoint, points_lost, selection_front
from nas.quantization.measurements import SelectionMeasurements
from nas.quantization.mixed_precision import HEURISTIC, SelectionConfig, search_float_blocks, write_selection
from nas.quantization.mixed_precision_plot import SelectionPlot, selective_data
from nas.quantization.model import CalibrationConfig, calibrate_detector
from nas.training.data import open_training_data


def drawn(blocks: Sequence[str], count: int, seed: int) -> list[FloatBlocks]:
    """Sets of float blocks by chance: a size, then so many blocks; neither none nor all."""
    rng = random.Random(seed)
    plans: dict[FloatBlocks, None] = {}
    while len(plans) < min(count, 2 ** len(blocks) - 2):
        plans[frozenset(rng.sample(blocks, rng.randint(1, len(blocks) - 1)))] = None
    return list(plans)


def volume(points: Sequence[SelectionPoint], float_map: float, corner: tuple[float, float]) -> float:
    """Hypervolume in ms times points lost."""
    return hypervolume([(p.latency.value, points_lost(p, float_map)) for p in points], corner, ["min", "min"])


def at_equal_latency(point: SelectionPoint, searched: Sequence[SelectionPoint], float_map: float) -> dict[str, float]:
    """Points that a set loses, and those of the most accurate searched one that is no slower (to within the interval
    of the two)."""
    half = 0.0 if point.latency.high is None else point.latency.high - point.latency.value
    no_slower = [p for p in searched if p.latency.value <= point.latency.value + half]
    best = min((points_lost(p, float_map) for p in no_slower), default=float("nan"))
    return {"latency_ms": point.latency.value, "lost": points_lost(point, float_map), "searched_lost": best}


def compared(
    float_map: float, searched: Sequence[SelectionPoint], by_chance: Sequence[SelectionPoint], heuristic: SelectionPoint
) -> dict[str, Any]:
    """The figures of one model; ``searched``: the front of the search, the heuristic and all-int8."""
    everything = [*searched, *by_chance]
    corner = (max(p.latency.value for p in everything) * 1.01, max(points_lost(p, float_map) for p in everything) + 0.1)
    whole = volume(everything, float_map, corner)
    rows = [at_equal_latency(p, searched, float_map) for p in by_chance]
    known = [r for r in rows if r["searched_lost"] == r["searched_lost"]]
    alone = [p for p in searched if p.kept_float in (frozenset(), heuristic.kept_float)]
    return {
        "volume": {
            "searched": volume(searched, float_map, corner) / whole,
            "random": volume([*by_chance, *(p for p in searched if not p.kept_float)], float_map, corner) / whole,
            "heuristic": volume(alone, float_map, corner) / whole,
        },
        "heuristic": at_equal_latency(heuristic, [p for p in searched if p is not heuristic], float_map),
        "random": {
            "sets": len(rows),
            "won_or_even": mean(r["searched_lost"] <= r["lost"] for r in known) if known else None,
            "points_saved": mean(r["lost"] - r["searched_lost"] for r in known) if known else None,
        },
    }


def one(name: str, weights: Path, data: DataPair, args: argparse.Namespace) -> dict[str, Any]:
    """Search, draw, compare, draw the image."""
    folder = args.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    reporter = ConsoleReporter()
    subject = calibrate_detector(weights, data, Target.parse(args.target), CalibrationConfig(args.calibration), folder)
    probe = SelectionMeasurements(subject, data, folder, args.subset)
    found = search_float_blocks(
        subject, probe, SelectionConfig(args.along, args.trials, args.gains, args.subset), args.rounds, reporter
    )
    write_selection(folder, found, subject, data)
    chance = SelectionMeasurements(subject, data, new_folder(folder / "random"), args.subset, probe.reference_ms)
    by_chance = []
    with reporter.steps("sets by chance") as update:
        for i, plan in enumerate(plans := drawn(subject.blocks.choices, args.random, args.seed), 1):
            by_chance.append(chance.point(plan))
            update(
                i,
                len(plans),
                f"{by_chance[-1].latency.value:.3f} ms, {points_lost(by_chance[-1], found.float_map):+.2f} points lost",
            )
    final = list({p.kept_float: p for p in (*found.named.values(), *found.front)}.values())
    reporter.note(
        f"timing {len(final)} sets of the search and {len(by_chance)} drawn ones side by side, {args.rounds} rounds"
    )
    latencies, float_latency = chance.side_by_side([p.kept_float for p in (*final, *by_chance)], args.rounds)
    timed = [replace(p, latency=ms) for p, ms in zip((*final, *by_chance), latencies, strict=True)]
    searched, by_chance = timed[: len(final)], timed[len(final) :]
    named = {name: next(p for p in searched if p.kept_float == old.kept_float) for name, old in found.named.items()}
    if not args.dry and name == next(iter(models(args.model, [args.seed]))):
        front = selection_front(searched, float_latency.value)
        plot = SelectionPlot(name, args.target, data.name, timed, front, named, None, found.float_map, float_latency)
        image = selective_data(plot)
        write_frontier_png(RESULTS / "selective_quantization.png", image)
    return {**compared(found.float_map, searched, by_chance, named[HEURISTIC]), "sets": len(found.points), "blocks": len(found.model.blocks),
            "float": {"map": found.float_map, "latency_ms": float_latency.value}}  # fmt: skip


def main() -> None:
    """Every model, then the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--target", default="openvino:int8")
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--along", type=int, default=8)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--gains", choices=("measured", "predicted"), default="measured")
    parser.add_argument("--subset", type=int, default=100)
    parser.add_argument("--random", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print, write no results file")
    args = parser.parse_args()
    data = open_training_data(args.data, args.limit, ConsoleReporter())
    figure: dict[str, Any] = {"data": data.name, "target": args.target, "models": {}}
    for name, of_seed in models(args.model, [args.seed]).items():
        figure["models"][name] = one(name, of_seed[args.seed], data, args)
        print(json.dumps({name: figure["models"][name]}))
    if not args.dry:
        write("selective_quantization", figure, (), [args.seed])


if __name__ == "__main__":
    main()
