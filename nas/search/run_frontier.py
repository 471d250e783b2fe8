"""The frontier of a run's folder, worked out for drawing."""

from __future__ import annotations

from pathlib import Path

from nas.core.architecture_file import read_artifact
from nas.plotting.frontier import FrontierData
from nas.search.chosen_files import chosen_files, front_of_run
from nas.search.finished_run import selection_of
from nas.search.plan import SearchPlan
from nas.search.report.frontier import frontier_data
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates


def run_frontier(folder: Path, title: str | None = None, log_x: bool | None = None) -> FrontierData:
    """Return the plot of a run, finished or running.

    ``log_x``: logarithmic cost axis; by default if the costs differ by more than 8 times. Raises InputError if the
    folder holds no run, or no candidate yet.
    """
    plan = SearchPlan.parse(SearchSettings.read(folder))
    settings, aims = plan.settings, plan.aims
    candidates = list(read_candidates(settings.storage_of(folder), settings.study_name(folder)))
    front = front_of_run(folder)
    artifacts = [read_artifact(path) for path in chosen_files(folder).values()]
    return frontier_data(
        candidates,
        aims.cost,
        aims.gain,
        selection=selection_of(plan, artifacts) if artifacts else None,
        hypervolume=front.hypervolume if front else None,
        target=plan.target_name,
        data_set=settings.data or "",
        log_x=log_x,
        title=title or f"Efficiency frontier: {settings.space}",
    )
