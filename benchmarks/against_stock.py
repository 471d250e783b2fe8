"""Are S, M and L of a search on one's own data better than stock YOLOs under one recipe?

``python -m benchmarks.against_stock --run runs/search --weights yolov8n.pt --data deeppcb --split test --epochs 80
--finetune-epochs 20 --seeds 2 --out runs/stock``

``--run`` is the folder of a finished ``nas search --init`` with ``--weights``. The stock networks are those of
``--models``, each as published and with half of its width, at ``--image-size``; S, M and L have the image sizes that
the search chose. With ``--resized 320``, the half of the network of ``--weights`` also takes part at that image size,
from random weights: what image size brings without a search. It is no stock network of the goal. Two contests, each
with one recipe, the same seeds and the same number of epochs for all:

- ``scratch``: all networks from random weights. S, M and L are those of ``--scratch-run``, a search from random
  weights, where one is given, otherwise those of ``--run``.
- ``trained``: the network of ``--weights`` from these, S, M and L from the supernet of the run. For the other stock
  networks there are no weights. S, M and L are trained for ``--finetune-epochs``, the stock network for these and the
  supernet's epochs together, so that all have seen the images equally often.

All networks are judged on ``--split`` by the weights of their last epoch. Latency from image to detections is measured
on ``--target`` in one interleaved bench per contest (``nas bench --end-to-end``), with images shrunk as the networks
were trained: in the way of ``--weights`` in ``trained``, by averaging areas in ``scratch``. A searched network dominates
a stock network if it is 1.15 times as fast at no less mAP, or a point of mAP better at no more latency. ``flat``: what
the last fifth of the epochs brought the network of ``--weights`` on the val split. What is finished in ``--out`` is
kept; the same command resumes. ``--finished FILE`` keeps the mAP of each finished training, without its weights, so that
other machines continue; ``--only NAME,NAME`` trains a part. ``results/against_references_<data>.json``, ``.png`` of
``trained``, ``results/against_references_<data>_scratch.json``, ``.png`` of ``scratch``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.finished_trainings import FinishedTrainings
from benchmarks.record import RESULTS, Goal, write
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from nas.bench.report import bench_data, write_bench
from nas.bench.results import TRAINED, Accuracy, BenchModel, BenchResult
from nas.bench.run import BenchRequest, run_bench
from nas.core.architecture_file import Artifact, read_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.references import reference_artifact, with_classes_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair, find_data
from nas.data.transforms import AREA
from nas.pretrained.convert import weights_file
from nas.profiling.scene import Scene
from nas.search.chosen_files import supernet_of
from nas.supernet.weights import digest_of, interpolation_of, load_detector, load_supernet
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.logging_config import LoggingConfig
from nas.training.recipe import Recipe
from nas.training.validation import detect_and_score
from search_spaces.spaces import space_of
from search_spaces.trace import trace

FASTER, BETTER, FLAT = 1.15, 1.0, 2.0
"""Goals: how many times as fast at equal mAP, or points of mAP better at equal latency; points of mAP that the last
fifth of the epochs may bring."""
SIZES = ("S", "M", "L")
STARTS = {"scratch": "random weights", "trained": "trained weights"}
"""Contest -> what its networks begin with, for the title of the plot."""


@dataclass(frozen=True)
class Entrant:
    """A network, and the weights that it begins with where it has trained ones."""

    artifact: Artifact
    init: Path | None
    ours: bool = False
    control: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.artifact.name


def entrants(args: argparse.Namespace, start: str, data: DataPair) -> list[Entrant]:
    """Networks of one contest.

    The stock networks at both widths, then S, M and L at their own image sizes, then the resized half if asked. From
    trained weights, those alone that have any.
    """
    run = args.scratch_run if start == "scratch" and args.scratch_run else args.run
    supernet = supernet_of(run) if start == "trained" else None
    ours = [with_classes_of(read_artifact(run / f"{name}.json"), data) for name in SIZES] if run else []
    size = args.image_size or ours[0].architecture.image_size.value
    weights = weights_file(args.weights)
    found, resized = [], []
    for model in args.models.split(","):
        stock = with_classes_of(reference_artifact(model), data)
        whole = stock.architecture.replace(image_size=size)
        width = min(
            space_of(whole)["width"].values,
            key=lambda w, own=whole["width"]: abs(float(w) - float(own) / 2),  # type: ignore[misc]
        )
        found.append(Entrant(replace(stock, architecture=whole), weights if model == args.model else None))
        half = replace(stock, name=f"{model}-half", architecture=whole.replace(width=width))
        found.append(Entrant(half, None))
        if args.resized and model == args.model:
            large = replace(half, architecture=half.architecture.replace(image_size=args.resized))
            resized.append(Entrant(replace(large, name=f"{half.name}-{args.resized}"), None, control=True))
    every = [*found, *(Entrant(a, supernet, ours=True) for a in ours), *resized]
    return [e for e in every if start == "scratch" or e.init]


def judged(args: argparse.Namespace, artifact: Artifact, job: TrainJob, path: Path) -> float:
    """mAP50-95 of weights on the split that judges, 0..1."""
    split = replace(job.data, val=find_data(args.data).read(args.split)).interpolated(interpolation_of(job.init))
    return detect_and_score(load_detector(path)[0], split, artifact.architecture.image_size).map


def epochs_of(args: argparse.Namespace, start: str, entrant: Entrant) -> int:
    """Epochs of an entrant. From trained weights, a stock network also has those of the supernet."""
    if start == "scratch":
        return int(args.epochs)
    before = load_supernet(supernet_of(args.run))[2]["recipe"]["epochs"]
    return int(args.finetune_epochs + (0 if entrant.ours else before))


def contest(
    args: argparse.Namespace, start: str, those: Sequence[Entrant], data: DataPair, reporter: Reporter
) -> dict[str, list[dict[str, Any]]]:
    """Each entrant's finished trainings per seed, all from one kind of start."""
    found: dict[str, list[dict[str, Any]]] = {e.name: [] for e in those}
    finished = FinishedTrainings(args.finished or args.out / "finished.json")
    order = sorted(those, key=lambda e: macs_of(e, data))  # networks of similar cost train side by side
    for seed in range(args.seeds):
        jobs = [(e.artifact, job_of(args, start, e, data, seed)) for e in order]
        folder = new_folder(args.out / f"{start}{seed}")
        entries = finished.train(jobs, args.split, partial(judged, args), folder, reporter, args.at_once)
        for e, entry in zip(order, entries, strict=True):
            found[e.name].append(entry)
    return found


