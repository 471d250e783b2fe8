"""``nas onboard``."""

from __future__ import annotations

import argparse

EXAMPLES = """\
  nas onboard --target openvino:fp32 --fix image_size=320
  nas onboard --target tensorrt:fp16@640 --space yolo-nas --tolerance 5% --max-networks 200
  nas onboard --on ssh:pi@raspberrypi.local --target onnxruntime:fp32 --fix image_size=320
  nas search --latency predicted --target openvino:fp32 …        (afterwards: latency is predicted, S, M and L are measured)"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    from nas.cli.options import add_on, add_space

    add_space(parser)
    parser.add_argument(
        "--target",
        default="onnxruntime:fp32",
        help="what to measure on, runtime:precision[@size][/b8][/t2] (default %(default)s)",
    )
    parser.add_argument(
        "--tolerance",
        default="10%",
        help="relative error that 95 %% of the predictions have to meet (default %(default)s)",
    )
    parser.add_argument(
        "--max-networks", type=int, default=120, help="largest number of measured networks (default %(default)s)"
    )
    parser.add_argument("--num-classes", type=int, default=80, help="default %(default)s")
    parser.add_argument("--data", help="images to calibrate int8 with")
    add_on(parser)
    parser.add_argument("--latency-db", help="file or URL of latencies (default: one for all runs)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Measure until latency can be predicted; status 1 if the goal was not reached."""
    from latency_db.core.target import Target
    from latency_db.database.db import LatencyDB
    from latency_db.remote.profiler import measuring_on
    from nas.cli.options import fixed_values
    from nas.core.console_reporter import ConsoleReporter
    from nas.profiling.default_database import default_latency_db
    from nas.profiling.onboard import OnboardingGoal, OnboardingRequest, onboard
    from search_spaces.spaces import SPACES

    reporter = ConsoleReporter()
    space = SPACES[args.space].restrict(fixed_values(SPACES[args.space], args.fix))
    goal = OnboardingGoal(share_of(args.tolerance), max_networks=args.max_networks)
    request = OnboardingRequest(space, args.num_classes, Target.parse(args.target), goal, args.data, args.seed)
    with LatencyDB(args.latency_db or default_latency_db()) as database, measuring_on(args.on):
        done = onboard(request, database, reporter)
    outcome = f"{done.measured} networks measured: {done.share:.0%} are predicted within ±{goal.tolerance:.0%}"
    if not done.reached:
        reporter.note(f"{outcome}, short of {goal.share:.0%}: raise --max-networks, or expect larger errors")
        return 1
    reporter.note(f"{outcome}; next: nas search --latency predicted --target {args.target}")
    return 0


def share_of(text: str) -> float:
    """Parse a share: ``"5%"`` or ``"0.05"`` -> 0.05; raises InputError for anything else."""
    from search_spaces.errors import InputError

    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise InputError(f"--tolerance {text!r}", "a share such as 5%") from None
