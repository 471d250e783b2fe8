"""Which branches survive int8? One network three times: with QARepVGG, with RepVGG and with plain convolutions,
trained alike and calibrated alike.

``python -m benchmarks.branches runs/branches --data digits@96 --epochs 8 --seeds 0 1 2``

The twins differ in what their 3x3 units are made of and in nothing else (stem, downsampling, every bottleneck of
backbone and neck); deployed, all three are the same graph of convolutions. What merging and rounding cost each is the
drop of mAP after post-training quantization, in the serving runtime. YOLOv6-S lost
3.7 points with RepVGG and 0.7 with QARepVGG (Chu et al., arXiv:2212.01593, COCO). Finished files in the folder are
kept. ``results/branches.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.quantization import row
from benchmarks.record import write
from latency_db.core.target import Target
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.quantization.model import CalibrationConfig
from nas.quantization.ptq import QuantizationRequest, QuantizationSettings, quantize_post_training
from nas.quantization.report import SUFFIX
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors
from search_spaces.architecture import Architecture
from search_spaces.spaces import SPACES

UNITS = {"qarepvgg": ("qarepvgg", "qsp"), "repvgg": ("repvgg", "bepc3"), "plain": ("conv", "csp")}
"""Name -> the downsampling, and the cross-stage partial layer whose bottlenecks are made of the same."""
SPACE = SPACES["yolo-universal-nano"]
CELLS = ("stage1_block", "stage2_block", "stage3_block", "stage4_block", "neck_up", "neck3_block", "neck4_block")


def twin(units: str, image_size: int) -> Architecture:
    """The smallest network of the space, with every bottleneck of these units twice, and ReLU."""
    down, block = UNITS[units]
    depths = {choice.name: 2 for choice in SPACE.choices if choice.name.endswith("_depth")}
    return SPACE.smallest.replace(**depths, **dict.fromkeys(CELLS, block), down=down, act="relu", image_size=image_size)


def artifact(units: str, data: DataPair, image_size: int) -> Artifact:
    """What is trained."""
    return Artifact(
        units,
        twin(units, image_size),
        (),
        StudyRecord("branches", None, None, 0),
        data.classes,
        DataRecord(data.name, data.fingerprint),
    )


def calibrated(
    weights: Path, data: DataPair, target: Target, out: Path, seed: int, reporter: Reporter
) -> dict[str, Any]:
    """What is kept of a post-training quantization; one that is there is kept."""
    report = out.with_suffix(SUFFIX)
    if not report.exists():
        settings = QuantizationSettings(CalibrationConfig(seed=seed), seed=seed)
        quantize_post_training(QuantizationRequest(weights, data, target, out, settings), reporter)
    return row(json.loads(report.read_text()))


def main() -> None:
    """Train, calibrate, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="digits@96")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--target", default="openvino:int8")
    args = parser.parse_args()
    reporter, target = ConsoleReporter(), Target.parse(args.target)
    data = open_training_data(args.data, args.limit, reporter)
    recipe = Recipe(epochs=args.epochs, lr=5e-3, cls_weight=2.0)
    runs: dict[str, list[dict[str, Any]]] = {units: [] for units in UNITS}
    for seed in args.seeds:
        folder = new_folder(args.folder / f"seed{seed}")
        train_detectors(
            [artifact(units, data, args.image_size) for units in UNITS],
            TrainJob(data, replace(recipe, seed=seed)),
            folder,
            reporter,
        )
        for units in UNITS:
            runs[units].append(
                calibrated(folder / f"{units}.safetensors", data, target, folder / f"{units}.onnx", seed, reporter)
            )
    units_rows = {
        units: {"drop": mean(r["drop"] for r in rows), "map_float": mean(r["map_float"] for r in rows), "runs": rows}
        for units, rows in runs.items()
    }
    for units, found in units_rows.items():
        print(f"{units}: mAP {100 * found['map_float']:.1f}, {found['drop']:+.2f} points lost in int8")
    write(
        "branches",
        {"data": data.name, "target": args.target, "recipe": recipe.to_dict(), "units": units_rows},
        (),
        args.seeds,
    )


if __name__ == "__main__":
    main()
