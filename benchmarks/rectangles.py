"""What do rectangular inputs gain on a wide data set? Two searches: squares only, rectangles only.

``python -m benchmarks.rectangles DATA --crop 360x640 --out runs/rectangles``

``DATA`` is a data set in a format that ``nas`` opens; with ``--crop`` its images are cropped to that height and width
from their centre first (for example BCCD, 640 x 480, to 16:9), and boxes keep what is left of them if it is half or
more. With ``--weights`` the supernets begin as a trained detector (``nas search --init``). Both searches have the same
space, supernet recipe, seed and number of trials. Sizes come in pairs of one scale: an image of 16:9 on the square and
on the rectangle of a pair has the same number of pixels. Figures: both fronts of latency and mAP; for each candidate of
the front of squares the least latency of a rectangle that is at least as accurate; and measured latency of the same
network at both sizes of each pair. What is finished in ``--out`` is kept.
``results/rectangles.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

import nas
from benchmarks.record import Goal, write
from latency_db.core.profiler import Network, Profiler, Workload
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Candidate
from nas.core.paths import new_folder
from nas.data.dataset import DetectionDataset
from nas.data.source import open_data
from nas.export.onnx import skeleton_onnx
from nas.pretrained.convert import weights_file
from nas.search.report.front_files import read_front
from nas.supernet.weights import digest_of
from nas.training.recipe import FROM_TRAINED
from nas.training.supernet_initialization import space_from
from search_spaces.architecture import Value
from search_spaces.image_size import ImageSize
from search_spaces.spaces import SPACES

PAIRS = ((128, "96x128"), (192, "128x192"), (256, "160x256"), (320, "192x320"))
"""Sizes of one scale: a square, and the least rectangle that holds 16:9 of the same width."""
KINDS: Mapping[str, Sequence[Value]] = {"squares": tuple(s for s, _ in PAIRS), "rectangles": tuple(r for _, r in PAIRS)}
LATENCY, ACCURACY = "latency_ms", "map"
KEPT = 0.5
"""Share of a box's area that must be left after the crop."""
GOAL = 0.75
"""Goal: latency of rectangles over that of squares at equal accuracy."""


def cropped(data: DetectionDataset, size: ImageSize, folder: Path) -> None:
    """Write a split, cropped about the centre of each image, as images and one COCO file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(data.samples):
        rgb, boxes, labels, crowd = data.load(index)
        high, wide = min(size.height, rgb.shape[0]), min(size.width, rgb.shape[1])
        top, left = (rgb.shape[0] - high) // 2, (rgb.shape[1] - wide) // 2
        name = f"{data.split}_{sample.path.stem}.png"
        part = rgb[top : top + high, left : left + wide]
        cv2.imwrite(str(folder / "images" / name), np.ascontiguousarray(part[..., ::-1]))
        images.append({"id": sample.id, "file_name": name, "width": wide, "height": high})
        for (x1, y1, x2, y2), label, many in zip(boxes.tolist(), labels.tolist(), crowd.tolist(), strict=True):
            seen = [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, wide), min(y2 - top, high)]
            width, height = max(0.0, seen[2] - seen[0]), max(0.0, seen[3] - seen[1])
            if width * height >= KEPT * (x2 - x1) * (y2 - y1) and width * height > 0:
                box = {"bbox": [seen[0], seen[1], width, height], "area": width * height, "iscrowd": int(many)}
                annotations.append({"id": len(annotations), "image_id": sample.id, "category_id": label, **box})
    categories = [{"id": i, "name": name} for i, name in enumerate(data.classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{data.split}.json").write_text(json.dumps(content))


def wide_data(spec: str, crop: str | None, folder: Path) -> str:
    """Return the data set, cropped into ``folder`` if wanted."""
    if crop is None:
        return spec
    if not (folder / "val.json").exists():
        data = open_data(spec)
        for split in (data.train, data.val):
            cropped(split, ImageSize.of(crop), folder)
    return str(folder)


def front(args: argparse.Namespace, data: str, kind: str, reporter: ConsoleReporter) -> tuple[Candidate, ...]:
    """Search among the sizes of one kind and return its front."""
    name, fixed = args.space, {"image_size": KINDS[kind]}
    recipe: dict[str, Any] = {"batch_size": args.batch_size}
    options: dict[str, Any] = {"recipe": recipe}
    if args.weights is not None:
        weights = weights_file(args.weights)
        space = space_from(weights, None, ["image_size=" + ",".join(map(str, KINDS[kind]))])
        name, fixed = space.name, {choice.name: choice.values for choice in space.choices}
        options["init"] = str(weights.resolve())
        recipe |= FROM_TRAINED
    search = nas.Search(
        data=data,
        target=args.target,
        trials=args.trials,
        space=name,
        fixed=fixed,
        epochs=args.epochs,
        seed=args.seed,
        options=options,
    )
    search.run(args.out / kind, reporter)
    return read_front(args.out / kind / "front.json").candidates


def latency_of(profiler: Profiler, network: Network, folder: Path) -> float:
    """Measure a network with untrained weights; ms."""
    space, a = SPACES[network.architecture.space], network.architecture
    path = skeleton_onnx(space, a, network.classes, folder / "model.onnx", network.image_size)
    return profiler.measure(Workload(network.key, path, network)).median_ms


def same_scale(candidates: Sequence[Candidate], classes: int, target: str, folder: Path) -> list[dict[str, Any]]:
    """Measure a middle architecture at both sizes of each pair."""
    architecture = sorted(candidates, key=lambda c: c[LATENCY].value)[len(candidates) // 2].architecture
    rows = []
    with open_profiler(Target.parse(target)) as profiler:
        for square, rectangle in PAIRS:
            ms = [latency_of(profiler, Network(architecture, classes, s), folder) for s in (square, rectangle)]
            rows.append({"square": square, "rectangle": rectangle, "square_ms": ms[0], "rectangle_ms": ms[1]})
    return rows


def table(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Latency, accuracy, size and id of a front, fastest first."""
    rows = [
        {
            "ms": c[LATENCY].value,
            "map": c[ACCURACY].value,
            "image_size": c.architecture.image_size.value,
            "architecture": c.architecture.id,
        }
        for c in candidates
    ]
    return sorted(rows, key=lambda row: float(row["ms"]))


