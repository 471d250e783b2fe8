"""What does a trained detector bring as the beginning of a supernet? Accuracy of random architectures straight from it.

``python -m benchmarks.elastic_supernet --weights yolov8n.pt --data bccd --image-size 128 --epochs 12 --out runs/elastic``

The space is what the weights cover (``nas search --init``). Two supernets are trained with the same number of steps:
one from random weights (its recipe begins with the largest architecture alone), one from the detector. Figure: mAP50-95
on the val split of the largest, the smallest and ``--architectures`` random architectures, extracted without further
training, BatchNorm recalibrated. ``trained, a third`` is the trained beginning after a third of the epochs. ``before``:
the detector of ``--tuned``, weights of the same network that were trained on ``--data`` (``benchmarks.pretrained_gain``
makes some), as a supernet before any training, with channels ordered by importance and as they lie in the file; among
its architectures are ``three quarters`` and ``half``, the network with every width at that share. What is finished in
``--out`` is kept. The weights are the user's own: none are in the repository,
and the result names the file by its hash. ``results/elastic_supernet_<data>.json``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import Goal, write
from nas.core.compute import device_of
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.pretrained.convert import weights_file
from nas.supernet.supernet import Supernet
from nas.supernet.weights import digest_of
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import FROM_TRAINED, Recipe
from nas.training.supernet_initialization import space_from, trained_point
from nas.training.train_supernet import train_supernet
from nas.training.validation import calibrate, detect_and_score
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

SHARES = {"whole": 1.0, "three quarters": 0.75, "half": 0.5}
POINTS = 8.0
"""Goal: points of mAP50-95 that random architectures gain by the trained beginning, after the same number of steps."""


def architectures(space: SearchSpace, count: int) -> dict[str, Architecture]:
    """The largest, the smallest and random architectures of a space, at one image size, by name."""
    rng = random.Random(7)
    drawn = {f"random{i}": space.sample(rng) for i in range(count)}
    named = {"largest": space.largest, "smallest": space.smallest, **drawn}
    return {name: a.replace(image_size=space.largest.image_size.value) for name, a in named.items()}


def scaled(space: SearchSpace, point: Architecture, share: float) -> Architecture:
    """The architecture whose widths are nearest to a share of those of a point, at one depth and image size."""
    values: dict[str, Any] = {}
    for choice in space.choices:
        own = point[choice.name]
        if choice.ordered and choice.weights and not choice.name.endswith("depth"):
            values[choice.name] = min(choice.values, key=lambda v, own=own: abs(float(v) - share * float(own)))  # type: ignore[misc]
    return point.replace(**values)


def accuracies(
    supernet: Supernet, named: Mapping[str, Architecture], data: DataPair, what: str, reporter: Reporter
) -> dict[str, float]:
    """mAP50-95 of each architecture straight from a supernet."""
    found = {}
    with reporter.progress(what) as update:
        for done, (name, architecture) in enumerate(named.items(), 1):
            detector, size = supernet.extract(architecture), architecture.image_size
            calibrate(detector, data, size)
            found[name] = detect_and_score(detector, data, size).map
            update(done, len(named))
    return found


def summary(found: Mapping[str, float]) -> dict[str, float]:
    """Largest, smallest, mean and standard deviation of the random ones."""
    values = [v for name, v in found.items() if name.startswith("random")]
    return {"largest": found["largest"], "smallest": found["smallest"], "mean": mean(values), "spread": stdev(values)}


def measured(args: argparse.Namespace, data: DataPair, reporter: Reporter) -> dict[str, Any]:
    """Accuracies of both supernets after the training, and of the trained beginning before it."""
    weights = weights_file(args.weights)
    space = space_from(weights, args.space, [f"image_size={args.image_size}"])
    named = architectures(space, args.architectures)
    folder = new_folder(args.out)
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=args.seed)
    found: dict[str, Any] = {}
    for order in (True, False) if args.tuned else ():
        supernet = Supernet(space, len(data.classes))
        trained = trained_point(args.tuned, space, data.classes, order)
        supernet.fill(trained.architecture, trained.detector)
        name = "before, ordered" if order else "before, as in the file"
        narrow = {n: scaled(space, trained.architecture, share) for n, share in SHARES.items()}
        found[name] = accuracies(supernet, {**named, **narrow}, data, name, reporter)
    ways = (
        ("scratch", None, recipe),
        ("trained", weights, replace(recipe, **FROM_TRAINED)),
        ("trained, a third", weights, replace(recipe, **FROM_TRAINED, epochs=max(1, recipe.epochs // 3))),
    )
    for name, init, how in ways:
        job = TrainJob(data, how, init, compute=ComputeConfig(args.device))
        path = folder / f"{name.replace(', a ', '-')}.safetensors"
        supernet = train_supernet(space, job, path, reporter).to(device_of("cpu"))
        found[name] = accuracies(supernet, named, data, f"supernet, {name}", reporter)
    steps = args.epochs * (len(data.train) // args.batch_size)
    return {"space": space.name, "size": space.size, "steps": steps, "map": found}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """The gain of random architectures in points of mAP50-95."""
    by_start = {name: summary(found)["mean"] for name, found in figure["map"].items()}
    gain, early = (100 * (by_start[name] - by_start["scratch"]) for name in ("trained", "trained, a third"))
    what = f"random architectures from the supernet, {figure['data_name']}"
    return [
        Goal(f"{what}, {figure['steps']} steps: trained over scratch", gain, f">= {POINTS:g}", "points"),
        Goal(f"{what}: trained after a third of the steps over scratch after all", early, ">= 0", "points"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both supernets, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tuned", type=Path, help="weights of the same network, trained on the data set")
    parser.add_argument("--space", help="search space (default: the smallest that holds the network)")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--architectures", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder of the supernets; what is finished is kept")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    data = open_training_data(args.data, args.limit, reporter)
    figure = measured(args, data, reporter)
    figure |= {"weights": digest_of(args.weights), "data": data.fingerprint, "data_name": data.name}
    figure |= {"image_size": args.image_size, "seed": args.seed}
    for name, found in figure["map"].items():
        reporter.note(f"{name}: {summary(found)}")
    write(f"elastic_supernet_{data.name}", figure, goals_of(figure), (args.seed,))


if __name__ == "__main__":
    main()
