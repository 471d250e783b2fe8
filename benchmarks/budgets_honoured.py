"""Do S, M and L keep to their latency budgets when they are measured again later?

``python -m benchmarks.budgets_honoured --out runs/budgets``

Ten searches without training (``--accuracy nwot``) in two spaces on two runtimes, each with three budgets drawn
log-uniformly between shares of YOLOv8n's latency on the same target that networks of the space reach. When all have
ended, every pick is measured again, in fresh processes and interleaved within its run (``nas certify``). Figure: the
share of picks whose median is at most 2 % over the budget, of those whose new measurements were clean; contended ones
are counted apart. Picks without a candidate within the budget do not count. A quiet machine is needed. What is finished
in ``--out`` is kept; the same command resumes. ``results/budgets_honoured.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from nas.core.atomic import atomic_write
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.search.certify import certify

SPACES, RUNTIMES = {"yolo-nano": 0.15, "yolo-universal-nano": 0.5}, ("onnxruntime", "openvino")
"""Space -> smallest budget, a share of the reference's latency."""
LARGEST = 0.9
"""Share of the reference's latency that is the largest budget."""
OVER, HONOURED = 0.02, 0.95
"""A pick honours its budget if it is at most so much over it; the goal is the share of picks that do."""


def nas(*arguments: object) -> str:
    """Run ``nas`` and return what it prints. Raises CalledProcessError if it fails; its messages are shown."""
    command = [sys.executable, "-m", "nas", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def reference_ms(target: str, database: Path) -> float:
    """Latency of YOLOv8n on a target, ms."""
    found = json.loads(nas("measure", "yolov8n", "--target", target, "--latency-db", database, "--json"))
    records = found if isinstance(found, list) else [found]
    return float(records[0]["median_ms"])


def budgets_of(rng: random.Random, reference: float, smallest: float) -> dict[str, float]:
    """Draw three rising budgets in ms, none below a share of the reference's latency."""
    low, high = (math.log(share * reference) for share in (smallest, LARGEST))
    return dict(zip("SML", sorted(math.exp(rng.uniform(low, high)) for _ in "SML"), strict=True))


def searched(args: argparse.Namespace, number: int) -> tuple[Path, dict[str, float]]:
    """Run one search unless it is there; return its folder and budgets in ms."""
    space, runtime = list(SPACES)[number % 2], RUNTIMES[number // 2 % 2]
    target, run = f"{runtime}:fp32@{args.image_size}", args.out / f"search{number}"
    asked, database = args.out / f"search{number}.json", args.out / "latencies.sqlite"
    if not asked.is_file():
        budgets = budgets_of(random.Random(f"{args.seed}/{number}"), reference_ms(target, database), SPACES[space])
        atomic_write(asked, json.dumps({"target": target, "space": space, "budgets": budgets}))
    budgets = json.loads(asked.read_text())["budgets"]
    if not (run / "front.json").is_file():
        new: list[object] = ["--space", space, "--fix", f"image_size={args.image_size}", "--target", target]
        new += ["--accuracy", "nwot", "--trials", args.trials, "--seed", number, "--latency-db", database]
        new += ["--budgets", ",".join(f"{name}={ms:.4f}ms" for name, ms in budgets.items()), "--out", run]
        nas("search", *(["--resume", run] if (run / "run.json").is_file() else new))
    return run, budgets


def measured_again(args: argparse.Namespace, run: Path, budgets: Mapping[str, float], reporter: Reporter) -> list[Any]:
    """Measure the picks of a run again unless that is done; one record for each."""
    answer = run.with_suffix(".again.json")
    if not answer.is_file():
        records = [
            {
                "run": run.name,
                "name": c.name,
                "target": str(c.measured[0].target),
                "budget_ms": budgets[c.name],
                "reported_ms": c.reported.value,
                "again_ms": c.median_ms,
                "verdicts": [m.verdict for m in c.measured],
            }
            for c in certify(run, args.repeat, reporter, time_surroundings=False)
            if c.reported.value <= budgets[c.name] * (1 + OVER)
        ]
        atomic_write(answer, json.dumps(records))
    found: list[Any] = json.loads(answer.read_text())
    return found


def figure(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of picks within their budgets, clean and contended apart."""
    found: dict[str, Any] = {"picks": list(records)}
    clean = [r for r in records if all(v == "clean" for v in r["verdicts"])]
    for name, part in (("clean", clean), ("contended", [r for r in records if r not in clean])):
        within = [r["again_ms"] <= r["budget_ms"] * (1 + OVER) for r in part]
        found[name] = {"picks": len(part), "within": sum(within)}
    return found


def goals_of(found: Mapping[str, Any]) -> list[Goal]:
    """The share of clean picks within their budgets; none without a clean one."""
    clean = found["clean"]
    if not clean["picks"]:
        return []
    what = f"picks at most {OVER:.0%} over their budget when measured again, of {clean['picks']} clean ones"
    return [Goal(what, clean["within"] / clean["picks"], f">= {HONOURED:g}", "share")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, measure again, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--repeat", type=int, default=3, help="new measurements of each pick")
    parser.add_argument("--seed", type=int, default=0, help="of the budgets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the searches; what is finished is kept")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    new_folder(args.out)
    runs = [searched(args, number) for number in range(args.searches)]
    records = [one for run, budgets in runs for one in measured_again(args, run, budgets, reporter)]
    found = figure(records) | {"image_size": args.image_size, "trials": args.trials, "searches": args.searches}
    write("budgets_honoured", found, goals_of(found), range(args.searches))


if __name__ == "__main__":
    main()
