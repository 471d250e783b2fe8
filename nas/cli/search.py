"""``nas search``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas search --data digits --fix image_size=128 --out runs/digits
  nas search --space yolo-nas --data coco.yaml --budgets S=20ms,M=40ms,L=60ms --trials 300 --out runs/coco
  nas search --data shop/ --budgets S=ref:yolo-nas-s,M=ref:yolo-nas-m --out runs/dropin    (as fast as references here)
  nas search --space yolo-universal --at-least S=ref:yolov8n --data shop/ --out runs/asgood   (as accurate as yolov8n, as fast as can be)
  nas search --space yolo-universal --seed-with yolov8n,yolo-nas-s --data coco.yaml --out runs/seeded
  nas search --accuracy nwot --num-classes 80 --trials 200 --out runs/quick      (no data, no training)
  nas search --data shop/ --minimize latency-p99 --minimize params --maximize supernet-small --max latency=5ms --stop auto --out runs/small
  nas search --data shop/ --target openvino --precision fp32,int8 --out runs/both  (both on one front; S, M and L keep theirs)
  nas search --data shop/ --max params=1M --sampler tpe --supernet runs/a/supernet.safetensors --out runs/b
  nas search --resume runs/digits                                                 (after Ctrl-C or a crash)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_space

    add_space(parser)
    add_data(parser, required=False)
    parser.add_argument("--num-classes", type=int, help="without a data set: number of classes (default 80)")
    parser.add_argument(
        "--target",
        default="onnxruntime",
        help="what to measure on, runtime[:precision][@size][/b8][/t2] (default %(default)s, in fp32)",
    )
    parser.add_argument(
        "--precision",
        dest="precisions",  # a training's is another thing
        metavar="NAME[,NAME…]",
        help="instead of the target's: fp32, fp16, bf16 or int8, what the runtime has; several are one more choice of the search, all on one front",
    )
    parser.add_argument(
        "--latency",
        default="measured",
        help="of candidates: measured, or predicted from what the database holds of the target (nas onboard); the chosen are always measured "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--accuracy",
        default="supernet",
        help="what stands for accuracy: supernet, elements, nwot, synflow (default %(default)s)",
    )
    parser.add_argument(
        "--minimize",
        action="append",
        default=[],
        metavar="NAME",
        help="an objective by its estimator's name, instead of latency: latency-p99, params, macs, activations, energy … (nas list lists them; "
        "repeatable, the first is the cost that budgets and S/M/L go by)",
    )
    parser.add_argument(
        "--maximize",
        action="append",
        default=[],
        metavar="NAME",
        help="an objective, instead of --accuracy: supernet-small (AP of small objects), throughput (at the target's batch) … (repeatable)",
    )
    parser.add_argument(
        "--budgets",
        help="latency budgets of the chosen: S=2ms,M=4ms, or a reference's latency on the target, S=ref:yolov8n or S=ref:yolov8n@320 (pixels; "
        "else the target's, else its own); without: spread over the front",
    )
    parser.add_argument(
        "--at-least",
        help="instead of --budgets: accuracies that the chosen are to reach at the least cost, S=0.40,M=0.45, or a reference's (of the space), S=ref:yolov8n",
    )
    parser.add_argument(
        "--bound",
        action="append",
        default=[],
        metavar="NAME<=N",
        help="constraint on an estimate, for example 'params<=1e6' (repeatable)",
    )
    parser.add_argument(
        "--max",
        action="append",
        default=[],
        metavar="NAME=N",
        help="the same without quotes: --max latency=5ms, --max params=1.5M",
    )
    parser.add_argument(
        "--min", action="append", default=[], metavar="NAME=N", help="at least so much: --min supernet=0.4"
    )
    parser.add_argument(
        "--max-activation-mb",
        type=float,
        metavar="N",
        help="bound on the compiled network's activation memory, in MB of 10^6 bytes (TensorRT-RTX, no GPU)",
    )
    parser.add_argument("--trials", type=int, default=100, help="architectures to try in all (default %(default)s)")
    parser.add_argument(
        "--seed-with",
        metavar="NAME[,…]",
        help="references to try first, for example yolov8n,yolo-nas-s; they must be points of the space",
    )
    parser.add_argument("--sampler", default="guided", help="guided, nsga2, tpe or random (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--supernet", help="trained supernet (default: train one into the run)")
    parser.add_argument("--epochs", type=int, default=20, help="of the supernet's training (default %(default)s)")
    parser.add_argument("--batch-size", type=int, help="of the supernet's training")
    parser.add_argument("--lr", type=float, help="of the supernet's training")
    parser.add_argument("--no-augment", action="store_true", help="train the supernet on the images as they are")
    parser.add_argument(
        "--eval-images",
        type=int,
        default=500,
        help="val images that rank candidates, 0 for all (default %(default)s)",
    )
    parser.add_argument(
        "--no-early-stop", action="store_true", help="estimate every candidate to the end, those without a chance too"
    )
    parser.add_argument(
        "--stop",
        metavar="auto|PERCENT",
        help="end before --trials: auto, where another tenth of the work would gain less than 0.1 %% of hypervolume, or below so many percent a minute",
    )
    parser.add_argument(
        "--estimate-cost",
        action="store_true",
        help="measure what the search would cost, say it, and end; nothing is written",
    )
    parser.add_argument(
        "--latency-db", help="file or database URL of latencies (default: one for all runs, in the cache folder)"
    )
    parser.add_argument("--storage", help="Optuna storage URL (default: a journal file in the run)")
    add_largest_first(parser)
    add_device(parser, training=True)
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run; its settings are those it began with"
    )
    parser.add_argument(
        "--total-trials",
        type=int,
        metavar="N",
        help="with --resume: try N architectures in all instead of as many as first asked",
    )


def run(args: argparse.Namespace) -> int:
    """Search, or go on."""
    from dataclasses import replace

    from nas.cli.options import existing, fixed_values, recipe_values
    from nas.core.console_reporter import ConsoleReporter
    from nas.estimators import ESTIMATORS
    from nas.search.cost_estimate import quote
    from nas.search.report.front_files import results_table
    from nas.search.run import search
    from nas.search.samplers import SAMPLERS
    from nas.search.settings import SearchSettings
    from search_spaces.errors import InputError
    from search_spaces.spaces import SPACES

    if args.resume:
        folder = existing(args.resume, "run")
        settings = SearchSettings.read(folder)
        if args.total_trials:
            settings = replace(settings, trials=args.total_trials)
    else:
        if args.out is None and not args.estimate_cost:
            raise InputError("no folder for the run", "--out FOLDER (or --resume RUN)")
        if args.out and (args.out / "run.json").exists():
            raise InputError(
                f"{args.out} holds a run already", "a new folder", f"to go on with it: nas search --resume {args.out}"
            )
        ESTIMATORS[args.accuracy], SAMPLERS[args.sampler]
        folder = args.out or Path()
        recipe = {k: v for k, v in recipe_values(args).items() if k != "seed"}
        bounds = (*args.bound, *(_compared(b, "<=") for b in args.max), *(_compared(b, ">=") for b in args.min))
        if args.max_activation_mb is not None:
            bounds += (f"engine_activations_mib<={args.max_activation_mb * 1e6 / 2**20:.6g}",)
        target, precisions = _precisions(args.target, args.precisions)
        settings = SearchSettings(
            space=args.space,
            fixed=fixed_values(SPACES[args.space], args.fix),
            data=args.data,
            num_classes=args.num_classes,
            limit=args.limit,
            target=target,
            precisions=precisions,
            latency=args.latency,
            accuracy=args.accuracy,
            minimize=tuple(args.minimize),
            maximize=tuple(args.maximize),
            trials=args.trials,
            sampler=args.sampler,
            seed=args.seed,
            seeded=tuple(args.seed_with.split(",")) if args.seed_with else (),
            budgets=args.budgets,
            at_least=args.at_least,
            bounds=bounds,
            supernet=args.supernet,
            recipe=recipe,
            augment=not args.no_augment,
            eval_images=args.eval_images,
            early_stop=not args.no_early_stop,
            stop=args.stop,
            latency_db=args.latency_db,
            storage=args.storage,
            device=args.device,
            processes=args.processes,
        )
        settings.check()
    reporter = ConsoleReporter()
    if args.estimate_cost:
        reporter.table(quote(settings, args.resume, reporter).table())
        return 0
    result = search(settings, folder, reporter)
    reporter.table(results_table([(p.name, p.candidate) for p in result.selection]))
    reporter.note(
        f"written: {folder}/{{{','.join(p.name for p in result.selection)}}}.json, front.json, front.csv, frontier.html, frontier.png"
    )
    return 0


def _precisions(target: str, names: str | None) -> tuple[str, tuple[str, ...]]:
    """The target as text, and its precisions where these are a choice; the one that the target names, else the first,
    is the target's."""
    from dataclasses import replace

    from latency_db.core.target import Target
    from search_spaces.errors import InputError

    where = Target.parse(target)
    if names is None:
        return str(where), ()
    asked = tuple(names.split(","))
    own = where.precision if ":" in target.partition("@")[0].partition("/")[0] else asked[0]
    if own not in asked or len(set(asked)) < len(asked):
        raise InputError(
            f"--precision {names} with --target {target}",
            "each precision once, the target's among them, or a target without one",
        )
    return str(replace(where, precision=own)), asked if len(asked) > 1 else ()


def _compared(text: str, sign: str) -> str:
    """``NAME=N`` as a bound."""
    from search_spaces.errors import InputError

    name, found, value = text.partition("=")
    if not found:
        raise InputError(f"{text!r} after --{'max' if sign == '<=' else 'min'}", "NAME=NUMBER, for example params=1e6")
    return f"{name}{sign}{value}"
