"""``nas search``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.explicit import ExplicitOptions
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.search.settings import SearchSettings

EXAMPLES = """\
  nas search --data digits --fix image_size=128 --out runs/digits
  nas search --init yolov8n.pt --data shop/ --fix image_size=320 --out runs/shop     (from pre-trained weights)
  nas search --space yolo-nas --data coco.yaml --budgets S=20ms,M=40ms,L=60ms --trials 300 --out runs/coco
  nas search --data shop/ --budgets S=ref:yolo-nas-s,M=ref:yolo-nas-m --out runs/dropin    (as fast as reference models)
  nas search --space yolo-universal --at-least S=ref:yolov8n --data shop/ --out runs/asgood   (as accurate as yolov8n)
  nas search --space yolo-universal --seed-with yolov8n,yolo-nas-s --data coco.yaml --out runs/seeded
  nas search --accuracy nwot --num-classes 80 --trials 200 --out runs/quick      (without data and training)
  nas search --data shop/ --minimize latency-p99 --maximize supernet-small --stop auto --out runs/small
  nas search --data shop/ --target openvino --precision fp32,int8 --out runs/both  (both precisions on one front)
  nas search --data shop/ --recipe small --set mosaic=0.3 --out runs/recipe       (the supernet's training)
  nas search --data shop/ --target onnxruntime --on ssh:pi@pi --target tensorrt:fp16 --on ssh:jetson --out runs/devices
  nas search --resume runs/digits                                                 (after Ctrl-C or a crash)
  nas search --resume runs/digits --total-trials 200                              (more candidates)"""

KEPT = ("stop", "device", "processes", "workers", "ray", "on", "latency_db")
RESUMABLE = ("total_trials", "budgets", "at_least", *KEPT, "estimate_cost")
"""Options that may be given with ``--resume``; all others belong to the run."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    _explicit(parser)
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume a run with its own settings; of the other options only --total-trials, --budgets, "
        "--at-least, --stop, --device, --processes, --workers, --ray, --latency-db and --on may be given",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="with a database: replace the process of another machine that searched in the study and has ended",
    )


class TargetOption(argparse.Action):
    """Collects every ``--target``."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Add a target."""
        namespace.target = [*getattr(namespace, "target", ()), values]


class BoardOption(argparse.Action):
    """Collects every ``--on`` at the place of the ``--target`` before it; None for a target without one."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Add a board. Raises InputError for a second one of the same target."""
        boards, place = [*getattr(namespace, "on", ())], max(1, len(getattr(namespace, "target", ())))
        if len(boards) >= place:
            raise InputError(f"--on {values} after --on {boards[-1]}", "one board per --target, after it")
        namespace.on = [*boards, *(None for _ in range(place - len(boards) - 1)), values]


def _explicit(parser: argparse.ArgumentParser) -> ExplicitOptions:
    """Add the options that decide a search; only those that are given are in the parsed namespace."""
    from nas.cli.options import add_data, add_device, add_largest_first, add_on, add_ray, add_space

    options = ExplicitOptions(parser)
    add_space(options.as_parser())
    add_data(options.as_parser(), required=False)
    options.add_argument("--num-classes", type=int, help="number of classes without a data set (default 80)")
    _add_objectives(options)
    _add_limits(options)
    _add_budget_of_work(options)
    _add_supernet(options)
    add_largest_first(options.as_parser())
    add_device(options.as_parser(), training=True)
    options.add_argument(
        "--workers",
        metavar="N|auto",
        help="estimate accuracies in so many processes of this machine, auto: one per GPU (docs/scaling.md)",
    )
    add_ray(options.as_parser(), "estimate accuracies")
    add_on(options.as_parser(), action=BoardOption)
    options.add_argument(
        "--latency-db", help="file or database URL of latencies (default: one for all runs, in the cache folder)"
    )
    options.add_argument("--storage", help="Optuna storage URL of the study (default: a journal file in the run)")
    return options


