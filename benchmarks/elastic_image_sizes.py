"""Does a supernet that is trained at all image sizes know the smaller ones, and what does the largest one lose?

``python -m benchmarks.elastic_image_sizes --weights yolov8n.pt --data deeppcb --image-sizes 224,256,288,320
--fix head=dfl,decoupled --epochs 20 --out runs/sizes``

Two supernets begin as the detector of ``--weights`` and are trained for equally many steps: ``all`` draws one of
``--image-sizes`` per step, ``largest`` has images of the largest one only. Figure: mAP50-95 on ``--split`` of the largest
and of ``--architectures`` random architectures at each size, extracted without further training, BatchNorm recalibrated.
What is finished in ``--out`` is kept: ``all.safetensors`` and ``largest.safetensors`` may be supernets of searches.
``results/elastic_image_sizes_<data>.json``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.elastic_supernet import accuracies
from benchmarks.record import Goal, write
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair, find_data
from nas.pretrained.convert import weights_file
from nas.supernet.weights import digest_of, load_supernet, record_of
from nas.training.data import as_trained, open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import FROM_TRAINED, Recipe
from nas.training.supernet_initialization import space_from
from nas.training.train_supernet import train_supernet

GAIN, LOSS = 2.0, 2.0
"""Goals: points of mAP50-95 that networks gain at the smaller sizes at least, and lose at the largest at most."""


def measured(args: argparse.Namespace, data: DataPair, reporter: Reporter) -> dict[str, dict[str, dict[str, float]]]:
    """mAP50-95, 0..1, by supernet, image size and architecture."""
    init, folder = weights_file(args.weights), new_folder(args.out)
    sizes = args.image_sizes.split(",")
    every, only = (space_from(init, None, [f"image_size={s}", *args.fix]) for s in (args.image_sizes, sizes[-1]))
    rng = random.Random(args.seed)
    named = {"largest": every.largest, **{f"random{i}": every.sample(rng) for i in range(args.architectures)}}
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=args.seed, **FROM_TRAINED)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for way, space in (("all", every), ("largest", only)):
        path = folder / f"{way}.safetensors"
        if not path.exists():
            train_supernet(space, TrainJob(data, recipe, init), path, reporter)
        images = as_trained(data, record_of(path), str(path))
        judge = find_data(args.data).read(args.split).interpolated(images.val.interpolation)
        supernet = load_supernet(path)[0]
        found[way] = {
            size: accuracies(
                supernet,
                {name: a.replace(image_size=int(size)) for name, a in named.items()},
                replace(images, val=judge),
                f"trained at {', '.join(map(str, space.image_sizes))} px, evaluated at {size} px",
                reporter,
            )
            for size in sizes
        }
    return found


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """What networks gain at the smaller sizes, and lose at the largest."""
    more = {
        size: 100 * (mean(values.values()) - mean(figure["map"]["largest"][size].values()))
        for size, values in figure["map"]["all"].items()
    }
    *smaller, largest = more
    what = f"networks straight from a supernet trained at all image sizes, {figure['data_name']}"
    return [
        Goal(
            f"{what}: mAP gained at {', '.join(smaller)} px", mean(more[s] for s in smaller), f">= {GAIN:g}", "points"
        ),
        Goal(f"{what}: mAP lost at {largest} px", -more[largest], f"<= {LOSS:g}", "points"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both supernets, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="trained detector that both supernets begin as")
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-sizes", default="224,256,288,320", help="squares, ascending")
    parser.add_argument(
        "--fix", action="append", default=[], help="further restrictions of the space, as of nas search"
    )
    parser.add_argument("--split", default="val")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--architectures", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the supernets; what is finished is kept")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    data = open_training_data(args.data, None, reporter)
    figure: dict[str, Any] = {"map": measured(args, data, reporter)}
    figure |= {"weights": digest_of(args.weights), "data": data.fingerprint, "data_name": data.name}
    figure |= {"split": args.split, "epochs": args.epochs, "seed": args.seed}
    write(f"elastic_image_sizes_{data.name}", figure, goals_of(figure), (args.seed,))


if __name__ == "__main__":
    main()
