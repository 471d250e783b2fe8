"""What do published weights bring on a small data set, over random ones?

``python -m benchmarks.pretrained_gain --weights yolov8n.pt --data bccd --image-size 128 --epochs 30 --seeds 3
--out runs/pretrained``

Per seed two trainings of the network of ``--weights`` with one recipe: from random weights (``scratch``) and from the
published ones (``pretrained``). Figure: mAP50-95 on the val split, mean over seeds with a 95 % interval (Student's t),
and the interval of the difference of each seed. What is finished in ``--out`` is kept; the same command resumes. The
weights are the user's own: none are in the repository, and the result names the file by its hash. BCCD (MIT) is
Shenggan/BCCD_Dataset on GitHub as a COCO folder. ``results/pretrained_gain_<data>.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from benchmarks.transfer_gain import interval, network
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.pretrained.convert import weights_file
from nas.supernet.weights import digest_of, load_detector
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors

POINTS = 8.0
"""Goal: points of mAP50-95 that a start from published weights gains over random ones."""


def trained(args: argparse.Namespace, weights: Path, seed: int, data: DataPair, reporter: Reporter) -> dict[str, float]:
    """mAP50-95 of both starts with one seed, as shares."""
    model = load_detector(weights)[1].name
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=seed, precision=args.precision)
    folder = new_folder(args.out / f"seed{seed}")
    found = {}
    for name, init in (("scratch", None), ("pretrained", weights)):
        job = TrainJob(data, recipe, init, compute=ComputeConfig(args.device))
        artifact = network(model, name, args.image_size, data)
        found[name] = train_detectors([artifact], job, folder, reporter)[0].map
    return found


def figure(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """mAP of both starts, and the gain, each with its interval over seeds."""
    return {
        "map": {name: interval([run[name] for run in runs]) for name in ("scratch", "pretrained")},
        "gain": interval([run["pretrained"] - run["scratch"] for run in runs]),
        "runs": [dict(run) for run in runs],
    }


def goals_of(found: Mapping[str, Any]) -> list[Goal]:
    """The gain in points of mAP50-95."""
    gain = 100 * found["gain"]["mean"]
    what = f"{found['model']} on {found['data_name']}, {found['image_size']} px: gain of a pre-trained start"
    return [Goal(what, gain, f">= {POINTS:g}", "points")]


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings; what is finished is kept")
    args = parser.parse_args()
    reporter = ConsoleReporter()
    data = open_training_data(args.data, args.limit, reporter)
    weights = weights_file(args.weights)
    runs = [trained(args, weights, seed, data, reporter) for seed in range(args.seeds)]
    found = {
        **figure(runs),
        "model": load_detector(weights)[1].name,
        "weights": digest_of(args.weights),
        "data": data.fingerprint,
        "data_name": data.name,
        "image_size": args.image_size,
        "epochs": args.epochs,
    }
    reporter.note(f"{found['map']}, gain {found['gain']}")
    write(f"pretrained_gain_{data.name}", found, goals_of(found), range(args.seeds))


if __name__ == "__main__":
    main()
