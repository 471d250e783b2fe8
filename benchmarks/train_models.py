"""Models trained with one recipe on one data set: accuracy, and how fast a training goes.

``python -m benchmarks.train_models yolov8n yolo11n runs/search --data digits@320 --image-size 320 --epochs 30
--batch-size 64 --at-once 8 --out runs/train``

Models are what ``nas bench`` takes: references, families, architecture files, folders of a search. All begin from
fresh weights, with the same recipe, seeds and images, with the options of ``nas train``, and are evaluated on the
val split, and on ``--test-split`` where one is named (``python -m benchmarks.train_models yolo11n --data bccd
--test-split test``; BCCD, MIT, is Shenggan/BCCD_Dataset on GitHub as a COCO folder). Before that, ``--steps`` steps
of each are timed alone on the device: with the images as they come from the loader, and with one batch that lies
ready, so that the ratio says what the loader costs. Trainings that are finished in ``--out`` are kept; the same
command resumes. ``results/train_models_<data>_<device>.json``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.record import write
from nas.bench.models import resolve_models
from nas.bench.results import BenchModel
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.compute import device_of
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.core.training_progress import Progress
from nas.data.loader import Batch, Loader
from nas.data.source import open_data
from nas.evaluation.evaluate import EvaluationConfig, evaluate_file
from nas.inference.coco_metrics import Metrics
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.loop import fit
from nas.training.recipe import Recipe, parse_values
from nas.training.recipes import RECIPES
from nas.training.tasks import DetectorTask
from nas.training.train_detector import train_detectors
from search_spaces.architecture import Architecture
from search_spaces.spaces import space_of

VALUES = {"batch_size": int, "optimizer": str, "lr": float, "cls_weight": float, "precision": str, "seed": int}
"""Values of a recipe that have an option of their own."""
WARM = 20
"""Steps before a training is timed: kernels are chosen, memory is reserved, images are in memory."""


class Ready(Loader):
    """The first batch of a loader, again and again."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader.dataset, loader.config)

    def epoch(self, epoch: int = 0, start_step: int = 0, every: int = 1) -> Iterator[Batch]:
        """Yield the first batch at every step."""
        batch = next(iter(super().epoch()))
        for _ in range(start_step, len(self), every):
            yield batch


def sized(model: BenchModel) -> Architecture:
    """The architecture at the size it takes part at."""
    return model.network.architecture.replace(image_size=model.network.image_size.value)


