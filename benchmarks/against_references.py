"""The honest contest: are searched architectures better than the YOLOs that people would otherwise use, under the
same conditions?

``python -m benchmarks.against_references --out runs/contest --scale nano --data digits@96 --seeds 3``

1. The references take part at one image size (``--scale nano``: families scaled down in width until a 2-core machine
can train them; ``full``: as
   published). They are measured on the target.
2. A search of ``--space`` (``--fix`` restricts it, ``--seed-with`` puts references into its beginning) on the same
data and target, its budgets spread over
   the references' latencies, from a little below the fastest. It does not see the val accuracy of any trained
   network. With ``--part "CHOICE=VALUE …"`` (repeatable) every part of the space has a supernet and a search of its
   own, with those budgets that its smallest network meets: shared weights compare networks badly that differ in
   activation, neck or head (few-shot NAS, arXiv:2006.06863).
3. References and searched architectures are trained from fresh weights with the same recipe, budget and seeds, and
evaluated on the same val split.
4. All are measured in one bench, interleaved (:mod:`nas.bench.run`).

Figure: per reference the best searched architecture at its mAP (how many times as fast) and at its latency (how many
points of mAP more), each with the spread over seeds, and whether it is dominated: 1.15 times as fast at no less mAP,
or a point more at no more latency. Everything is kept as it comes: the same command resumes an interrupted
contest.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import RESULTS, Goal, write
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from nas.bench.report import bench_data, write_bench
from nas.bench.results import TRAINED, Accuracy, BenchModel, BenchResult
from nas.bench.run import BenchRequest, run_bench
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.search.certify import chosen
from nas.search.plan import SearchPlan
from nas.search.quickstart import CHOSEN, SUPERNET
from nas.search.run import search
from nas.search.settings import SearchSettings
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors
from search_spaces.architecture import Architecture, Value
from search_spaces.fixed_values import fixed_values
from search_spaces.references import FAMILIES
from search_spaces.spaces import SPACES, space_of
from search_spaces.trace import trace

FASTER, BETTER = 1.15, 1.0
NANO_GMACS_640 = 5.0
"""At nano scale a reference takes part up to so many GMACs at 640 px and 80 classes; at most two widths of a family
do."""
SIZES = ("T", "N", "S", "M", "L", "X")
DATABASE = "latencies.sqlite"
"""The contest's own: a figure is brought to the nominal speed of what its database holds, and budgets must be of the
same speed as the search."""


@dataclass(frozen=True)
class Entrant:
    """Who takes part: ``ours`` was searched."""

    name: str
    family: str
    architecture: Architecture
    ours: bool = False


def references(scale: str, image_size: int) -> list[Entrant]:
    """The references at an image size: as published, or each family's smallest network at the widths that are small
    enough."""
    found: list[Entrant] = []
    for family in FAMILIES:
        for name, a in list(FAMILIES[family].items())[: 1 if scale == "nano" else None]:
            space = space_of(a)
            if image_size not in space["image_size"].values:
                continue
            if scale == "full":
                found.append(Entrant(name, family, a.replace(image_size=image_size)))
                continue
            widths = [c for c in space.choices if c.name == "width"]  # YOLO-NAS has no multiple to scale it with
            own = float(a["width"]) if widths else 0.0
            scaled = [
                (float(w), a.replace(width=w, image_size=image_size))
                for c in widths
                for w in c.values
                if float(w) <= own
            ]
            small = [(w, s) for w, s in scaled if trace(space.graph(s), 80, 640).macs <= NANO_GMACS_640 * 1e9]
            found += [Entrant(name if w == own else f"{name} x{w / own:.2g}", family, s) for w, s in small[-2:]]
    return found


def models(entrants: Sequence[Entrant], data: DataPair, accuracy: Mapping[str, Sequence[float]]) -> list[BenchModel]:
    """As a bench takes them; ``accuracy`` gives mAP (0..1) per seed of those that were trained."""
    made = []
    for e in entrants:
        network = Network(e.architecture, len(data.classes), e.architecture.image_size)
        cost = trace(space_of(e.architecture).graph(e.architecture), network.classes)
        own = accuracy.get(e.name)
        source = f"mean of {len(own)} seeds" if own else ""
        known = Accuracy(100 * mean(own), TRAINED, data.name, data.fingerprint, source) if own else None
        made.append(BenchModel(e.name, e.family, network, cost.params, cost.macs, known))
    return made


def searched(args: argparse.Namespace, latencies: Sequence[float], data: DataPair, reporter: Reporter) -> list[Entrant]:
    """Search with budgets spread evenly (in ratio) from a tenth below the fastest reference's latency to the
    slowest's."""
    low, high = min(latencies) / 1.1, max(latencies)
    bounds = {name: low * (high / low) ** (i / (args.chosen - 1)) for i, name in enumerate(SIZES[: args.chosen])}
    if not args.part:
        return _searched(args, bounds, [], "", reporter)
    found = []
    with LatencyDB(args.out / DATABASE) as database:
        least = [
            Entrant(part, "smallest", SPACES[args.space].restrict(_fixed(args, part.split())).smallest)
            for part in args.part
        ]
        folder = new_folder(args.out / "smallest")
        request = BenchRequest(models(least, data, {}), [Target.parse(args.target)], folder, rounds=1)
        done = run_bench(request, reporter, database)
    for number, part in enumerate(args.part, 1):
        latency = done.main[part].latency
        assert latency is not None
        met = {name: bound for name, bound in bounds.items() if bound >= latency.value}
        if met:
            found += _searched(args, met, part.split(), str(number), reporter)
        else:
            reporter.note(
                f"{part}: not searched, its smallest network takes {latency.value:.3g} ms and the largest budget is {high:.3g} ms"
            )
    return found


