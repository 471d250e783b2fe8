"""Does a search with its defaults help on a small data set, against YOLOv8n trained for as many epochs?

``python -m benchmarks.small_set --data bccd --class-name WBC --out runs/small``

The data set has ``--images`` train images, spread evenly over those of ``--data`` that hold the class, and that class
alone; val and test are as in ``--data``. Per seed ``nas search`` runs with its defaults at ``--image-size`` (space,
supernet budget, trials, sampler). Its L is then trained twice with the same recipe and batch size: from the supernet
for ``--epochs`` epochs (``L-supernet``), and as ``nas train`` does by default, from random weights, for as many epochs
as the supernet and ``L-supernet`` had together (``L``). M and YOLOv8n are trained as ``L``. All are evaluated on the
test split, which nothing before has read, and L, M and YOLOv8n are measured in one interleaved bench. The goals are
those of L. What is finished in ``--out`` is kept; the same command resumes. ``results/small_set_<data>.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.record import Goal, write
from nas.core.console_reporter import ConsoleReporter
from nas.data.dataset import DetectionDataset
from nas.data.source import find_data
from nas.data.subsets import first_samples

REFERENCE, TUNED = "yolov8n", "L-supernet"
ALONE = ("L", "M")
"""Networks of the search that are trained from random weights and measured beside the reference."""
BEHIND, FASTER = 1.0, 3.0
"""Goals: points of mAP50-95 that L may lose against the reference, and how many times as fast it is."""


def one_class(data: DetectionDataset, class_name: str, images: int) -> DetectionDataset:
    """The images of a split with a class, that class alone, at most ``images`` of them (0: all)."""
    index = data.classes.index(class_name)
    samples = []
    for sample in data.samples:
        keep = sample.labels == index
        if keep.any():
            of_class = {name: getattr(sample, name)[keep] for name in ("boxes", "crowd", "areas", "scores")}
            samples.append(replace(sample, labels=sample.labels[keep] * 0, **of_class))
    return first_samples(DetectionDataset(data.name, data.split, (class_name,), samples, data.problems), images)


def write_subset(spec: str, name: str, images: int, out: Path) -> None:
    """Write the one-class data set as a COCO folder of links, unless it is there."""
    if (out / "test.json").is_file():
        return
    found = find_data(spec)
    (out / "images").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        part = one_class(found.read(split), name, images if split == "train" else 0)
        names = {s.id: s.path.name for s in part.samples}
        for sample in part.samples:
            link = out / "images" / names[sample.id]
            if not link.exists():
                link.symlink_to(sample.path.resolve())
        (out / f"{split}.json").write_text(part.coco(names).text(), "utf-8")


def nas(*arguments: object, log: Path) -> str:
    """Run ``nas`` with arguments, append what it prints to a file, and return it. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", "nas", *map(str, arguments)]
    found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command[1:])}\n{found.stdout}\n")
    if found.returncode:
        raise RuntimeError(f"nas {arguments[0]} failed, see {log}")
    return found.stdout


def test_map(weights: Path, data: Path, log: Path) -> dict[str, Any]:
    """mAP of weights on the test split, 0..1."""
    folder = weights.with_suffix(".evaluation")
    if not (folder / "metrics.json").is_file():
        nas("evaluate", weights, "--data", data, "--split", "test", "--out", folder, log=log)
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"map": metrics["map"], "map50": metrics["map50"], "interval": metrics["map_interval"]}


def measured(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Search, train, evaluate with one seed."""
    data, folder = args.out / "data", args.out / f"seed{seed}"
    run, log = folder / "run", args.out / f"seed{seed}.log"
    folder.mkdir(exist_ok=True)
    if not (run / "L.json").is_file():
        target = ("--target", f"{args.runtime}@{args.image_size}", "--fix", f"image_size={args.image_size}")
        again = ("--resume", run) if (run / "run.json").is_file() else ("--out", run, "--seed", seed, *target)
        nas("search", *again, *(() if again[0] == "--resume" else ("--data", data)), log=log)
    epochs = int(re.findall(r"supernet: (\d+) epochs", log.read_text("utf-8"))[-1])
    common = ("--data", data, "--recipe", args.recipe, "--batch-size", 16, "--seed", seed)
    maps = {}
    total = epochs + args.epochs
    entrants = (*((name, (), total) for name in (*ALONE, REFERENCE)), (TUNED, ("--init", "supernet"), args.epochs))
    for name, start, length in entrants:
        weights = folder / f"{name}.safetensors"
        model = REFERENCE if name == REFERENCE else run / f"{name.partition('-')[0]}.json"
        size = ("--image-size", args.image_size) if name == REFERENCE else ()
        if not weights.is_file() or not weights.with_suffix(".metrics.json").is_file():
            nas("train", model, *common, *start, *size, "--epochs", length, "--out", weights, log=log)
        maps[name] = test_map(weights, data, log)
    bench = folder / "bench"
    if not (bench / "bench.json").is_file():
        weights = [folder / f"{name}.safetensors" for name in (*ALONE, REFERENCE)]
        nas("bench", *weights, "--target", f"{args.runtime}@{args.image_size}", "--out", bench, log=log)
    return {
        "seed": seed,
        "supernet_epochs": epochs,
        "map": maps,
        "times_as_fast": ratios(bench),
        "check": check_line(log),
    }


def check_line(log: Path) -> str:
    """The line about the reliability of the ranking that the search printed."""
    found = re.findall(r"supernet: accuracy of the largest network.*", log.read_text("utf-8"))
    return found[-1].strip() if found else ""


def ratios(bench: Path) -> dict[str, float]:
    """How many times as fast as the reference L and M are, by the medians of one interleaved bench."""
    entries = json.loads((bench / "bench.json").read_text())["entries"]
    latency = {e["model"]["name"]: float(e["latency"]["value"]) for e in entries}
    return {name: latency[REFERENCE] / latency[name] for name in ALONE}


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Accuracy of L against the reference in points, its speed, and that the reliability was printed."""
    behind = 100 * mean(r["map"][REFERENCE]["map"] - r["map"]["L"]["map"] for r in figure["runs"])
    faster = min(r["times_as_fast"]["L"] for r in figure["runs"])
    where = f"a search with its defaults on {figure['images']} images ({figure['data_name']}, one class)"
    return [
        Goal(f"{where}: mAP of YOLOv8n less that of L, equal total epochs", behind, f"<= {BEHIND:g}", "points"),
        Goal(f"{where}: L as fast as YOLOv8n", faster, f">= {FASTER:g}", "×"),
    ]


def main() -> None:
    """Search, train, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--class-name", required=True)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs; what is finished there is kept")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_subset(args.data, args.class_name, args.images, args.out / "data")
    reporter, runs = ConsoleReporter(), []
    for seed in range(args.seeds):
        found = measured(args, seed)
        reporter.note(f"seed {seed}: {found}")
        runs.append(found)
    name = Path(args.data).name
    figure = {"data_name": name, "class_name": args.class_name, "images": args.images, "runs": runs}
    figure |= {"image_size": args.image_size, "epochs": args.epochs, "recipe": args.recipe}
    write(f"small_set_{name}", figure, goals_of(figure), range(args.seeds))


if __name__ == "__main__":
    main()