def job_of(args: argparse.Namespace, start: str, entrant: Entrant, data: DataPair, seed: int) -> TrainJob:
    """The training of an entrant; the epochs are a multiple of 5."""
    epochs = epochs_of(args, start, entrant)
    return TrainJob(
        data,
        Recipe(epochs=epochs, batch_size=args.batch_size, seed=seed),
        entrant.init if start == "trained" else None,
        logging=LoggingConfig(eval_every=max(1, epochs // 5)),
    )


def macs_of(entrant: Entrant, data: DataPair) -> int:
    """Multiplications of an entrant for one image."""
    a = entrant.artifact.architecture
    return trace(space_of(a).graph(a), len(data.classes)).macs


def bench(
    args: argparse.Namespace,
    start: str,
    those: Sequence[Entrant],
    maps: Mapping[str, Sequence[float]],
    data: DataPair,
    reporter: Reporter,
) -> BenchResult:
    """Latency from image to detections of all in one contest, interleaved."""
    models = []
    for e in those:
        a = e.artifact.architecture
        cost = trace(space_of(a).graph(a), len(data.classes))
        known = Accuracy(100 * mean(maps[e.name]), TRAINED, data.name, data.fingerprint, f"mean of {args.seeds} seeds")
        family = "searched" if e.ours else e.name.removesuffix("-half")
        network = Network(a, len(data.classes), a.image_size)
        how = interpolation_of(e.init) if start == "trained" else AREA
        models.append(BenchModel(e.name, family, network, cost.params, cost.macs, known, interpolation=how))
    folder = new_folder(args.out / f"bench-{start}")
    request = BenchRequest(models, [Target.parse(args.target)], folder, args.rounds, scene=Scene.of(data.val))
    done = run_bench(request, reporter)
    title = f"S, M and L against stock networks on {data.name}, from {STARTS[start]}"
    write_bench(folder, done, bench_data(done, title=title))
    return done


def latencies(done: BenchResult) -> dict[str, list[float | None]]:
    """Latency of each network in ms, with its 95 % interval."""
    return {n: [e.latency.value, e.latency.low, e.latency.high] for n, e in done.main.items() if e.latency}


def verdicts(
    those: Sequence[Entrant], maps: Mapping[str, Sequence[float]], ms: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Per stock network: the fastest searched one at its mAP, and the best at its latency."""
    ours = [e.name for e in those if e.ours]
    points = {name: 100 * mean(values) for name, values in maps.items()}
    found = {}
    for stock in (e for e in those if not e.ours):
        name = stock.name
        fast = min((o for o in ours if points[o] >= points[name]), key=ms.__getitem__, default=None)
        good = max((o for o in ours if ms[o] <= ms[name]), key=points.__getitem__, default=None)
        faster = ms[name] / ms[fast] if fast else None
        better = points[good] - points[name] if good else None
        found[name] = {
            "faster_at_its_map": faster,
            "faster_by": fast,
            "points_more_at_its_latency": better,
            "more_by": good,
            "control": stock.control,
            "dominated": (faster or 0) >= FASTER or (better if better is not None else -100) >= BETTER,
        }
    return found


def gain_of_last_fifth(training: Mapping[str, Any]) -> float | None:
    """Points of mAP on the val split between four fifths of the epochs and the end; None if that was not evaluated."""
    values = training["evaluations"]
    return 100 * (values[-1] - values[-2]) if len(values) > 1 else None


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """All stock networks are dominated, in each contest."""
    where = f"{figure['data_name']}, {figure['split']} split"
    goals = []
    for start, one in figure["contests"].items():
        rows = [row for row in one["verdicts"].values() if not row["control"]]
        what = f"stock networks dominated by S, M or L, {where}, from {start}"
        goals.append(Goal(what, sum(row["dominated"] for row in rows), f">= {len(rows)}", f"of {len(rows)}"))
        if one["flat"] is not None:
            what = (
                f"mAP that the last fifth of the epochs brings {figure['model']}, {where.split(',')[0]}, from {start}"
            )
            goals.append(Goal(what, one["flat"], f"<= {FLAT:g}", "points"))
    return goals


def measured(
    args: argparse.Namespace, start: str, those: Sequence[Entrant], data: DataPair, reporter: Reporter
) -> dict[str, Any]:
    """One contest: all are trained, benched and judged."""
    trainings = contest(args, start, those, data, reporter)
    found = {name: [one["map"] for one in each] for name, each in trainings.items()}
    done = bench(args, start, those, found, data, reporter)
    return {
        "map": {
            n: {"mean": 100 * mean(v), "deviation": 100 * stdev(v) if len(v) > 1 else None, "seeds": [100 * x for x in v]}
            for n, v in found.items()
        },
        "ms": latencies(done),
        "verdicts": verdicts(those, found, {n: e.latency.value for n, e in done.main.items() if e.latency}),
        "flat": gain_of_last_fifth(trainings[args.model][0]),
        "trained_on": sorted({one["machine"] for each in trainings.values() for one in each}),
        "epochs": {e.name: epochs_of(args, start, e) for e in those},
        "params": {n: e.model.params for n, e in done.main.items()},
        "macs": {n: e.model.macs for n, e in done.main.items()},
        "image_size": {e.name: str(e.artifact.architecture.image_size) for e in those},
    }  # fmt: skip


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a finished nas search --init")
    parser.add_argument(
        "--scratch-run", type=Path, help="folder of a finished nas search without --init, for the contest from scratch"
    )
    parser.add_argument("--weights", type=Path, required=True, help="the trained detector of --init")
    parser.add_argument("--models", default="yolov8n,yolo11n,yolo26n", help="stock networks, at both widths")
    parser.add_argument("--image-size", type=int, help="of the stock networks (default: that of S)")
    parser.add_argument(
        "--resized", type=int, help="another image size, at which half of the network of --weights trains"
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test", help="split that judges")
    parser.add_argument("--target", default="onnxruntime:fp32")
    parser.add_argument("--epochs", type=int, default=80, help="from random weights")
    parser.add_argument("--finetune-epochs", type=int, default=20, help="of S, M and L from the supernet")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of the bench")
    parser.add_argument("--starts", default="trained,scratch", help="contests to hold")
    parser.add_argument("--at-once", type=int, help="trainings that run concurrently (default: one per core)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings; what is finished is kept")
    parser.add_argument("--finished", type=Path, help="JSON file of finished trainings (default: in --out)")
    parser.add_argument("--only", help="train these networks alone, for --finished: no result is written")
    args = parser.parse_args(arguments)
    if args.run is None and ("trained" in args.starts or not (args.scratch_run or (args.only and args.image_size))):
        parser.error("--run is missing; --starts scratch goes without, with --scratch-run, or --only and --image-size")
    args.model = load_detector(weights_file(args.weights))[1].name
    if args.model not in args.models.split(","):
        parser.error(f"--models {args.models} lacks {args.model}, the network of --weights")
    return args


def part(names: str, those: Sequence[Entrant]) -> list[Entrant]:
    """Those of some names. Raises SystemExit for a name that none has."""
    named = {e.name: e for e in those}
    if unknown := set(names.split(",")) - set(named):
        raise SystemExit(f"--only {','.join(sorted(unknown))}; expected some of {', '.join(named)}")
    return [named[name] for name in names.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, judge."""
    args = parsed(arguments)
    reporter = ConsoleReporter()
    data = open_training_data(args.data, None, reporter)
    for start in args.starts.split(","):
        those = entrants(args, start, data)
        if args.only:
            contest(args, start, part(args.only, those), data, reporter)
            continue
        one = measured(args, start, those, data, reporter)
        name = f"against_references_{data.name}" + ("_scratch" if start == "scratch" else "")
        (RESULTS / f"{name}.png").write_bytes((args.out / f"bench-{start}" / "bench.png").read_bytes())
        figure = {
            "contests": {start: one}, "model": args.model, "weights": digest_of(args.weights), "data": data.fingerprint,
            "data_name": data.name, "split": args.split, "target": args.target,
        }  # fmt: skip
        write(name, figure, goals_of(figure), range(args.seeds))


if __name__ == "__main__":
    main()
