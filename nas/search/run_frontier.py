"""The frontier of a run's folder, worked out for drawing."""

from __future__ import annotations

from pathlib import Path

from nas.core.architecture_file import read_artifact
from nas.core.estimate import Candidate
from nas.plotting.frontier import FrontierData
from nas.search.report.front_files import read_front
from nas.search.report.frontier import frontier_data
from nas.search.selection import Pick, Selection
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates


def run_frontier(folder: Path, title: str | None = None, log_x: bool | None = None) -> FrontierData:
    """Return the plot of a run, finished or running.

    ``log_x``: logarithmic cost axis; by default if the costs differ by more than 8 times. Raises InputError if the
    folder holds no run, or no candidate yet.
    """
    settings = SearchSettings.read(folder)
    candidates = list(read_candidates(settings.storage or folder / "study.journal", settings.study_name(folder)))
    cost, gain = settings.aims.cost, settings.aims.gain
    names = [name for name, _ in read_front(folder / "front.json").chosen] if (folder / "front.json").exists() else []
    chosen = [read_artifact(folder / f"{name}.json") for name in names]
    picks = tuple(
        Pick(
            a.name, Candidate(a.architecture, a.estimates, a.study.trial, a.precision if settings.precisions else None)
        )
        for a in chosen
    )
    picks = tuple(sorted(picks, key=lambda p: p.candidate[cost.name].value))
    return frontier_data(
        candidates,
        cost,
        gain,
        selection=Selection(picks, cost.name, gain.name) if picks else None,
        target=settings.target_name,
        data_set=settings.data or "",
        log_x=log_x,
        title=title or f"Efficiency frontier: {settings.space}",
    )
