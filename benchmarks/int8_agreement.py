"""Is it one network? The same int8 file in OpenVINO, in ONNX Runtime and as fake quantization in torch; and does
TensorRT-RTX build every export?

``python -m benchmarks.int8_agreement runs/agree --data digits@96 --model S=runs/q/seed{seed}/S.safetensors --seeds 0
1 2``

Of each model: OpenVINO's form (nodes at the inputs of convolutions) evaluated three times on the val split; ONNX
Runtime's and TensorRT's own forms in ONNX Runtime; what TensorRT-RTX says when it compiles TensorRT's form and the
float file ahead of time, where the library is installed. Figure: the largest difference of mAP between the three on
one file, in points (goal 0.3). ``results/int8_agreement_<data>.json``.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quantization import models
from benchmarks.record import Goal, write
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.data.source import DataPair
from nas.inference.detect import batches, mean_average_precision
from nas.quantization.fake_quantization import fake_quantized, roundings
from nas.quantization.model import CalibratedDetector, CalibrationConfig, calibrate_detector
from nas.quantization.runtime_accuracy import SUBSTITUTE, RuntimeModel
from nas.training.data import open_training_data

OPENVINO, ORT, RTX = (Target.parse(f"{runtime}:int8") for runtime in ("openvino", "onnxruntime", "tensorrt-rtx"))


def in_torch(subject: CalibratedDetector, file: Path) -> float:
    """mAP of the deployed network with the file's rounding."""
    rounded = fake_quantized(
        copy.deepcopy(subject.detector), roundings(subject.calibrated.proto, file), subject.scheme
    ).eval()
    return mean_average_precision(rounded, subject.val, batches(subject.val, subject.image_size)).map


def one(weights: Path, data: DataPair, seed: int, folder: Path) -> dict[str, Any]:
    """mAP (percent) of one model everywhere, and what TensorRT-RTX says."""
    found: dict[str, Any] = {}
    for target in (OPENVINO, ORT, RTX):
        subject = calibrate_detector(weights, data, target, CalibrationConfig(seed=seed), folder)
        file = folder / f"{target.runtime}.onnx"
        subject.write(file)
        if target == OPENVINO:
            found["float"] = 100 * subject.accuracy(RuntimeModel(subject.model, subject.float_target)).map
            same = {target.runtime: RuntimeModel(file, target), SUBSTITUTE: RuntimeModel(file, Target(SUBSTITUTE))}
            found["one_file"] = {name: 100 * subject.accuracy(served).map for name, served in same.items()} | {
                "torch": 100 * in_torch(subject, file)
            }
            found["spread"] = max(found["one_file"].values()) - min(found["one_file"].values())
        else:
            found[f"{target.runtime}_form"] = 100 * subject.accuracy(RuntimeModel(file, Target(SUBSTITUTE))).map
        if target == RTX:
            builds = {"int8": (file, target), "fp16": (subject.model, Target.parse("tensorrt-rtx:fp16"))}
            runtime = RUNTIMES[target.runtime]
            found["tensorrt_rtx"] = {name: runtime.compile_ahead(for_, path) for name, (path, for_) in builds.items()}
    return found


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """One file scores the same in every runtime."""
    what = "largest difference in mAP between OpenVINO, ONNX Runtime and torch on one int8 file"
    return [Goal(what, figure["largest_spread"], f"<= {figure['goal']:g}", "points")]


def main() -> None:
    """Every model, then the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    data = open_training_data(args.data, args.limit, ConsoleReporter())
    found = {}
    for name, of_seed in models(args.model, args.seeds).items():
        for seed, weights in of_seed.items():
            found[f"{name}, seed {seed}"] = one(weights, data, seed, new_folder(args.folder / f"{name}-{seed}"))
            print(name, seed, found[f"{name}, seed {seed}"])
    figure = {
        "data": data.name,
        "largest_spread": max(row["spread"] for row in found.values()),
        "goal": 0.3,
        "models": found,
    }
    write(f"int8_agreement_{data.name.partition('@')[0]}", figure, goals_of(figure), args.seeds)


if __name__ == "__main__":
    main()
