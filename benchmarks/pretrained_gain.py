"""What do published weights bring on a small data set, over random ones?

``python -m benchmarks.pretrained_gain --weights yolov8n.pt --data bccd --image-size 128 --epochs 30 --seeds 3
--out runs/pretrained``

Per seed two trainings of the network of ``--weights`` with one recipe: from random weights (``scratch``) and from the
published ones (``pretrained``). With ``--run``, the folder of a ``nas search --init`` with the same weights, the same
for its S, M and L, whose published weights come through the supernet of the run; its steps are not counted. Figure:
mAP50-95 on the val split, mean over seeds with a 95 % interval (Student's t), and the interval of the difference of
each seed. What is finished in ``--out`` is kept; the same command resumes. The weights are the user's own: none are
in the repository, and the result names the file by its hash. BCCD (MIT) is Shenggan/BCCD_Dataset on GitHub as a COCO
folder. ``results/pretrained_gain_<data>.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from benchmarks.transfer_gain import interval, network
from nas.core.architecture_file import Artifact, read_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.references import with_classes_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.pretrained.convert import weights_file
from nas.search.chosen_files import supernet_of
from nas.supernet.weights import digest_of, load_detector
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors

POINTS = 8.0
"""Goal: points of mAP50-95 that a start from published weights gains over random ones."""


@dataclass(frozen=True)
class Entrant:
    """An architecture, and the weights that its pre-trained start takes."""

    name: str
    artifact: Artifact
    init: Path


def entrants(args: argparse.Namespace, data: DataPair) -> list[Entrant]:
    """The network of the weights, then S, M and L of ``--run``, each for the classes of the data set."""
    weights = weights_file(args.weights)
    model = load_detector(weights)[1].name
    found = [Entrant(model, network(model, model, args.image_size, data), weights)]
    for name in "SML" if args.run else ():
        artifact = with_classes_of(read_artifact(args.run / f"{name}.json"), data)
        found.append(Entrant(name, artifact, supernet_of(args.run)))
    return found


def trained(
    args: argparse.Namespace, seed: int, those: Sequence[Entrant], data: DataPair, reporter: Reporter
) -> dict[str, dict[str, float]]:
    """mAP50-95 of both starts of each entrant with one seed, as shares."""
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=seed, precision=args.precision)
    folder = new_folder(args.out / f"seed{seed}")
    artifacts, jobs = [], []
    for entrant in those:
        for start, init in (("scratch", None), ("pretrained", entrant.init)):
            name = start if entrant is those[0] else f"{entrant.name}-{start}"
            artifacts.append(replace(entrant.artifact, name=name))
            jobs.append(TrainJob(data, recipe, init, compute=ComputeConfig(args.device)))
    maps = iter(train_detectors(artifacts, jobs, folder, reporter, args.at_once))
    return {entrant.name: {start: next(maps).map for start in ("scratch", "pretrained")} for entrant in those}


def figure(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """mAP of both starts of each model, and the gain, each with its interval over seeds."""
    models = {}
    for name in runs[0]:
        of = [run[name] for run in runs]
        models[name] = {
            "map": {start: interval([one[start] for one in of]) for start in ("scratch", "pretrained")},
            "gain": interval([one["pretrained"] - one["scratch"] for one in of]),
            "runs": [dict(one) for one in of],
        }
    return {"models": models}


def goals_of(found: Mapping[str, Any]) -> list[Goal]:
    """The gain of each model in points of mAP50-95."""
    where = f"on {found['data_name']}, {found['image_size']} px: gain of a pre-trained start"
    return [
        Goal(f"{name} {where}", 100 * one["gain"]["mean"], f">= {POINTS:g}", "points")
        for name, one in found["models"].items()
    ]


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="folder of a search from the weights: its S, M and L take part")
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--at-once", type=int, help="trainings that run concurrently (default: one per core)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings; what is finished is kept")
    args = parser.parse_args()
    reporter = ConsoleReporter()
    data = open_training_data(args.data, args.limit, reporter)
    those = entrants(args, data)
    runs = [trained(args, seed, those, data, reporter) for seed in range(args.seeds)]
    found = {
        **figure(runs),
        "weights": digest_of(args.weights),
        "data": data.fingerprint,
        "data_name": data.name,
        "image_size": args.image_size,
        "epochs": args.epochs,
    }
    for name, one in found["models"].items():
        reporter.note(f"{name}: {one['map']}, gain {one['gain']}")
    write(f"pretrained_gain_{data.name}", found, goals_of(found), range(args.seeds))


if __name__ == "__main__":
    main()
