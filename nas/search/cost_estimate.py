"""Cost estimate of a search from unit costs measured now: steps of the supernet's training, and candidates."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch

from nas.core.compute import device_of
from nas.core.precision_choice import joined
from nas.core.references import unnamed_classes
from nas.core.reporter import Reporter, Update
from nas.core.text_table import TextTable
from nas.data.source import DataPair
from nas.estimators.base import Estimator
from nas.search.estimation import SearchEstimators, open_estimators
from nas.search.plan import SearchPlan
from nas.search.run_supernet import supernet_source, training_budget
from nas.supernet.supernet import Supernet
from nas.training.data import open_training_data, training_batches
from nas.training.loop import steps_timed
from nas.training.tasks import SandwichTask
from search_spaces.architecture import Architecture
from search_spaces.image_size import ImageSize
from search_spaces.space import SearchSpace

STEPS = 3
"""Timed steps of each kind, after one that warms up."""
PICKS = 3
"""S, M and L are measured again, each in fresh processes."""
AGAIN = 4
"""Effort of a second measurement in first ones (:data:`latency_db.core.profiler.FINALIST`)."""


@dataclass(frozen=True)
class CostPart:
    """A part of the cost: ``count`` times something of ``low_s`` to ``high_s`` seconds, ``mean_s`` on average."""

    what: str
    count: int
    low_s: float
    mean_s: float
    high_s: float

    @classmethod
    def of(cls, what: str, count: int, seconds: Sequence[float]) -> CostPart:
        """Make a part from timed seconds."""
        return cls(what, count, min(seconds), sum(seconds) / len(seconds), max(seconds))

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return self.count * self.mean_s


@dataclass(frozen=True)
class CostEstimate:
    """The parts of the cost of a search."""

    parts: tuple[CostPart, ...]

    @property
    def total_s(self) -> float:
        """Seconds in all."""
        return sum(part.total_s for part in self.parts)

    def table(self) -> TextTable:
        """Return the table of parts: count, seconds each, time in all."""
        rows = [(p.what, str(p.count), _each(p), duration(p.total_s)) for p in self.parts]
        return TextTable(("", "count", "each", "in all"), (*rows, ("the search", "", "", duration(self.total_s))))


def estimate_cost(plan: SearchPlan, folder: Path | None, reporter: Reporter) -> CostEstimate:
    """Estimate the cost of a search from unit costs measured on this machine now; nothing is kept.

    Candidates are the smallest, one in the middle and the largest, each at every precision of the search. An
    untrained supernet stands for one that is still to be trained. What pruning saves is not counted, nor what the
    latency database already has.

    Args:
        plan: The plan.
        folder: Folder of a run whose trained supernet is used, at no cost; None for a new search.
        reporter: Receives notes.
    """
    settings = plan.settings
    data = open_training_data(settings.data, settings.limit, reporter) if settings.data else None
    classes = data.classes if data else unnamed_classes(settings.num_classes or 80)
    supernet: Supernet | None = None
    parts: list[CostPart] = []
    with tempfile.TemporaryDirectory() as scratch:
        if plan.needs_supernet and data is not None:
            supernet = supernet_source(plan, data, folder or Path(scratch)).ready
            if supernet is None:
                reporter.note("timing a few steps of the supernet's training")
                supernet, parts = _training(plan, data)
            supernet = supernet.to(device_of(settings.device))
        if settings.latency == "measured":
            settings = replace(settings, latency_db=str(Path(scratch) / "latency.sqlite"))
        with open_estimators(replace(plan, settings=settings), len(classes), data, supernet) as estimators:
            parts += _evaluation(plan, estimators, reporter)
    return CostEstimate(tuple(parts))


def _evaluation(plan: SearchPlan, estimators: SearchEstimators, reporter: Reporter) -> list[CostPart]:
    """Return the costs of the candidates and of the second measurements."""
    space, latency = plan.space, estimators.latency
    middle = space.architecture(**{c.name: c.values[len(c.values) // 2] for c in space.choices})
    precisions = plan.settings.precisions or (None,)
    sample = (space.sample(random.Random(0)), space.smallest, middle, space.largest)
    tried = [joined(a, p) for a in sample for p in precisions]
    with reporter.steps("timing three candidates") as update:
        parts = _candidates(estimators.candidate, tried, plan.settings.trials, len(precisions), update)
    if plan.settings.latency == "predicted":
        each = _seconds(lambda: latency(joined(middle, precisions[0])))
    else:
        each = next((p.mean_s for p in parts if p.what == f"candidates: {latency.name}"), 0.0)
    return [*parts, CostPart.of("the chosen measured again", PICKS, [AGAIN * each])]


def _training(plan: SearchPlan, data: DataPair) -> tuple[Supernet, list[CostPart]]:
    """Return an untrained supernet and the cost of training it."""
    space, recipe, device = plan.space, training_budget(plan, data).recipe, plan.settings.device
    torch.manual_seed(recipe.seed)
    supernet = Supernet(space, len(data.classes)).to(device_of(device))
    loader = training_batches(data, recipe, (_average_size(space),), plan.settings.augment, device)
    steps = len(loader) * recipe.epochs
    alone = round(recipe.largest_first * steps)
    parts = []
    for what, count, first in (
        ("supernet, largest network alone", alone, STEPS + 1),
        ("supernet, sandwich", steps - alone, 0),
    ):
        if count:
            task = SandwichTask(supernet, "cost", recipe.seed, largest_only_steps=first, loss=recipe.loss())
            parts.append(CostPart.of(what, count, steps_timed(task, loader, recipe, STEPS + 1)[1:]))
    return supernet, parts


def _average_size(space: SearchSpace) -> ImageSize:
    """The image size of a space whose area is nearest to the average: a training draws all sizes equally often."""
    average = mean(size.area for size in space.image_sizes)
    return min(space.image_sizes, key=lambda size: abs(size.area - average))


def _candidates(
    estimators: Sequence[Estimator], tried: Sequence[Architecture], count: int, warming_up: int, update: Update
) -> list[CostPart]:
    """Time every estimator at points of the search, of which the first ``warming_up`` do not count.

    Args:
        estimators: The estimators.
        tried: Points of the search.
        count: Number of candidates of the search.
        warming_up: Number of first points that do not count.
        update: Receives the progress.
    """
    parts, done, total = [], 0, len(estimators) * len(tried)
    for estimator in estimators:
        seconds = []
        for point in tried:
            update(done, total, estimator.name)
            seconds.append(_seconds(partial(estimator, point)))
            done += 1
        parts.append(CostPart.of(f"candidates: {estimator.name}", count, seconds[warming_up:]))
    update(total, total, "")
    return parts


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _each(part: CostPart) -> str:
    return f"{part.low_s:.2g}–{part.high_s:.2g} s" if part.high_s > 1.2 * part.low_s else f"{part.mean_s:.2g} s"


def duration(seconds: float) -> str:
    """Return a duration as text: ``45 s``, ``12 min``, ``3 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