def _add_objectives(options: ExplicitOptions) -> None:
    options.add_argument(
        "--target",
        action=TargetOption,
        default="onnxruntime",
        help="target of the latencies: runtime[:precision][@size][/b8][/t2] (default %(default)s, in fp32); repeatable, "
        "each with its own --on: every candidate is measured on all devices, and each gets its own S, M and L",
    )
    options.add_argument(
        "--precision",
        dest="precisions",  # the precision of a training is another thing
        metavar="NAME[,NAME…]",
        help="fp32, fp16, bf16 or int8 instead of the target's precision; several become a choice of the "
        "search, all on one front",
    )
    options.add_argument(
        "--latency",
        default="measured",
        help="latency of candidates: measured, or predicted from the latency database (nas onboard); S, M and "
        "L are always measured "
        "(default %(default)s)",
    )
    options.add_argument(
        "--accuracy",
        default="supernet",
        help="accuracy of candidates: supernet, elements, nwot or synflow (default %(default)s)",
    )
    options.add_argument(
        "--minimize",
        action="append",
        metavar="NAME",
        help="an objective by its estimator's name, instead of latency: latency-p99, params, macs, "
        "activations, energy … (nas list lists them; "
        "repeatable, the first is the cost of budgets and S/M/L)",
    )
    options.add_argument(
        "--maximize",
        action="append",
        metavar="NAME",
        help="an objective instead of --accuracy: supernet-small (AP of small objects), throughput (at the "
        "target's batch) … (repeatable)",
    )


def _add_limits(options: ExplicitOptions) -> None:
    options.add_argument(
        "--budgets",
        help="latency budgets of S, M and L: S=2ms,M=4ms, or the latency of a reference model on the target: "
        "S=ref:yolov8n or "
        "S=ref:yolov8n@320 (pixels; else the target's size, else its own); without: S, M and L spread over the front",
    )
    options.add_argument(
        "--at-least",
        help="accuracies of S, M and L at the least cost, instead of --budgets: S=0.40,M=0.45, or that of a "
        "reference model in the space: "
        "S=ref:yolov8n",
    )
    options.add_argument(
        "--bound",
        action="append",
        metavar="NAME<=N",
        help="a constraint on an estimate, for example 'params<=1e6' (repeatable)",
    )
    options.add_argument(
        "--max", action="append", metavar="NAME=N", help="an upper bound: --max latency=5ms, --max params=1.5M"
    )
    options.add_argument("--min", action="append", metavar="NAME=N", help="a lower bound: --min supernet=0.4")
    options.add_argument(
        "--max-activation-mb",
        type=float,
        metavar="N",
        help="upper bound of the compiled network's activation memory in MB of 10^6 bytes (TensorRT-RTX, no "
        "GPU needed)",
    )


