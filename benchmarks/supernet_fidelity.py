"""Does the supernet rank architectures as training each of them alone does?

``python -m benchmarks.supernet_fidelity --out runs/fidelity``
``python -m benchmarks.supernet_fidelity --weights yolov8n.pt --data deeppcb --split test --image-size 224
--architectures 20 --supernet-epochs 12 --epochs 12 --out runs/fidelity``

A supernet is trained; ``--architectures`` of its space, spread evenly over the range of MACs (the nearest of 400
random ones, the smallest and the largest) are evaluated with its weights on the val split, and each is trained alone
and evaluated on ``--split``. Figure: Kendall's tau-b between the two mAP50-95, with the 95 % percentile interval of a
bootstrap over architectures; the same among the middle third by latency; beside it what ranking by MACs alone and by
NWOT reaches, and how far the accuracy straight from the supernet is from that of training alone, on the val split.

Without ``--weights`` the space is that of ``nas quickstart``, and all weights begin at random. With them the space is
what they cover (``nas search --init``), the supernet begins as the detector, and so does every network that is trained
alone, narrowed as in the supernet before its training. ``--supernet`` takes a finished supernet of that space
(``nas supernet`` makes one). ``--run`` adds S, M and L of a search: each is trained alone for as many epochs as the
supernet, and its mAP on ``--split`` is compared with that straight from the supernet. They do not count in tau. An
interrupted run resumes with the same ``--out``. ``results/supernet_fidelity.json``,
``results/supernet_fidelity_<data>.json``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from benchmarks.finished_trainings import FinishedTrainings
from benchmarks.record import Goal, write
from latency_db.core.profiler import Network
from latency_db.core.target import Target
from nas.bench.results import BenchModel
from nas.bench.run import BenchRequest, run_bench
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, read_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.dataset import DetectionDataset
from nas.data.source import DataPair, find_data
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context
from nas.pretrained.convert import weights_file
from nas.search.quickstart import CHOSEN, RESTRICTED, SUPERNET
from nas.supernet.weights import (
    digest_of,
    interpolation_of,
    load_detector,
    load_supernet,
    record_of,
    save_supernet,
)
from nas.training.data import as_trained, open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import FROM_TRAINED, Recipe
from nas.training.supernet_initialization import initial_supernet, space_from
from nas.training.train_supernet import train_supernet
from nas.training.validation import calibrate, detect_and_score
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES, space_of
from search_spaces.trace import trace

DRAWS = 5000
CHOSEN_NAMES = ("S", "M", "L")


def at_level(space: SearchSpace, rng: random.Random) -> Architecture:
    """A random architecture whose widths and depths scatter around one random share of their range.

    Independent choices give networks of medium size only.
    """
    level, values = rng.random(), {}
    for choice in space.choices:
        last = len(choice.values) - 1
        place = rng.gauss(level, 0.25) if choice.ordered else rng.random()
        values[choice.name] = choice.values[min(last, max(0, round(place * last)))]
    return space.smallest.replace(**values)


def spread(
    space: SearchSpace,
    count: int,
    seed: int,
    draw: Callable[[SearchSpace, random.Random], Architecture] = SearchSpace.sample,
) -> list[Architecture]:
    """``count`` different architectures at even steps of MACs, smallest first, the nearest of 400 drawn ones."""
    rng = random.Random(seed)
    pool = {a.id: a for a in (space.smallest, space.largest, *(draw(space, rng) for _ in range(400)))}
    macs = {id_: trace(space.graph(a), 10).macs for id_, a in pool.items()}
    chosen: list[Architecture] = []
    for wanted in np.linspace(min(macs.values()), max(macs.values()), count):
        nearest = min(macs, key=lambda id_: abs(macs[id_] - wanted))
        chosen.append(pool[nearest])
        del macs[nearest]
    return chosen


def tau(a: Sequence[float], b: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Kendall's tau-b and its bootstrap interval."""
    x, y = np.asarray(a), np.asarray(b)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(x), len(x)) for _ in range(DRAWS)]
    values = np.array([kendalltau(x[i], y[i]).statistic for i in draws])
    low, high = np.nanquantile(values, (0.025, 0.975))
    return {"tau": float(kendalltau(x, y).statistic), "interval": [float(low), float(high)]}


