"""Searching from Python: any space, any callables, the same study, samplers and files as ``nas search``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nas.estimators.function import Function
from nas.search.evaluate_candidate import Bound
from nas.search.study import Limits, Study, TrialEvent
from nas.search.terminator import StopRule, never
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

__all__ = ["Bound", "Function", "search"]


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
) -> Study:
    """Evaluate ``trials`` architectures of ``space`` and return the study: ``study.archive.front``,
    ``study.candidates``, ``study.failures``.

    ``objectives``: one to four. ``others``: evaluated too, and recorded; ``bounds`` may be on any of both.
    ``budgets``: upper bounds on the first of two objectives for which the best of the second is wanted. ``storage``:
    a file or URL; the same call goes on with it, and other processes may call it at the same time (docs/workers.md).
    Without one, nothing is kept. ``early_stop``: candidates that have hardly a chance, by what is known of them, are
    not evaluated to the end. ``stop``: ``auto``, or percent of hypervolume per minute below which the search ends
    before ``trials``. InputError for what cannot be.
    """
    with tempfile.TemporaryDirectory() as scratch:
        where = storage if storage is not None else Path(scratch) / "study.journal"
        study = Study(where, name, space, [o.objective() for o in objectives], sampler, seed, Limits(bounds, budgets))
        enough = StopRule.parse(stop) if stop else never
        study.run([*objectives, *others], trials, watch, first, early_stop, enough)
    return study
