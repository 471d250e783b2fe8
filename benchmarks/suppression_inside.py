"""Suppression inside the file against that of ``nas predict``, on 200 images, in ONNX Runtime and OpenVINO.

``python -m benchmarks.suppression_inside runs/quickstart/L.safetensors --data digits@96``

The weights are exported twice for each runtime, with and without suppression, with the settings of evaluation (score
0.01, IoU 0.7, 300 of 1000 candidates, several classes per box) and those of prediction. On each image the detections of
the file are compared with :func:`nas.inference.nms.nms` on the outputs of the other file in the same runtime, in order
(equal scores have none).
``results/suppression_inside.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Goal, write
from nas.data.source import open_data
from nas.export.deploy import DeployConfig, export_model
from nas.inference.boxes import paired_iou
from nas.inference.model import Model, load
from nas.inference.nms import EVALUATION, SHOWN, Detections, Suppression

FORMATS = ("onnx", "openvino")
SETTINGS = {"evaluation": EVALUATION, "prediction": SHOWN}


def pairs(
    weights: Path, format_: str, settings: Suppression, images: list[Any]
) -> Iterator[tuple[Detections, Detections]]:
    """Yield our detections and those of the file with suppression, of each image."""
    with tempfile.TemporaryDirectory() as folder:
        models: list[Model] = []
        for name, inside in (("plain", None), ("inside", settings)):
            out = Path(folder) / (f"{name}.onnx" if format_ == "onnx" else name)
            models.append(
                load(export_model(weights, out, DeployConfig(format_, batch=1, suppression=inside)).path, "cpu")
            )
        for image in images:
            plain, inside_ = (model.detect([image], settings)[0] for model in models)
            yield plain, inside_


def ordered(found: Detections) -> Detections:
    """Sort detections by score, those of one score by label and corner."""
    order = np.lexsort((found.boxes[:, 1], found.boxes[:, 0], found.labels, -found.scores))
    return Detections(found.boxes[order], found.scores[order], found.labels[order])


def compare(ours: Detections, found: Detections) -> dict[str, Any]:
    """Whether number, labels and order are equal, the least IoU and the largest difference of scores.

    Detections of exactly the same score have no order; they are compared in the order of label and corner.
    """
    ours, found = ordered(ours), ordered(found)
    same = len(ours) == len(found) and bool(np.array_equal(ours.labels, found.labels))
    if not same:
        return {"same": False, "iou": 0.0, "score": 1.0, "count": len(ours)}
    iou = paired_iou(ours.boxes, found.boxes)
    return {
        "same": True,
        "iou": float(iou.min()) if len(ours) else 1.0,
        "score": float(np.abs(ours.scores - found.scores).max()) if len(ours) else 0.0,
        "count": len(ours),
    }


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """All images have equal detections."""
    goals = []
    for name, row in figure["cases"].items():
        goals.append(Goal(f"images with equal detections in equal order, {name}", row["equal"], f">= {row['images']}"))
        goals.append(Goal(f"least IoU of a detection with ours, {name}", row["least_iou"], ">= 0.999"))
    return goals


def main() -> None:
    """Compare every case and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    data = open_data(args.data)
    splits = [(split, i) for split in (data.val, data.train) for i in range(len(split))][: args.images]
    images = [split.load(i)[0] for split, i in splits]
    cases = {}
    for format_ in FORMATS:
        for name, settings in SETTINGS.items():
            rows = [compare(*pair) for pair in pairs(args.weights, format_, settings, images)]
            cases[f"{format_}, {name}"] = {
                "images": len(rows),
                "equal": sum(row["same"] for row in rows),
                "detections": sum(row["count"] for row in rows),
                "least_iou": min(row["iou"] for row in rows),
                "largest_score_difference": max(row["score"] for row in rows),
            }
            print(format_, name, cases[f"{format_}, {name}"])
    figure = {"data": data.name, "weights": args.weights.name, "cases": cases}
    write("suppression_inside", figure, goals_of(figure))


if __name__ == "__main__":
    main()