@dataclass(frozen=True)
class Setting:
    """How both ways of training begin.

    Args:
        space: Search space of the supernet.
        supernet: Recipe of the supernet.
        alone: Recipe of each network alone.
        init: Detector that the supernet begins as; None for random weights.
        augment: Whether images are augmented.
        draw: Draws a random architecture of the space.
    """

    space: SearchSpace
    supernet: Recipe
    alone: Recipe
    init: Path | None
    augment: bool
    draw: Callable[[SearchSpace, random.Random], Architecture] = SearchSpace.sample

    @classmethod
    def of(cls, args: argparse.Namespace) -> Setting:
        """The setting that the arguments describe."""
        if args.weights is None:
            space = SPACES["yolo-nano"].restrict({"image_size": (args.image_size,), **RESTRICTED})
            own = {**SUPERNET, "epochs": args.supernet_epochs, "largest_first": args.largest_first, "seed": args.seed}
            alone = Recipe(**{**CHOSEN, "epochs": args.epochs, "seed": args.seed + 1})
            return cls(space, Recipe(**own), alone, None, augment=False)
        init = weights_file(args.weights)
        recipe = Recipe(epochs=args.supernet_epochs, batch_size=16, seed=args.seed, **FROM_TRAINED)
        alone = Recipe(epochs=args.epochs, batch_size=16, seed=args.seed + 1)
        return cls(space_from(init, None, [f"image_size={args.image_size}"]), recipe, alone, init, True, at_level)

    def beginning(self, data: DataPair, folder: Path) -> Path | None:
        """File that each network alone takes its first weights from: the supernet before its training."""
        if self.init is None:
            return None
        path = folder / "beginning.safetensors"
        if not path.exists():
            record = TrainJob(data, self.supernet, self.init).ancestors()
            torch.manual_seed(self.supernet.seed)
            save_supernet(path, initial_supernet(self.space, data.classes, self.init), data.classes, record)
        return path


def alone(
    architectures: Mapping[str, Architecture],
    setting: Setting,
    data: DataPair,
    judge: DetectionDataset,
    args: argparse.Namespace,
    reporter: Reporter,
) -> dict[str, dict[str, float]]:
    """mAP50-95 of each after training alone: on the val split and on the split that judges, ``judge``."""
    folder = args.out
    record = DataRecord(data.name, data.fingerprint)
    seed = setting.alone.seed
    artifacts = [
        Artifact(name, a, (), StudyRecord("fidelity", seed, i, len(architectures)), data.classes, record)
        for i, (name, a) in enumerate(architectures.items())
    ]
    job = TrainJob(data, setting.alone, setting.beginning(data, folder), augment=setting.augment)
    finished = FinishedTrainings(args.finished or folder / "finished.json")
    split = replace(job.images, val=judge.interpolated(interpolation_of(job.init)))

    def judged(artifact: Artifact, job: TrainJob, path: Path) -> float:
        detector, _, record = load_detector(path)
        if judge is data.val:
            return float(record["metrics"]["map"])
        return detect_and_score(detector, split, artifact.architecture.image_size).map

    entries = finished.train([(a, job) for a in artifacts], args.split, judged, folder, reporter)
    return {a.name: {"val": e["val_map"], "judge": e["map"]} for a, e in zip(artifacts, entries, strict=True)}


def straight_from(
    supernet: Path, architectures: Mapping[str, Architecture], data: DataPair, judge: DetectionDataset
) -> dict[str, float]:
    """mAP50-95 on the split that judges of architectures as they are in a supernet, 0..1."""
    shared = load_supernet(supernet)[0]
    split = replace(data, val=judge.interpolated(data.val.interpolation))
    found = {}
    for name, architecture in architectures.items():
        detector = shared.extract(architecture)
        calibrate(detector, data, architecture.image_size)
        found[name] = detect_and_score(detector, split, architecture.image_size).map
    return found


def latencies(
    architectures: Mapping[str, Architecture], classes: int, target: str, folder: Path, reporter: Reporter
) -> dict[str, float]:
    """Latency of each on a target in ms, measured in one interleaved bench."""
    models = []
    for name, a in architectures.items():
        cost = trace(space_of(a).graph(a), classes)
        models.append(BenchModel(name, "", Network(a, classes, a.image_size), cost.params, cost.macs))
    done = run_bench(BenchRequest(models, [Target.parse(target)], new_folder(folder / "bench"), rounds=3), reporter)
    return {name: entry.latency.value for name, entry in done.main.items() if entry.latency}


def epochs_of(path: Path) -> int:
    """Epochs of a supernet's training."""
    return int(load_supernet(path)[2]["recipe"]["epochs"])


