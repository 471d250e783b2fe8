"""``nas plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas plot runs/digits
  nas plot runs/digits --linear --title "Digits on my laptop" --out slides"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("run", type=Path, help="folder of a search")
    parser.add_argument("--out", type=Path, help="folder for frontier.html and frontier.png (default: the run)")
    parser.add_argument("--title", help="heading")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--log", action="store_true", help="logarithmic latency axis")
    scale.add_argument("--linear", action="store_true", help="linear latency axis (default: by the range)")


def run(args: argparse.Namespace) -> int:
    """Draw a run's candidates again; works during a search too."""
    from nas.cli.options import existing, new_folder
    from nas.core.architecture_file import read_artifact
    from nas.core.console_reporter import ConsoleReporter
    from nas.plotting.frontier import write_frontier
    from nas.search.finished_run import selection_of
    from nas.search.plan import SearchPlan
    from nas.search.report.front_files import read_front
    from nas.search.report.frontier import frontier_data
    from nas.search.settings import SearchSettings
    from nas.search.study_reader import read_candidates

    folder = existing(args.run, "run")
    plan = SearchPlan.parse(SearchSettings.read(folder))
    settings, aims = plan.settings, plan.aims
    candidates = list(read_candidates(settings.storage_of(folder), settings.study_name(folder)))
    front = read_front(folder / "front.json") if (folder / "front.json").exists() else None
    artifacts = [read_artifact(folder / f"{name}.json") for name, _ in front.chosen] if front else []
    data = frontier_data(
        candidates,
        aims.cost,
        aims.gain,
        selection=selection_of(plan, artifacts) if artifacts else None,
        hypervolume=front.hypervolume if front else None,
        target=plan.target_name,
        data_set=settings.data or "",
        log_x=True if args.log else False if args.linear else None,
        title=args.title or f"Efficiency frontier: {settings.space}",
    )
    written = write_frontier(new_folder(args.out) if args.out else folder, data)
    ConsoleReporter().note("written: " + ", ".join(str(path) for path in written))
    return 0