def at_equal_accuracy(squares: Sequence[Mapping[str, Any]], rectangles: Sequence[Mapping[str, Any]]) -> list[float]:
    """Per candidate of the front of squares the latency of the fastest rectangle that is as accurate, over its own."""
    as_accurate = [[r["ms"] for r in rectangles if r["map"] >= row["map"]] for row in squares]
    return [min(found) / row["ms"] for row, found in zip(squares, as_accurate, strict=True) if found]


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Latency at equal accuracy, and at one scale."""
    ratios = at_equal_accuracy(figure["squares"], figure["rectangles"])
    scale = median(row["rectangle_ms"] / row["square_ms"] for row in figure["same_scale"])
    what = f"latency of rectangles over squares, {figure['data_name']}, {figure['target']}"
    equal = median(ratios) if ratios else float("inf")
    return [
        Goal(f"{what}: at equal mAP, median over the front", equal, f"<= {GOAL:g}", "×"),
        Goal(f"{what}: of one network at one scale, median", scale, f"<= {GOAL:g}", "×"),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Crop, search twice, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="data set with wide images, or with --crop any")
    parser.add_argument("--crop", metavar="HxW", help="crop images to this size first, for example 360x640")
    parser.add_argument("--target", default="onnxruntime:fp32")
    parser.add_argument("--space", default="yolo-nano")
    parser.add_argument(
        "--weights", type=Path, help="trained detector that the supernets begin as; its space is searched"
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=20, help="of each supernet (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of data and runs; what is finished is kept")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    new_folder(args.out)
    spec = wide_data(args.data, args.crop, args.out / "data")
    data = open_data(spec)
    found = {kind: front(args, spec, kind, reporter) for kind in KINDS}
    figure: dict[str, Any] = {kind: table(candidates) for kind, candidates in found.items()}
    figure["same_scale"] = same_scale(found["squares"], len(data.classes), args.target, args.out)
    figure |= {"data": data.fingerprint, "data_name": Path(args.data).name, "crop": args.crop, "target": args.target}
    figure |= {"weights": digest_of(args.weights) if args.weights else None}
    figure |= {
        "space": found["squares"][0].architecture.space,
        "trials": args.trials,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
    }
    for goal in goals_of(figure):
        reporter.note(f"{goal.what}: {goal.value:.2f} (goal {goal.goal})")
    write("rectangles", figure, goals_of(figure), (args.seed,))


if __name__ == "__main__":
    main()
