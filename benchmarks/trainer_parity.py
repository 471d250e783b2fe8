"""Is the trainer behind another one? YOLOv8n trained here and by ultralytics, used as a black box in its own environment.

``python -m benchmarks.trainer_parity --peer-python peer/bin/python --weights yolov8n.pt --data bccd --image-size 128
--epochs 30 --seeds 2 --out runs/parity``

Per seed four trainings of YOLOv8n with the same data, image size, batch size and epochs: by both trainers with their
own default recipes, from random weights and from ``--weights``. The weights of the last epoch are judged, no epoch is
chosen on the val split. All weights are evaluated by this project's evaluator on ``--split``; the mAP that the peer
itself reports for its own stands beside. ``images_per_s`` counts train images by the time of the whole training.
``--peer-python`` is the interpreter of an environment that has ultralytics (AGPL-3.0; development only, nothing of it is
part of this project). What is finished in ``--out`` is kept; the same command resumes.
``results/trainer_parity_<data>.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from benchmarks.record import Goal, write
from benchmarks.transfer_gain import network
from nas.core.atomic import atomic_write
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.dataset import DetectionDataset
from nas.data.source import DataPair, find_data
from nas.pretrained.convert import weights_file
from nas.supernet.weights import digest_of, load_detector
from nas.training.data import open_training_data
from nas.training.job import ComputeConfig, TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detector
from nas.training.validation import detect_and_score

POINTS = 1.0
"""Goal: points of mAP50-95 that this trainer may be behind."""
MODEL, STARTS, SPLITS = "yolov8n", ("scratch", "imported"), ("train", "val", "test")
PEER = """
import json, sys, time
from ultralytics import YOLO, __version__
asked = json.loads(sys.argv[1])
start = time.time()
model = YOLO(asked["start"])
model.train(data=asked["data"], imgsz=asked["image_size"], epochs=asked["epochs"], batch=asked["batch"],
    seed=asked["seed"], project=asked["folder"], name=asked["name"], exist_ok=True, device="cpu", workers=0,
    plots=False, val=False, pretrained=asked["start"].endswith(".pt"))
seconds = time.time() - start
last = str(model.trainer.last)
found = YOLO(last).val(data=asked["data"], imgsz=asked["image_size"], split=asked["split"], device="cpu", workers=0,
    plots=False, batch=16)
json.dump({"seconds": seconds, "weights": last, "version": __version__, "own_map": found.box.map,
    "own_map50": found.box.map50}, open(asked["answer"], "w"))
"""
"""Run by the peer's interpreter; the calls are those of its documentation."""


def write_yolo(spec: str, out: Path) -> Path:
    """Write a data set as a YOLO folder of links and labels, unless it is there; return its yaml file."""
    description = out / "data.yaml"
    if description.is_file():
        return description
    found = find_data(spec)
    classes: tuple[str, ...] = ()
    for split in SPLITS:
        data = found.read(split)
        classes = data.classes
        write_labels(data, out / "images" / split, out / "labels" / split)
    content: dict[str, Any] = {split: f"images/{split}" for split in SPLITS}
    content |= {"path": str(out.resolve()), "names": dict(enumerate(classes))}
    atomic_write(description, yaml.safe_dump(content))
    return description


def write_labels(data: DetectionDataset, images: Path, labels: Path) -> None:
    """Link the images of a split and write the labels of each: class, then centre and size as shares."""
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for sample in data.samples:
        link = images / sample.path.name
        if not link.exists():
            link.symlink_to(sample.path.resolve())
        lines = []
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            w, h = sample.width, sample.height
            lines.append(
                f"{label} {(x1 + x2) / 2 / w:.6f} {(y1 + y2) / 2 / h:.6f} {(x2 - x1) / w:.6f} {(y2 - y1) / h:.6f}"
            )
        (labels / f"{sample.path.stem}.txt").write_text("\n".join(lines) + "\n")


def judged(weights: Path, split: DataPair, image_size: int) -> dict[str, float]:
    """mAP of weights on a split by this project's evaluator, 0..1."""
    metrics = detect_and_score(load_detector(weights)[0], split, image_size)
    return {"map": metrics.map, "map50": metrics.map50}