def _fixed(args: argparse.Namespace, part: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    return fixed_values(SPACES[args.space], [f"image_size={args.image_size}", *args.fix, *part])


def _searched(
    args: argparse.Namespace, bounds: Mapping[str, float], part: Sequence[str], number: str, reporter: Reporter
) -> list[Entrant]:
    settings = SearchSettings(
        space=args.space,
        fixed=_fixed(args, part),
        data=args.data,
        limit=args.limit,
        target=args.target,
        trials=args.trials,
        sampler=args.sampler,
        seed=args.seed,
        seeded=tuple(args.seed_with.split(",")) if args.seed_with else (),
        budgets=",".join(f"{name}={bound:.4g}ms" for name, bound in bounds.items()),
        recipe={**SUPERNET, "epochs": args.supernet_epochs, "largest_first": args.largest_first},
        augment=False,
        eval_images=150,
        latency_db=str(args.out / DATABASE),
    )
    folder = args.out / f"search{number}"
    if (folder / "front.json").exists():  # finished: measured again, others might be chosen than were trained
        artifacts: Sequence[Artifact] = chosen(folder)
    else:
        settings = SearchSettings.read(folder) if (folder / "run.json").exists() else settings
        SearchPlan.parse(settings).check()
        artifacts = search(settings, new_folder(folder), reporter).artifacts
    return [Entrant(f"searched {number}{a.name}", "searched", a.architecture, ours=True) for a in artifacts]


def trained(
    args: argparse.Namespace, entrants: Sequence[Entrant], data: DataPair, reporter: Reporter
) -> dict[str, list[float]]:
    """Entrant -> mAP50-95 on the val split per seed; all from fresh weights with one recipe."""
    record = DataRecord(data.name, data.fingerprint)
    found: dict[str, list[float]] = {}
    for seed in range(args.seed, args.seed + args.seeds):
        artifacts = [
            Artifact(e.name, e.architecture, (), StudyRecord("contest", seed, None, 0), data.classes, record)
            for e in entrants
        ]
        recipe = Recipe(**{**CHOSEN, "epochs": args.epochs, "seed": seed})
        job = TrainJob(data, recipe, augment=args.augment)
        metrics = train_detectors(artifacts, job, new_folder(args.out / f"seed{seed}"), reporter)
        for e, m in zip(entrants, metrics, strict=True):
            found.setdefault(e.name, []).append(m.map)
    return found


def judged(entrants: Sequence[Entrant], accuracy: Mapping[str, Sequence[float]], done: BenchResult) -> dict[str, Any]:
    """Per reference: the best searched one at its mAP and at its latency; mAP in points, latency in ms."""
    latency = {name: entry.latency for name, entry in done.main.items()}

    def ms(e: Entrant) -> float:
        found = latency[e.name]
        assert found is not None
        return found.value

    def row(e: Entrant) -> dict[str, Any]:
        found, maps = latency[e.name], accuracy[e.name]
        assert found is not None
        return {
            "ms": found.value,
            "ms_interval": [found.low, found.high],
            "map": 100 * mean(maps),
            "map_deviation": 100 * stdev(maps) if len(maps) > 1 else None,
            "map_per_seed": [100 * m for m in maps],
            "params": done.main[e.name].model.params,
            "macs": done.main[e.name].model.macs,
        }

    ours = [e for e in entrants if e.ours]
    verdicts: dict[str, Any] = {}
    for r in (e for e in entrants if not e.ours):
        at_map = [e for e in ours if mean(accuracy[e.name]) >= mean(accuracy[r.name])]
        at_latency = [e for e in ours if ms(e) <= ms(r)]
        fast = min(at_map, key=ms, default=None)
        good = max(at_latency, key=lambda e: mean(accuracy[e.name]), default=None)
        faster = ms(r) / ms(fast) if fast else None
        gains = [100 * (a - b) for a, b in zip(accuracy[good.name], accuracy[r.name], strict=True)] if good else []
        better = mean(gains) if gains else None
        verdicts[r.name] = {
            **row(r),
            "faster_at_its_map": faster,
            "faster_by": fast.name if fast else None,
            "points_more_at_its_latency": better,
            "points_more_per_seed": gains,
            "more_by": good.name if good else None,
            "dominated": bool((faster or 0) >= FASTER or (better if better is not None else -100) >= BETTER),
        }
    return {"references": verdicts, "searched": {e.name: row(e) for e in ours}}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """All references are dominated."""
    rows = figure["references"]
    faster, points = figure["goal"]["faster"], figure["goal"]["points"]
    what = f"references dominated by a searched network ({faster:g}× as fast at their mAP, or {points:g} point better at their latency)"
    return [Goal(what, sum(row["dominated"] for row in rows.values()), f">= {len(rows)}", f"of {len(rows)}")]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the contest; the same command resumes it")
    parser.add_argument("--scale", choices=("nano", "full"), default="nano")
    parser.add_argument("--data", default="digits@96")
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--target", default="onnxruntime:fp32")
    parser.add_argument("--space", default="yolo-nano")
    parser.add_argument(
        "--fix", action="append", default=[], metavar="CHOICE=VALUE[,…]", help="of the search (repeatable)"
    )
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="'CHOICE=VALUE …'",
        help="a part of the space, searched for itself (repeatable)",
    )
    parser.add_argument("--seed-with", help="references that are among the first candidates")
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--sampler", default="guided")
    parser.add_argument("--chosen", type=int, default=6, choices=(2, 3, 4, 5, 6), help="sizes to choose")
    parser.add_argument("--supernet-epochs", type=int, default=4)
    parser.add_argument(
        "--largest-first",
        type=float,
        default=0.7,
        help="share of the supernet's steps in which its largest network learns alone",
    )
    parser.add_argument("--epochs", type=int, default=4, help="of every training")
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="of the final bench")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the search, and the first of the trainings")
    return parser.parse_args()


