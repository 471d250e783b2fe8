"""The front as files while a search runs."""

from __future__ import annotations

import time
from pathlib import Path

from nas.plotting.frontier_html import write_frontier_html
from nas.search.plan import SearchPlan
from nas.search.report.front_files import Front, write_front
from nas.search.report.frontier import frontier_data
from nas.search.study import Study, TrialEvent

LIVE_S = 30.0
"""Seconds between two writings of the front while a search runs."""


class LiveFront:
    """Writes ``front.json``, ``front.csv`` and ``frontier.html`` of a running search when the front has changed."""

    def __init__(self, plan: SearchPlan, study: Study, folder: Path, data_name: str) -> None:
        self._plan, self._study, self._folder, self._data_name = plan, study, folder, data_name
        self._written = 0.0
        self._front: tuple[str, ...] = ()

    def __call__(self, event: TrialEvent) -> None:
        """Take notice of a trial."""
        front = tuple(c.id for c in event.archive.front)
        if front == self._front or time.monotonic() - self._written < LIVE_S:
            return
        archive, aims = event.archive, self._plan.aims
        write_front(
            self._folder, Front(self._study.objectives, archive.front, (), archive.hypervolume, archive.reference)
        )
        data = frontier_data(
            self._study.candidates,
            aims.cost,
            aims.gain,
            target=self._plan.target_name,
            data_set=self._data_name,
            hypervolume=archive.hypervolume,
            title=f"Efficiency frontier: {self._plan.settings.space} ({event.done} of {event.wanted})",
        )
        write_frontier_html(self._folder / "frontier.html", data)
        self._front, self._written = front, time.monotonic()