def trained_here(args: argparse.Namespace, seed: int, start: str, data: DataPair, reporter: Reporter) -> dict[str, Any]:
    """Train with this project; return seconds, images per second and the weights file."""
    path = new_folder(args.out / f"seed{seed}") / f"here-{start}.safetensors"
    record = path.with_suffix(".seconds")
    recipe = Recipe(epochs=args.epochs, batch_size=args.batch_size, seed=seed)
    init = weights_file(args.weights) if start == "imported" else None
    begin = time.time()
    train_detector(
        network(MODEL, MODEL, args.image_size, data),
        TrainJob(data, recipe, init, compute=ComputeConfig("cpu")),
        path,
        reporter,
    )
    if not record.is_file():
        atomic_write(record, str(time.time() - begin))
    return {"seconds": float(record.read_text()), "weights": str(path)}


def trained_there(args: argparse.Namespace, seed: int, start: str, description: Path) -> dict[str, Any]:
    """Train with the peer; return what its process writes."""
    folder = new_folder(args.out / f"seed{seed}")
    answer = folder / f"peer-{start}.json"
    if not answer.is_file():
        asked = {
            "start": str(args.weights.resolve()) if start == "imported" else f"{MODEL}.yaml",
            "data": str(description), "image_size": args.image_size, "epochs": args.epochs, "batch": args.batch_size,
            "seed": seed, "folder": str(folder.resolve()), "name": f"peer-{start}", "split": args.split,
            "answer": str(answer.resolve()),
        }  # fmt: skip
        with open(answer.with_suffix(".log"), "a", encoding="utf-8") as log:
            subprocess.run([args.peer_python, "-c", PEER, json.dumps(asked)], stdout=log, stderr=log, check=True)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def one_seed(
    args: argparse.Namespace, seed: int, data: DataPair, split: DataPair, reporter: Reporter
) -> dict[str, Any]:
    """Both trainers from both starts with one seed."""
    description = write_yolo(args.data, args.out / "yolo")
    found: dict[str, Any] = {"seed": seed}
    for start in STARTS:
        for trainer in ("here", "peer"):
            one = (
                trained_here(args, seed, start, data, reporter)
                if trainer == "here"
                else trained_there(args, seed, start, description)
            )
            weights = Path(one.pop("weights"))
            one |= judged(weights_file(weights), split, args.image_size)
            one["images_per_s"] = args.epochs * len(data.train) / one["seconds"]
            found[f"{trainer}, {start}"] = one
            reporter.note(f"seed {seed}, {trainer}, {start}: {one}")
    return found


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Points of mAP50-95 behind the peer, for each start."""
    goals = []
    for start in STARTS:
        behind = 100 * mean(r[f"peer, {start}"]["map"] - r[f"here, {start}"]["map"] for r in figure["runs"])
        what = f"YOLOv8n on {figure['data_name']} from {start}, {figure['epochs']} epochs: mAP of ultralytics less ours"
        goals.append(Goal(what, behind, f"<= {POINTS:g}", "points"))
    return goals


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with both, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="interpreter of an environment that has ultralytics")
    parser.add_argument("--weights", type=Path, required=True, help="YOLOv8n as a .pt file that both read")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val", choices=SPLITS, help="split that judges")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings; what is finished is kept")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    data = open_training_data(args.data, None, reporter)
    split = DataPair(data.name, data.train, find_data(args.data).read(args.split), data.augmentation)
    new_folder(args.out)
    runs = [one_seed(args, seed, data, split, reporter) for seed in range(args.seeds)]
    figure = {"data_name": data.name, "data": data.fingerprint, "split": args.split, "image_size": args.image_size}
    figure |= {"epochs": args.epochs, "batch_size": args.batch_size, "weights": digest_of(args.weights), "runs": runs}
    write(f"trainer_parity_{data.name}", figure, goals_of(figure), range(args.seeds))


if __name__ == "__main__":
    main()
