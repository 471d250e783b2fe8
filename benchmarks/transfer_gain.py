"""What do pre-trained weights and a teacher bring on a small data set? One network from scratch, pre-trained on
``digits``, and distilled from a larger one.

``python -m benchmarks.transfer_gain --data shared/bccd --model yolov8n --teacher yolov8s --image-size 320 --epochs 60
--seeds 5 --out runs/transfer``

Per seed four trainings with one recipe: the larger network (``teacher``), then the smaller one from ``scratch``,
``pretrained`` (weights of ``--pretrain-on``, trained once per seed with ``--pretrain-epochs``) and ``taught``.
Figure: mAP50-95 on the val split, mean over seeds with a 95 % interval (Student's t), and that of each difference to
``scratch`` of the same seed. ``teacher`` is there to see what could be learnt. What is finished in ``--out`` is kept;
the same command resumes. BCCD (MIT) is Shenggan/BCCD_Dataset on GitHub as a COCO folder.
``results/transfer_gain_<data>.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import write
from benchmarks.search_quality import T_975
from nas.core.architecture_file import Artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.references import artifact_of, with_classes_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors

WAYS = ("teacher", "scratch", "pretrained", "taught")


def network(model: str, name: str, image_size: int, data: DataPair) -> Artifact:
    """A model for the classes of a data set at an image size, under a name of its own."""
    artifact = artifact_of(Path(model))
    sized = replace(artifact, name=name, architecture=artifact.architecture.replace(image_size=image_size))
    return with_classes_of(sized, data)


def trained(
    args: argparse.Namespace, seed: int, data: DataPair, other: DataPair, reporter: Reporter
) -> dict[str, float]:
    """mAP of each way with one seed."""
    folder = new_folder(args.out / f"seed{seed}")
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=seed, precision=args.precision)
    before = replace(recipe, epochs=args.pretrain_epochs)

    def train(
        name: str,
        model: str,
        init: Path | None = None,
        teacher: Path | None = None,
        on: DataPair = data,
        by: Recipe = recipe,
    ) -> float:
        artifact = network(model, name, args.image_size, on)
        job = TrainJob(on, by, init, teacher, compute=ComputeConfig(args.device))
        return train_detectors([artifact], job, folder, reporter)[0].map

    train("digits", args.model, on=other, by=before)
    return {
        "teacher": train("teacher", args.teacher),
        "scratch": train("scratch", args.model),
        "pretrained": train("pretrained", args.model, folder / "digits.safetensors"),
        "taught": train("taught", args.model, teacher=folder / "teacher.safetensors"),
    }


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and the half-width of its 95 % interval over seeds; none of a single one."""
    half = T_975.get(len(values), 2.0) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": mean(values), "half_width": half}


def figure(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """mAP of each way, and what each has over scratch."""
    gains = {way: interval([run[way] - run["scratch"] for run in runs]) for way in WAYS if way != "scratch"}
    return {
        "map": {way: interval([run[way] for run in runs]) for way in WAYS},
        "over_scratch": gains,
        "runs": [dict(run) for run in runs],
    }


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pretrain-on", default="digits")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--teacher", default="yolov8s")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--pretrain-epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="use at most so many images of each split")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the trainings; what is finished there is kept"
    )
    parser.add_argument("--so-far", action="store_true", help="print the figure and write no results")
    args = parser.parse_args()
    reporter = ConsoleReporter()
    data, other = (open_training_data(spec, args.limit, reporter) for spec in (args.data, args.pretrain_on))
    runs = [trained(args, seed, data, other, reporter) for seed in range(args.seeds)]
    found = figure(runs)
    for way in WAYS:
        reporter.note(
            f"{way}: {found['map'][way]}" + ("" if way == "scratch" else f", over scratch {found['over_scratch'][way]}")
        )
    if not args.so_far:
        write(
            f"transfer_gain_{data.name}",
            {**found, "model": args.model, "teacher": args.teacher, "data": data.fingerprint},
            (),
            range(args.seeds),
        )


if __name__ == "__main__":
    main()
