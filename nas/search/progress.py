"""Progress of a search for a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nas.core.reporter import Reporter
from nas.core.units import quantity
from nas.search.study import TrialEvent


@contextmanager
def search_progress(reporter: Reporter, done: int, trials: int) -> Iterator[Callable[[TrialEvent], None]]:
    """Give a callback for :meth:`nas.search.study.Study.run`: trials, front, hypervolume and last candidate.

    ``done`` of ``trials`` are evaluated already.
    """
    with reporter.steps("search") as update:
        if done < trials:
            update(done, trials, "")

        def callback(event: TrialEvent) -> None:
            update(event.done, event.wanted, _text(event))
            if event.message:
                reporter.note(f"candidate {event.done}: {event.message}")

        yield callback


def _text(event: TrialEvent) -> str:
    volume, candidate = event.archive.hypervolume, event.candidate
    if candidate is None or event.message:  # noqa: SIM108
        last = event.message
    else:
        last = "  ".join(quantity(candidate[o.name], False) for o in event.archive.objectives)
    hypervolume = "" if volume is None else f"  hypervolume {volume:.4g}"
    return f"front {len(event.archive.front)}{hypervolume}  last: {last}"
