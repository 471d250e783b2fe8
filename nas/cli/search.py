"""``nas search``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas search --data digits --fix image_size=128 --out runs/digits
  nas search --space yolo-nas --data coco.yaml --budgets S=20ms,M=40ms,L=60ms --trials 300 --out runs/coco
  nas search --data shop/ --budgets S=like:yolo-nas-s,M=like:yolo-nas-m --out runs/dropin    (as fast as references here)
  nas search --space yolo-universal --seed-with yolov8n,yolo-nas-s --data coco.yaml --out runs/seeded
  nas search --accuracy nwot --num-classes 80 --trials 200 --out runs/quick      (no data, no training)
  nas search --data shop/ --bound 'params<=1e6' --sampler tpe --supernet runs/a/supernet.safetensors --out runs/b
  nas search --resume runs/digits                                                 (after Ctrl-C or a crash)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_space

    add_space(parser)
    add_data(parser, required=False)
    parser.add_argument("--num-classes", type=int, help="without a data set: number of classes (default 80)")
    parser.add_argument("--target", default="onnxruntime:fp32", help="what to measure on, runtime:precision[@size][/b8][/t2] (default %(default)s)")
    parser.add_argument(
        "--latency",
        default="measured",
        help="of candidates: measured, or predicted from what the database holds of the target (nas onboard); the chosen are always measured "
        "(default %(default)s)",
    )
    parser.add_argument("--accuracy", default="supernet", help="what stands for accuracy: supernet, elements, nwot, synflow (default %(default)s)")
    parser.add_argument(
        "--budgets",
        help="latency budgets of the chosen: S=2ms,M=4ms, or a reference's latency on the target, S=like:yolov8n or S=like:yolov8n@320 (pixels; "
        "else the target's, else its own); without: spread over the front",
    )
    parser.add_argument(
        "--bound", action="append", default=[], metavar="NAME<=N", help="constraint on an estimate, for example 'params<=1e6' (repeatable)"
    )
    parser.add_argument(
        "--max-activation-mb",
        type=float,
        metavar="N",
        help="bound on the compiled network's activation memory, in MB of 10^6 bytes (TensorRT-RTX, no GPU)",
    )
    parser.add_argument("--trials", type=int, default=100, help="architectures to try in all (default %(default)s)")
    parser.add_argument(
        "--seed-with", metavar="NAME[,…]", help="references to try first, for example yolov8n,yolo-nas-s; they must be points of the space"
    )
    parser.add_argument("--sampler", default="guided", help="guided, nsga2, tpe or random (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--supernet", help="trained supernet (default: train one into the run)")
    parser.add_argument("--epochs", type=int, default=20, help="of the supernet's training (default %(default)s)")
    parser.add_argument("--batch-size", type=int, help="of the supernet's training")
    parser.add_argument("--lr", type=float, help="of the supernet's training")
    parser.add_argument("--no-augment", action="store_true", help="train the supernet on the pictures as they are")
    parser.add_argument("--eval-images", type=int, default=500, help="val pictures that rank candidates, 0 for all (default %(default)s)")
    parser.add_argument("--latency-db", help="file or database URL of latencies (default: one for all runs, in the cache folder)")
    parser.add_argument("--storage", help="Optuna storage URL (default: a journal file in the run)")
    add_largest_first(parser)
    add_device(parser, training=True)
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run; its settings are those it began with")
    parser.add_argument("--more", type=int, metavar="N", help="with --resume: try N architectures in all instead of as many as first asked")


def run(args: argparse.Namespace) -> int:
    """Search, or go on."""
    from dataclasses import replace

    from nas.cli.options import existing, fixed_values, recipe_values
    from nas.console import Display
    from nas.estimators import ESTIMATORS
    from nas.report.tables import results_table
    from nas.samplers import SAMPLERS
    from nas.workflow.searching import search
    from nas.workflow.settings import SearchSettings, parse_bound
    from search_spaces.errors import InputError
    from search_spaces.spaces import SPACES

    if args.resume:
        folder = existing(args.resume, "run")
        settings = SearchSettings.read(folder)
        if args.more:
            settings = replace(settings, trials=args.more)
    else:
        if args.out is None:
            raise InputError("no folder for the run", "--out FOLDER (or --resume RUN)")
        if (args.out / "run.json").exists():
            raise InputError(f"{args.out} holds a run already", "a new folder", f"to go on with it: nas search --resume {args.out}")
        ESTIMATORS[args.accuracy], SAMPLERS[args.sampler], [parse_bound(b) for b in args.bound]
        folder = args.out
        recipe = {k: v for k, v in recipe_values(args).items() if k != "seed"}
        bounds = tuple(args.bound)
        if args.max_activation_mb is not None:
            bounds += (f"engine_activations_mib<={args.max_activation_mb * 1e6 / 2**20:.6g}",)
        settings = SearchSettings(
            space=args.space,
            fixed=fixed_values(SPACES[args.space], args.fix),
            data=args.data,
            num_classes=args.num_classes,
            limit=args.limit,
            target=args.target,
            latency=args.latency,
            accuracy=args.accuracy,
            trials=args.trials,
            sampler=args.sampler,
            seed=args.seed,
            seeded=tuple(args.seed_with.split(",")) if args.seed_with else (),
            budgets=args.budgets,
            bounds=bounds,
            supernet=args.supernet,
            recipe=recipe,
            augment=not args.no_augment,
            eval_images=args.eval_images,
            latency_db=args.latency_db,
            storage=args.storage,
            device=args.device,
            processes=args.processes,
        )
        settings.check()
    display = Display()
    result = search(settings, folder, display)
    display.console.print(results_table([(p.name, p.candidate) for p in result.selection]).rich())
    display.note(f"written: {folder}/{{{','.join(p.name for p in result.selection)}}}.json, front.json, front.csv, frontier.html, frontier.png")
    return 0
