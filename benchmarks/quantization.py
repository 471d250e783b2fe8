"""What int8 costs and gains: post-training, selective and quantization-aware, over models and seeds, each in the
runtime that serves it.

``python -m benchmarks.quantization runs/q --data digits@96 --target openvino:int8 --model
S=runs/s/seed{seed}/S.safetensors --seeds 0 1 2``

``--model NAME=PATH`` (repeatable) names trained weights; ``{seed}`` in the path stands for each of ``--seeds``. Of
each: mAP and latency in fp32 and int8 after calibration, of the fastest selection that loses at most ``--max-drop``
points, and after fine-tuning with fake quantization, beside its control (as many steps in float, then calibration).
``--modes`` leaves some out, ``--targets`` adds runtimes that only calibrate. Finished files in the folder are kept;
the same command resumes. With ``--keep`` models and seeds that are not run stay as the last result has them: a seed
more needs the weights of that seed alone. ``results/quantization_<data or --name>_<runtime>.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.record import RESULTS, Goal, write
from latency_db.core.target import Target
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.data.source import DataPair
from nas.quantization.mixed_precision import SelectionConfig, quantize_selectively
from nas.quantization.model import CalibrationConfig
from nas.quantization.ptq import QuantizationRequest, QuantizationSettings, quantize_post_training
from nas.quantization.qat import QatConfig, quantize_aware
from nas.quantization.report import SUFFIX
from nas.training.data import open_training_data
from search_spaces.errors import InputError

MODES = ("ptq", "selective", "qat")
LABELS = {"ptq": "post-training", "selective": "selective", "qat": "quantization-aware"}
GOALS = {
    "ptq": {"drop": 1.5, "speed_up": 1.7},
    "selective": {"drop": 0.5, "speed_up": 1.4},
    "qat": {"drop": 0.45, "speed_up": 1.7},
}


def models(texts: Sequence[str], seeds: Sequence[int]) -> dict[str, dict[int, Path]]:
    """Parse ``S=runs/seed{seed}/S.safetensors`` into files by name and seed.

    Raises InputError for a text of another form, or a file that is missing.
    """
    found: dict[str, dict[int, Path]] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            raise InputError(f"--model {text!r}", "NAME=PATH, for example S=runs/seed{seed}/S.safetensors")
        found[name] = {seed: Path(path.replace("{seed}", str(seed))) for seed in seeds}
        if missing := [p for p in found[name].values() if not p.is_file()]:
            raise InputError(f"no weights {missing[0]}", "trained weights (.safetensors)")
    return found


def quantized(
    mode: str, weights: Path, out: Path, args: argparse.Namespace, target: Target, data: DataPair, seed: int
) -> Mapping[str, Any]:
    """The report of one mode on one model, as its file has it; one that is there is kept."""
    path = out.with_suffix(SUFFIX)
    if not path.exists():
        settings = QuantizationSettings(CalibrationConfig(args.calibration, args.calibrator, seed), args.rounds, seed)
        request, reporter = QuantizationRequest(weights, data, target, out, settings), ConsoleReporter()
        if mode == "ptq":
            quantize_post_training(request, reporter)
        elif mode == "selective":
            search = SelectionConfig(args.along, args.trials, args.gains, args.subset, args.max_drop)
            quantize_selectively(request, search, reporter)
        else:
            quantize_aware(request, QatConfig(args.epochs, device=args.device), reporter)
    report: Mapping[str, Any] = json.loads(path.read_text())
    return report


def row(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a report."""
    speed = report["speed_up"]
    return {
        "map_float": report["float"]["metrics"]["map"],
        "map_int8": report["quantized"]["metrics"]["map"],
        "drop": report["drop"],
        "speed_up": speed and [speed["value"], speed["low"], speed["high"]],
        "latency_float_ms": report["float"]["latency"] and report["float"]["latency"]["value"],
        "latency_int8_ms": report["quantized"]["latency"] and report["quantized"]["latency"]["value"],
        "size_ratio": report["float"]["bytes"] / report["quantized"]["bytes"],
        "evaluated_in": report["evaluated_in"],
        "left_float": len(report["left_float"]),
        "beside": {v["name"]: v["drop"] for v in report["others"]},
    }


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over models and seeds, and the worst drop."""
    speeds = [r["speed_up"][0] for r in rows if r["speed_up"]]
    named = sorted({name for r in rows for name in r["beside"]})
    return {
        "drop": mean(r["drop"] for r in rows),
        "worst_drop": max(r["drop"] for r in rows),
        "speed_up": mean(speeds) if speeds else None,
        "size_ratio": mean(r["size_ratio"] for r in rows),
        "beside": {name: mean(r["beside"][name] for r in rows if name in r["beside"]) for name in named},
    }


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--target", default="openvino:int8")
    parser.add_argument("--targets", nargs="*", default=[], help="more targets, for calibration alone")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--calibrator", default="max")
    parser.add_argument("--max-drop", type=float, default=0.5)
    parser.add_argument("--along", type=int, default=8)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--gains", default="measured")
    parser.add_argument("--subset", type=int, default=100)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--keep", action="store_true", help="what is not run stays as the last result has it")
    parser.add_argument("--name", help="of the results file, in the place of the data set's")
    parser.add_argument("--dry", action="store_true", help="print, write no results file")
    return parser


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Points lost and speed gained, per runtime and mode; means over models and seeds."""
    goals = []
    for target, modes in figure["targets"].items():
        for mode, row in modes.items():
            wanted = figure["goals"][mode]
            goals.append(
                Goal(f"{target}, {LABELS[mode]}: change of mAP", -row["drop"], f">= {-wanted['drop']:g}", "points")
            )
            if row["speed_up"] is not None:
                goals.append(
                    Goal(
                        f"{target}, {LABELS[mode]}: speed-up over fp32",
                        row["speed_up"],
                        f">= {wanted['speed_up']:g}",
                        "×",
                    )
                )
    return goals


def main() -> None:
    """Quantize everything, tabulate."""
    args = options().parse_args()
    chosen = models(args.model, args.seeds)
    data = open_training_data(args.data, args.limit, ConsoleReporter())
    new_folder(args.folder)
    jobs = [(args.target, mode) for mode in args.modes] + [(target, "ptq") for target in args.targets]
    result = f"quantization_{args.name or data.name.partition('@')[0]}_{args.target.partition(':')[0]}"
    last: dict[str, Any] = (
        json.loads((RESULTS / f"{result}.json").read_text()) if args.keep else {"figure": {"targets": {}}, "seeds": []}
    )
    figure: dict[str, Any] = {"data": data.name, "goals": GOALS, "targets": last["figure"]["targets"]}
    for target, mode in jobs:
        rows = dict(figure["targets"].get(target, {}).get(mode, {"models": {}})["models"])
        for name, of_seed in chosen.items():
            for seed, weights in of_seed.items():
                out = args.folder / target.replace(":", "-").replace("/", "-") / f"{name}-{seed}-{mode}.onnx"
                new_folder(out.parent)
                rows[f"{name}, seed {seed}"] = row(
                    quantized(mode, weights, out, args, Target.parse(target), data, seed)
                )
        figure["targets"].setdefault(target, {})[mode] = {**together(list(rows.values())), "models": rows}
        print(json.dumps({"target": target, "mode": mode, **together(list(rows.values()))}))
    if not args.dry:
        write(result, figure, goals_of(figure), sorted({*last["seeds"], *args.seeds}))


if __name__ == "__main__":
    main()