def _add_budget_of_work(options: ExplicitOptions) -> None:
    options.add_argument("--trials", type=int, default=100, help="architectures to try (default %(default)s)")
    options.add_argument(
        "--total-trials",
        type=int,
        metavar="N",
        help="with --resume: try N architectures in all instead of the number of the run",
    )
    options.add_argument(
        "--seed-with",
        metavar="NAME[,…]",
        help="reference models to try first, for example yolov8n,yolo-nas-s; they must be points of the space",
    )
    options.add_argument("--sampler", default="guided", help="guided, nsga2, tpe or random (default %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="seed of everything random (default %(default)s)")
    options.add_argument(
        "--eval-images",
        type=int,
        default=500,
        help="val images that rank candidates, 0 for all (default %(default)s)",
    )
    options.add_argument("--no-early-stop", action="store_true", help="disable pruning of unpromising candidates")
    options.add_argument(
        "--stop",
        metavar="auto|PERCENT",
        help="stop before --trials: auto, if another tenth of the work would gain less than 0.1 %% of "
        "hypervolume, or below so many percent "
        "a minute",
    )
    options.add_argument(
        "--estimate-cost",
        action="store_true",
        help="measure what the search would cost, print it, and end; nothing is written",
    )


def _add_supernet(options: ExplicitOptions) -> None:
    options.add_argument(
        "--supernet", help="trained supernet, whose space is searched (default: train one into the run)"
    )
    options.add_argument(
        "--init",
        type=Path,
        metavar="WEIGHTS",
        help="begin the supernet as a trained detector (.safetensors, or published weights: nas import); the space is "
        "what its weights cover, and the detector is the first candidate",
    )
    options.add_argument(
        "--accept-licence", action="store_true", help="with --init: import weights under a restricted licence"
    )
    options.add_argument(
        "--recipe", default="default", help="recipe of the supernet's training (docs/training.md; default %(default)s)"
    )
    options.add_argument(
        "--set",
        action="append",
        metavar="NAME=V",
        help="another value for any part of the supernet's recipe, augmentation included (repeatable)",
    )
    options.add_argument(
        "--epochs",
        type=int,
        help="of the supernet's training (default: 20, on a small data set as many as 1000 steps take, more for several image sizes)",
    )
    options.add_argument(
        "--batch-size", type=int, help="of the supernet's training (default 32; 16 below 1000 images without --epochs)"
    )
    options.add_argument("--lr", type=float, help="peak learning rate of the supernet's training")
    options.add_argument("--no-augment", action="store_true", help="train the supernet on the images as they are")


def run(args: argparse.Namespace) -> int:
    """Search, resume a search, or estimate its cost."""
    from latency_db.remote.profiler import measuring_on
    from nas.cli.options import existing
    from nas.core.console_reporter import ConsoleReporter
    from nas.search.cost_estimate import estimate_cost
    from nas.search.plan import SearchPlan
    from nas.search.report.front_files import results_table
    from nas.search.run import search

    options = _explicit(argparse.ArgumentParser())
    given = options.given(args)
    only_estimate = "estimate_cost" in given
    if args.resume:
        folder = existing(args.resume, "run")
        settings = _resumed(args, folder, options)
    else:
        if args.out is None and not only_estimate:
            raise InputError("no folder for the run", "--out FOLDER (or --resume RUN)")
        if args.out and (args.out / "run.json").exists():
            raise InputError(
                f"{args.out} holds a run already", "a new folder", f"to resume it: nas search --resume {args.out}"
            )
        folder = args.out or Path()
        values = {name: getattr(args, name, default) for name, default in options.defaults.items()}
        settings = _settings(values, given)
    reporter = ConsoleReporter()
    if only_estimate:
        with measuring_on(settings.on):
            plan = SearchPlan.parse(settings).check()
            reporter.table(estimate_cost(plan, args.resume, reporter).table())
        return 0
    result = search(settings, folder, reporter, args.take_over)
    if settings.others:
        from nas.search.finalize_devices import TABLE, read_device_table

        reporter.table(read_device_table(folder))
        reporter.note(f"{folder}: {TABLE}, and a run of each device in its own folder")
        return 0
    reporter.table(results_table([(p.name, p.candidate) for p in result.selection]))
    reporter.note(f"{result.folder}: {', '.join(result.files)}")
    return 0


def _resumed(args: argparse.Namespace, folder: Path, options: ExplicitOptions) -> SearchSettings:
    """Return the settings of a run with the options that may change.

    Raises InputError that names an option which belongs to the run.
    """
    from dataclasses import replace

    from nas.search.settings import SearchSettings

    given = options.given(args)
    if args.out is not None:
        raise InputError("--out with --resume", "--resume RUN alone: a run stays in its folder")
    if refused := [flag for name, flag in given.items() if name not in RESUMABLE]:
        raise InputError(
            f"{', '.join(refused)} with --resume: the run keeps its own",
            "only " + ", ".join(options.flags[name] for name in RESUMABLE),
            "start a new search for other settings; more candidates: --total-trials N",
        )
    settings = SearchSettings.read(folder)
    changes: dict[str, Any] = {name: getattr(args, name) for name in given if name in KEPT and name != "on"}
    if "on" in given:
        if settings.others or len(args.on) > 1:
            raise InputError("--on with the --resume of several devices", "no --on: each keeps its own")
        changes["on"] = args.on[0]
    if "total_trials" in given:
        changes["trials"] = args.total_trials
    if "budgets" in given or "at_least" in given:
        changes |= {"budgets": getattr(args, "budgets", None), "at_least": getattr(args, "at_least", None)}
        changes |= {"baselines": {}, "goals": {}}
    return replace(settings, **changes)


def _settings(values: Mapping[str, Any], given: Mapping[str, str]) -> SearchSettings:
    """Return the settings of a new search from the options.

    Args:
        values: Every option's value, given or default.
        given: The options that were given.
    """
    from nas.estimators import ESTIMATORS
    from nas.search.samplers import SAMPLERS
    from nas.search.settings import SearchSettings
    from search_spaces.fixed_values import fixed_values
    from search_spaces.spaces import SPACES

    if "total_trials" in given:
        raise InputError("--total-trials without --resume", "--trials N for a new search")
    ESTIMATORS[values["accuracy"]], SAMPLERS[values["sampler"]]
    bounds = (
        *(values["bound"] or ()),
        *(_compared(b, "<=") for b in values["max"] or ()),
        *(_compared(b, ">=") for b in values["min"] or ()),
    )
    if values["max_activation_mb"] is not None:
        bounds += (f"engine_activations_mib<={values['max_activation_mb'] * 1e6 / 2**20:.6g}",)
    first, *others = values["target"] if isinstance(values["target"], list) else [values["target"]]
    boards = [*(values["on"] or ()), *(None for _ in others), None]
    target, precisions = _precisions(first, values["precisions"])
    seeded = tuple(values["seed_with"].split(",")) if values["seed_with"] else ()
    recipe = _recipe(values, given)
    if values["init"] is None and values["supernet"] is None:
        where: dict[str, Any] = {"fixed": fixed_values(SPACES[values["space"]], values["fix"])}
    elif values["init"] is None:
        where = _from_supernet(values, given)
    else:
        from nas.training.recipe import FROM_TRAINED

        where, own = _from_weights(values, given)
        seeded = tuple(dict.fromkeys((*seeded, *own)))
        recipe = {**FROM_TRAINED, **recipe}
    same = [
        *("space", "data", "num_classes", "limit", "latency", "accuracy", "trials", "sampler", "seed", "budgets"),
        *("at_least", "supernet", "eval_images", "stop", "latency_db", "storage"),
        *("device", "processes", "workers", "ray"),
    ]
    return SearchSettings(
        **({name: values[name] for name in same} | where),
        target=target,
        on=boards[0],
        others=tuple(_device(text, board) for text, board in zip(others, boards[1:], strict=False)),
        precisions=precisions,
        minimize=tuple(values["minimize"] or ()),
        maximize=tuple(values["maximize"] or ()),
        seeded=seeded,
        bounds=bounds,
        recipe=recipe,
        augment=not values["no_augment"],
        early_stop=not values["no_early_stop"],
    )


def _from_supernet(values: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Return space and restrictions of a search with a trained supernet: what the supernet has, unless ``--fix`` names
    other values.

    Raises InputError if the file cannot be read, or if it is of another space than ``--space``.
    """
    from nas.supernet.weights import space_of_supernet
    from search_spaces.fixed_values import fixed_values
    from search_spaces.spaces import SPACES

    path = Path(values["supernet"])
    space = space_of_supernet(path)
    if "space" in given and values["space"] != space.name:
        raise InputError(f"--space {values['space']}", f"{space.name}, the space of {path}", "leave --space out")
    own = {choice.name: choice.values for choice in space.choices}
    return {"space": space.name, "fixed": {**own, **fixed_values(SPACES[space.name], values["fix"])}}


def _from_weights(values: Mapping[str, Any], given: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return space, restrictions and initial weights of a search that begins with a trained detector, and the names of
    the reference models that it is.

    Raises InputError if the weights cannot be read, or together with a trained supernet.
    """
    from nas.core.references import reference_of
    from nas.pretrained.convert import weights_file
    from nas.supernet.weights import load_detector
    from nas.training.supernet_initialization import space_from

    if "supernet" in given:
        raise InputError("--init with --supernet", "one of them", "nas supernet --init trains a supernet from weights")
    path = weights_file(values["init"], values["accept_licence"])
    space = space_from(path, values["space"] if "space" in given else None, values["fix"])
    reference = reference_of(load_detector(path)[1].architecture)
    settings = {
        "space": space.name,
        "fixed": {choice.name: choice.values for choice in space.choices},
        "init": str(path.resolve()),
    }
    return settings, () if reference is None else (reference.name,)


def _recipe(values: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the supernet's recipe that differ from the default: of a named recipe, --set and options."""
    from nas.training.recipe import Recipe, parse_values
    from nas.training.recipes import RECIPES

    default = Recipe().to_dict()
    named = RECIPES[values["recipe"]].recipe
    chosen = {name: value for name, value in named.to_dict().items() if value != default[name]}
    written = parse_values(values["set"] or ())
    augmentation = {**chosen.get("augmentation", {}), **written.get("augmentation", {})}
    options = ("epochs", "batch_size", "lr", "largest_first")
    chosen |= written | {name: values[name] for name in options if values[name] is not None}
    chosen |= {"augmentation": augmentation} if augmentation else {}
    chosen.pop("seed", None)
    Recipe.from_dict(chosen)  # raises for values that cannot be
    return chosen


def _precisions(target: str, names: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the target as text, and its precisions if they are a choice of the search.

    The target's own precision is the one that it names, else the first.
    """
    from dataclasses import replace

    from latency_db.core.target import Target

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


def _device(target: str, board: str | None) -> str:
    """Return the text of a further device."""
    from latency_db.core.target import Target

    return f"{Target.parse(target)}{f' on {board}' if board else ''}"


def _compared(text: str, sign: str) -> str:
    """Return ``NAME=N`` as a bound with this sign."""
    name, found, value = text.partition("=")
    if not found:
        raise InputError(f"{text!r} after --{'max' if sign == '<=' else 'min'}", "NAME=NUMBER, for example params=1e6")
    return f"{name}{sign}{value}"