def print_verdicts(figure: Mapping[str, Any]) -> None:
    """Print a line per reference."""
    for name, v in figure["references"].items():
        faster, more = v["faster_at_its_map"], v["points_more_at_its_latency"]
        speed_text = f"{faster:.2f}x as fast at its mAP" if faster else "nobody has its mAP"
        more_text = f"{more:+.1f} points at its latency" if more is not None else "nobody is as fast"
        print(
            f"{name}: {v['ms']:.2f} ms, mAP {v['map']:.1f}; {speed_text}, {more_text}; {'dominated' if v['dominated'] else 'not dominated'}"
        )


def main() -> None:
    """Measure, search, train, measure, judge."""
    args = arguments()
    reporter = ConsoleReporter()
    new_folder(args.out)
    data = open_training_data(args.data, args.limit, reporter)
    target = Target.parse(args.target)
    others = references(args.scale, args.image_size)
    reporter.note(f"{len(others)} references: {', '.join(e.name for e in others)}")
    with LatencyDB(args.out / DATABASE) as database:
        request = BenchRequest(models(others, data, {}), [target], new_folder(args.out / "references"), rounds=1)
        before = run_bench(request, reporter, database)
    latencies = [e.latency.value for e in before.main.values() if e.latency]
    everyone = [*others, *searched(args, latencies, data, reporter)]
    accuracy = trained(args, everyone, data, reporter)
    request = BenchRequest(models(everyone, data, accuracy), [target], new_folder(args.out / "bench"), args.rounds)
    done = run_bench(request, reporter)
    title = f"Searched against references on {data.name}: same recipe, budget and seeds"
    image = bench_data(done, title=title)
    write_bench(args.out / "bench", done, image)
    (RESULTS / "against_references.png").write_bytes((args.out / "bench" / "bench.png").read_bytes())
    figure = {
        **judged(everyone, accuracy, done),
        "goal": {"faster": FASTER, "points": BETTER},
        "data": data.name,
        "image_size": args.image_size,
        "target": args.target,
        "space": args.space,
        "fixed": args.fix,
        "parts": args.part,
        "recipe": {**CHOSEN, "epochs": args.epochs, "augment": args.augment},
    }
    print_verdicts(figure)
    write("against_references", figure, goals_of(figure), seeds=range(args.seed, args.seed + args.seeds))


if __name__ == "__main__":
    main()
