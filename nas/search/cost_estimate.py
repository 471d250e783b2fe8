"""What a search will cost, from unit costs measured now: a few steps of its supernet's training, a few candidates."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from nas.core.compute import device_of
from nas.core.precision_choice import joined
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter
from nas.core.text_table import TextTable
from nas.data.source import DataPair
from nas.estimators.base import Estimator
from nas.search.run import evaluation, given_supernet
from nas.search.settings import SearchSettings
from nas.supernet.supernet import Supernet
from nas.training.data import image_size_of, open_training_data, training_batches
from nas.training.loop import steps_timed
from nas.training.tasks import SandwichTask
from search_spaces.architecture import Architecture

STEPS = 3
"""Steps of each kind that are timed, after one that only warms up."""
PICKS = 3
"""S, M and L are measured again, each in fresh processes."""
AGAIN = 4
"""So many times the effort of a candidate's measurement (:data:`latency_db.core.profiler.FINALIST`)."""


@dataclass(frozen=True)
class Part:
    """So many times something that took from ``low_s`` to ``high_s`` when it was tried, ``mean_s`` on average."""

    what: str
    count: int
    low_s: float
    mean_s: float
    high_s: float

    @property
    def total_s(self) -> float:
        return self.count * self.mean_s


@dataclass(frozen=True)
class Quote:
    """The parts of a search, and how long it takes in all."""

    parts: tuple[Part, ...]

    @property
    def total_s(self) -> float:
        return sum(part.total_s for part in self.parts)

    def table(self) -> TextTable:
        """Rows: part, count, seconds each, time in all."""
        rows = [(p.what, str(p.count), _each(p), duration(p.total_s)) for p in self.parts]
        return TextTable(("", "count", "each", "in all"), (*rows, ("the search", "", "", duration(self.total_s))))


def quote(settings: SearchSettings, folder: Path | None, reporter: Reporter) -> Quote:
    """Measured on this machine as it is now; nothing is kept. A supernet that a run in ``folder`` has trained already
    is taken, and costs nothing.

    Candidates are the smallest, one in the middle and the largest, each at every precision that is a choice. An
    untrained supernet stands for one that has yet to be trained. What early stopping saves is not counted, nor what
    the latency database knows already.
    """
    space = settings.open_space()
    data = open_training_data(settings.data, settings.limit, reporter) if settings.data else None
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    supernet: Supernet | None = None
    parts: list[Part] = []
    with tempfile.TemporaryDirectory() as scratch:
        if settings.trains:
            assert data is not None
            supernet = given_supernet(settings, space, data, folder or Path(scratch))
            if supernet is None:
                reporter.note("timing a few steps of the supernet's training")
                supernet, parts = _training(settings, data)
            supernet = supernet.to(device_of(settings.device))
        reporter.note("timing three candidates")
        if settings.latency == "measured":
            settings = replace(settings, latency_db=str(Path(scratch) / "latency.sqlite"))
        with evaluation(settings, len(classes), data, supernet, Path(scratch)) as (estimators, latency):
            middle = space.architecture(**{c.name: c.values[len(c.values) // 2] for c in space.choices})
            precisions = settings.precisions or (None,)
            tried = [
                joined(a, p)
                for a in (space.sample(random.Random(0)), space.smallest, middle, space.largest)
                for p in precisions
            ]
            parts += _candidates(estimators, tried, settings.trials, len(precisions))
            again = (
                _seconds(lambda: latency(joined(middle, precisions[0]))) if settings.latency == "predicted" else None
            )
            measured = next((p for p in parts if p.what == f"candidates: {latency.name}"), None)
            each = again if again is not None else measured.mean_s if measured else 0.0
            parts.append(Part("the chosen measured again", PICKS, AGAIN * each, AGAIN * each, AGAIN * each))
    return Quote(tuple(parts))


def _training(settings: SearchSettings, data: DataPair) -> tuple[Supernet, list[Part]]:
    space, recipe = settings.open_space(), settings.open_recipe()
    torch.manual_seed(recipe.seed)
    supernet = Supernet(space, len(data.classes)).to(device_of(settings.device))
    loader = training_batches(data, recipe, image_size_of(space), settings.augment, settings.device)
    steps = len(loader) * recipe.epochs
    alone = round(recipe.largest_first * steps)
    parts = []
    for what, count, first in (
        ("supernet, largest network alone", alone, STEPS + 1),
        ("supernet, sandwich", steps - alone, 0),
    ):
        if count:
            task = SandwichTask(supernet, "quote", recipe.seed, largest_only_steps=first, loss=recipe.loss())
            seconds = steps_timed(task, loader, recipe, STEPS + 1)[1:]
            parts.append(Part(what, count, min(seconds), sum(seconds) / len(seconds), max(seconds)))
    return supernet, parts


def _candidates(
    estimators: Sequence[Estimator], tried: Sequence[Architecture], count: int, warming_up: int
) -> list[Part]:
    """The first of the points that are tried, so many, only warm up."""
    parts = []
    for estimator in estimators:
        seconds = [_seconds(partial(estimator, point)) for point in tried][warming_up:]
        parts.append(
            Part(f"candidates: {estimator.name}", count, min(seconds), sum(seconds) / len(seconds), max(seconds))
        )
    return parts


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _each(part: Part) -> str:
    return f"{part.low_s:.2g}–{part.high_s:.2g} s" if part.high_s > 1.2 * part.low_s else f"{part.mean_s:.2g} s"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
