"""Searching from Python: any space, any callables, the same study, samplers and files as ``nas search``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from nas.core.console_reporter import ConsoleReporter
from nas.core.reporter import Reporter
from nas.estimators.function import Function
from nas.search.evaluate_candidate import Bound
from nas.search.progress import search_progress
from nas.search.study import Limits, Study, TrialEvent
from nas.search.terminator import StopRule, never
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

__all__ = ["Bound", "Function", "Limits", "search"]


def search(
    space: SearchSpace,
    objectives: Sequence[Function],
    trials: int,
    *,
    others: Sequence[Function] = (),
    bounds: Sequence[Bound] = (),
    budgets: Sequence[float] = (),
    sampler: str = "guided",
    seed: int = 0,
    storage: Path | str | None = None,
    name: str = "search",
    first: Sequence[Architecture] = (),
    watch: Callable[[TrialEvent], None] = lambda event: None,
    early_stop: bool = False,
    stop: str | None = None,
    reporter: Reporter | None = None,
) -> Study:
    """Evaluate architectures of a space and return the study.

    The study has ``archive.front``, ``candidates`` and ``failures``.

    Args:
        space: The space.
        objectives: One to four objectives.
        trials: Number of architectures in all.
        others: Functions that are evaluated and recorded besides the objectives.
        bounds: Constraints on any of both.
        budgets: Upper bounds of the first of two objectives for which the best of the second is wanted.
        sampler: Name in :data:`nas.search.samplers.SAMPLERS`.
        seed: Seed of the sampler.
        storage: Journal file or Optuna URL; the same call resumes it (docs/scaling.md). None keeps nothing.
        name: Name of the study in the storage.
        first: Architectures that are tried after the extremes of the space.
        watch: Called after every trial.
        early_stop: Whether unpromising candidates are pruned.
        stop: ``auto``, or percent of hypervolume per minute below which the search ends before ``trials``.
        reporter: Receives the progress; None prints it to stderr, ``Reporter()`` is silent.

    Raises InputError for arguments that do not fit together.

    Example::

        cost = Function("cost", lambda a: count(a), "min")
        gain = Function("gain", lambda a: simulate(a), "max", rank=1)
        study = search(SPACES["yolo-nano"], [cost, gain], trials=100)
        for candidate in study.archive.front:
            print(candidate.id, candidate["cost"].value, candidate["gain"].value)
    """
    limits, enough = Limits(bounds, budgets), StopRule.parse(stop) if stop else never
    with tempfile.TemporaryDirectory() as scratch:
        where = storage if storage is not None else Path(scratch) / "study.journal"
        study = Study(where, name, space, [o.objective() for o in objectives], sampler, seed, limits)
        with search_progress(reporter or _stderr(), len(study.history.progress), trials) as show:
            study.run([*objectives, *others], trials, _both(show, watch), first, early_stop, enough)
    return study


def _stderr() -> Reporter:
    return ConsoleReporter(Console(stderr=True, highlight=False))


def _both(first: Callable[[TrialEvent], None], second: Callable[[TrialEvent], None]) -> Callable[[TrialEvent], None]:
    """Return a callback that calls both."""

    def call(event: TrialEvent) -> None:
        first(event)
        second(event)

    return call