def middle_third(by: Mapping[str, float]) -> list[str]:
    """Names of the middle third by a value, in its order."""
    ordered = sorted(by, key=by.__getitem__)
    return ordered[len(ordered) // 3 : len(ordered) - len(ordered) // 3]


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Kendall's tau over all, and among networks of similar latency."""
    if figure.get("weights") is None:
        return [
            Goal(
                "Kendall's tau of the supernet's mAP with that of separate training",
                figure["supernet"]["tau"],
                ">= 0.6",
            )
        ]
    where = f"Kendall's tau of the supernet's mAP with that of separate training, {figure['data_name']}"
    return [
        Goal(f"{where}, {len(figure['ranked'])} architectures", figure["supernet"]["tau"], ">= 0.85"),
        Goal(f"{where}, middle third by latency", figure["middle_third"]["tau"], ">= 0.6"),
        *(
            Goal(
                f"{name} on {figure['data_name']}, {figure['split']} split: mAP after {figure['supernet_epochs']} epochs alone "
                "less mAP straight from the supernet of as many",
                100 * (one["alone"] - one["straight"]),
                "<= 2",
                "points",
            )
            for name, one in figure["architectures"].items()
            if name in CHOSEN_NAMES
        ),
    ]


def measured(args: argparse.Namespace, setting: Setting, data: DataPair, reporter: Reporter) -> dict[str, Any]:
    """Train the supernet, rank, train each alone, compare."""
    space, folder = setting.space, new_folder(args.out)
    path = args.supernet or folder / "supernet.safetensors"
    if not path.exists():
        train_supernet(space, TrainJob(data, setting.supernet, setting.init, augment=setting.augment), path, reporter)
    images = as_trained(data, record_of(path), str(path))
    context = Context(space, len(data.classes), images, supernet=load_supernet(path)[0])
    named = {f"alone{i:02d}": a for i, a in enumerate(spread(space, args.architectures, args.seed, setting.draw))}
    chosen = {name: read_artifact(args.run / f"{name}.json").architecture for name in CHOSEN_NAMES if args.run}
    every = named | chosen
    scores = {
        name: {n: ESTIMATORS[name](context)(a).value for n, a in every.items()} for name in ("supernet", "macs", "nwot")
    }
    judge = data.val if args.split == "val" else find_data(args.data).read(args.split)
    truth = alone(named, setting, data, judge, args, reporter)
    if chosen:
        longer = replace(setting, alone=replace(setting.alone, epochs=epochs_of(path)))
        truth |= alone(chosen, longer, data, judge, args, reporter)
    straight = straight_from(path, chosen, images, judge)
    ms = latencies(every, len(data.classes), args.target, folder, reporter)
    middle = middle_third({n: ms[n] for n in named})
    judged = {n: one["judge"] for n, one in truth.items()}
    return {
        **{name: tau([values[n] for n in named], [judged[n] for n in named]) for name, values in scores.items()},
        "middle_third": tau([scores["supernet"][n] for n in middle], [judged[n] for n in middle]),
        "architectures": {
            n: {
                "id": a.id,
                "alone": judged[n],
                "alone_val": truth[n]["val"],
                **{name: values[n] for name, values in scores.items()},
                **({"straight": straight[n]} if n in straight else {}),
                "ms": ms[n],
            }
            for n, a in every.items()
        },
        "ranked": list(named),
        "space": space.name,
        "size": space.size,
        "supernet_epochs": epochs_of(path),
        "supernet_recipe": load_supernet(path)[2]["recipe"],
        "alone_recipe": setting.alone.to_dict(),
    }


def main() -> None:
    """Train, rank, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--finished", type=Path, help="JSON file of finished trainings (default: in --out)")
    parser.add_argument("--weights", type=Path, help="trained detector that everything begins as")
    parser.add_argument("--supernet", type=Path, help="finished supernet (default: train one into --out)")
    parser.add_argument("--run", type=Path, help="folder of a search in the same space: its S, M and L take part")
    parser.add_argument("--data", default="digits@96")
    parser.add_argument("--split", default="val", help="split that judges the networks trained alone")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--architectures", type=int, default=14)
    parser.add_argument("--supernet-epochs", type=int, default=10)
    parser.add_argument("--largest-first", type=float, default=SUPERNET["largest_first"])
    parser.add_argument("--epochs", type=int, default=5, help="of each alone")
    parser.add_argument("--target", default="onnxruntime:fp32", help="of the latencies")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    reporter = ConsoleReporter()
    data = open_training_data(args.data, None, reporter)
    figure = measured(args, Setting.of(args), data, reporter)
    figure |= {"weights": digest_of(args.weights) if args.weights else None, "target": args.target}
    figure |= {"data": data.fingerprint, "data_name": data.name, "split": args.split, "image_size": args.image_size}
    for name in ("supernet", "middle_third", "macs", "nwot"):
        low, high = figure[name]["interval"]
        print(f"{name}: tau {figure[name]['tau']:.3f} ({low:.3f}..{high:.3f})")
    write(
        f"supernet_fidelity_{data.name}" if args.weights else "supernet_fidelity",
        figure,
        goals_of(figure),
        (args.seed,),
    )


if __name__ == "__main__":
    main()