def images_per_second(model: BenchModel, job: TrainJob, steps: int, ready: bool) -> float:
    """Of a training without its end (BatchNorm, evaluation, file). Every tenth step waits for the device, so a clock
    read then counts finished steps."""
    data, recipe = job.data, job.recipe
    torch.manual_seed(recipe.seed)
    size = model.network.image_size
    loader = job.batches(size)
    recipe = replace(recipe, epochs=-(-(steps + WARM) // len(loader)))
    architecture = sized(model)
    detector = space_of(architecture).build(architecture, len(data.classes)).to(device_of(job.compute.device))
    times: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        times[progress.step] = time.perf_counter()

    fit(DetectorTask(detector, model.name, recipe.loss()), Ready(loader) if ready else loader, recipe, None, watch)
    last = max(times)
    return (last - WARM) * recipe.batch_size / (times[last] - times[WARM])


def row(
    model: BenchModel, metrics: list[Metrics], tested: list[Metrics], speed: dict[str, float] | None
) -> dict[str, Any]:
    """What is kept of a model; mAP in percent, on val and on the test split."""
    return {
        "family": model.family,
        "params": model.params,
        "gmacs": model.macs / 1e9,
        "map": 100 * mean(m.map for m in metrics),
        "map50": 100 * mean(m.map50 for m in metrics),
        "map_per_seed": [100 * m.map for m in metrics],
        "test_map_per_seed": [100 * m.map for m in tested],
        "test_map50_per_seed": [100 * m.map50 for m in tested],
        "pictures_per_second": speed,
    }


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``nas train`` that name a recipe or change its values."""
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=V", help="any value of the recipe")
    parser.add_argument("--epochs", type=int, default=30)
    for name, kind in VALUES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    parser.add_argument("--no-augment", action="store_true")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """Return the named recipe with the values that were given."""
    given = {name: value for name in VALUES if (value := getattr(args, name)) is not None}
    named = RECIPES[args.recipe].recipe.changed({"epochs": args.epochs})
    return named.changed(parse_values(args.set)).changed(given)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="as nas bench takes them")
    parser.add_argument("--data", default="digits@320")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--image-size", type=int, default=320)
    add_recipe(parser)
    parser.add_argument("--test-split", help="evaluate on this split, too")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--at-once", type=int, help="trainings side by side (default: one on a GPU, as many as cores on a CPU)"
    )
    parser.add_argument("--steps", type=int, default=60, help="to time of each model, 0: none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="print, write no results file")
    return parser.parse_args()


def speeds_of(
    models: Sequence[BenchModel], job: TrainJob, steps: int, reporter: Reporter
) -> dict[str, dict[str, float]]:
    """Return images per second of each model, from the loader and with one batch again and again."""
    speeds: dict[str, dict[str, float]] = {}
    for model in models if steps else ():
        with_loader, alone = (images_per_second(model, job, steps, ready) for ready in (False, True))
        speeds[model.name] = {"with_loader": with_loader, "batch_ready": alone}
        reporter.note(f"{model.name}: {with_loader:.0f} images/s, {alone:.0f} with a batch that lies ready")
    return speeds


def main() -> None:
    """Time, train, write."""
    args = arguments()
    reporter = ConsoleReporter()
    new_folder(args.out)
    data = open_training_data(args.data, args.limit, reporter)
    models = resolve_models(args.models, len(data.classes), args.image_size)
    recipe = recipe_of(args)
    device = device_of(args.device)
    job = TrainJob(data, recipe, augment=not args.no_augment, compute=ComputeConfig(args.device))
    speeds = speeds_of(models, job, args.steps, reporter)
    found: dict[str, list[Metrics]] = {m.name: [] for m in models}
    tested: dict[str, list[Metrics]] = {m.name: [] for m in models}
    minutes: list[float | None] = []  # None: kept from an earlier call
    record = DataRecord(data.name, data.fingerprint)
    for seed in range(args.seeds):
        artifacts = [
            Artifact(m.name, sized(m), (), StudyRecord("train_models", seed, None, 0), data.classes, record)
            for m in models
        ]
        folder = new_folder(args.out / f"seed{seed}")
        kept = all((folder / f"{m.name}.safetensors").exists() for m in models)
        begun = time.perf_counter()
        metrics = train_detectors(
            artifacts,
            replace(job, recipe=replace(recipe, seed=seed)),
            folder,
            reporter,
            args.at_once,
        )
        minutes.append(None if kept else (time.perf_counter() - begun) / 60)
        for model, m in zip(models, metrics, strict=True):
            found[model.name].append(m)
            if args.test_split:
                other = open_data(args.data, val=args.test_split, limit=args.limit)
                tested[model.name].append(
                    evaluate_file(
                        folder / f"{model.name}.safetensors", other, EvaluationConfig(args.device), reporter
                    ).metrics
                )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    figure = {
        "device": name,
        "data": data.name,
        "pictures": {"train": len(data.train), "val": len(data.val)},
        "image_size": args.image_size,
        "recipe": recipe.to_dict(),
        "at_once": args.at_once,
        "minutes_per_seed": minutes,
        "test_split": args.test_split,
        "models": {m.name: row(m, found[m.name], tested[m.name], speeds.get(m.name)) for m in models},
    }
    for model_name, r in figure["models"].items():
        print(
            f"{model_name}: mAP {r['map']:.1f}, mAP50 {r['map50']:.1f}, {r['params'] / 1e6:.2f} M params, {r['gmacs']:.2f} GMACs"
        )
    short = args.data.partition(":")[0].replace("@", "-").rstrip("/").rpartition("/")[2]
    if args.dry:
        return
    write(f"train_models_{short}_{name.replace(' ', '-')}", figure, (), seeds=range(args.seeds))


if __name__ == "__main__":
    main()
