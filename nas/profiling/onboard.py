"""Onboard a device: measure just enough networks that latency can be predicted within a tolerance.

1. A pool of random networks of the space is described by features.
2. The first :data:`FIRST` networks that are measured spread over the pool.
3. A predictor is fitted to all measurements of the target, and judged by cross-validation.
4. While the goal is not met, the :data:`BATCH` most informative networks of the pool are measured, and step 3 repeats.
5. Measurements that were taken while the machine was off its nominal speed are repeated once
   (:mod:`latency_db.database.remeasure`), and the goal is judged again.

Every measurement is kept at once, so that an interrupted onboarding resumes.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network, Profiler, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.remeasure import remeasure
from latency_db.predictor.database import rows_of
from latency_db.predictor.features import Features, network_features
from latency_db.predictor.model import Predictor, spread
from latency_db.runtimes import open_profiler
from nas.core.reporter import Reporter, Update
from nas.data.source import DataPair, open_data
from nas.profiling.workload import latency_workload
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

POOL = 400
"""Networks to choose from."""
FIRST, BATCH = 24, 8
"""Networks that are measured before the first prediction, and between two."""
SHARE = 0.95


@dataclass(frozen=True)
class OnboardingGoal:
    """When to stop.

    Attributes:
        tolerance: allowed relative error of a prediction (0.05: 5 %).
        share: of the networks, each predicted from the others, that have to be within the tolerance.
        max_networks: stop here in any case.
    """

    tolerance: float = 0.05
    share: float = SHARE
    max_networks: int = 120

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise InputError(f"--tolerance {self.tolerance:.0%}", "between 0 and 100 %, for example 5%")
        if self.max_networks < FIRST:
            raise InputError(f"--max-networks {self.max_networks}", f"at least {FIRST}")


@dataclass(frozen=True)
class OnboardingRequest:
    """What is onboarded: networks of ``space`` with ``num_classes`` classes on ``target``.

    ``data`` is a data set whose images calibrate int8; ``seed`` draws the pool.
    """

    space: SearchSpace
    num_classes: int
    target: Target
    goal: OnboardingGoal = OnboardingGoal()
    data: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target.image_size is not None:
            self.target.image_size.check(f"target {self.target}")


@dataclass(frozen=True)
class OnboardingResult:
    """Networks measured on the target (before and now), the share within the tolerance, and the predictor."""

    measured: int
    share: float
    reached: bool
    predictor: Predictor


def onboard(request: OnboardingRequest, database: LatencyDB, reporter: Reporter) -> OnboardingResult:
    """Measure networks until the goal is met or ``max_networks`` are measured.

    A network that the runtime fails on is reported and left out.

    Args:
        request: what is onboarded.
        database: measurements are read from and written to it.
        reporter: receives the progress.

    Raises:
        InputError: if the whole pool is measured and the goal is not met.
        RuntimeFailure: if every network of a batch fails.
    """
    goal = request.goal
    with tempfile.TemporaryDirectory() as scratch, open_profiler(request.target) as profiler:
        data = open_data(request.data) if request.data else None
        session = _Session(request, database, profiler, data, Path(scratch), reporter)
        with reporter.steps("networks measured") as update:
            while True:
                rows = rows_of(database, profiler.key(""))
                predictor = Predictor.fit(rows) if len(rows) >= FIRST else None
                if predictor is not None:
                    share = float((predictor.errors() <= goal.tolerance).mean())
                    reporter.note(
                        f"{len(rows)} networks: {predictor.report()}; "
                        f"{share:.0%} within ±{goal.tolerance:.0%} (goal {goal.share:.0%})"
                    )
                    if share >= goal.share or len(rows) >= goal.max_networks:
                        if session.remeasure():
                            continue
                        return OnboardingResult(len(rows), share, share >= goal.share, predictor)
                session.measure_batch(predictor, len(rows), update)


class _Session:
    """The pool of one onboarding, and what was measured of it."""

    def __init__(
        self,
        request: OnboardingRequest,
        database: LatencyDB,
        profiler: Profiler,
        data: DataPair | None,
        scratch: Path,
        reporter: Reporter,
    ) -> None:
        self.request, self.database, self.profiler = request, database, profiler
        self.data, self.scratch, self.reporter = data, scratch, reporter
        self.pool = pool_of_networks(request.space, request.num_classes, request.target, request.seed)
        self.described: list[Features] = []
        with reporter.progress(f"describing networks of {request.space.name}") as update:
            update(0, len(self.pool))
            for i, network in enumerate(self.pool, 1):
                self.described.append(network_features(network, request.target.batch))
                update(i, len(self.pool))
        self.left = {i for i, n in enumerate(self.pool) if database.find(profiler.key(n.key)) is None}
        self.to_settle: list[Workload] = []

    def remeasure(self) -> bool:
        """Repeat measurements that were off the nominal speed; whether there were any to look at."""
        workloads, self.to_settle = self.to_settle, []
        if workloads:
            remeasure(self.database, self.profiler, workloads, self._note_again)
        return bool(workloads)

    def _note_again(self, workload: Workload, m: Measurement, better: bool) -> None:
        outcome = "kept" if better else "the first measurement is kept"
        self.reporter.note(
            f"{workload.key} repeated, the machine was off its nominal speed: {m.median_ms:.2f} ms, {outcome}"
        )

    def measure_batch(self, predictor: Predictor | None, measured: int, update: Update) -> None:
        """Measure the next networks; ``measured`` of them are in the database already."""
        if not self.left:
            raise InputError(
                f"all {len(self.pool)} networks of the pool are measured",
                hint="allow more of the space, or a larger --tolerance",
            )
        batch = _chosen(predictor, self.described, sorted(self.left), measured)
        self.left -= set(batch)
        failures = 0
        for done, i in enumerate(batch, 1):
            network, request = self.pool[i], self.request
            workload = latency_workload(
                request.space, network.architecture, network.classes, request.target, self.scratch, self.data
            )
            try:
                m = self.database.measure_cached(self.profiler, workload)
            except RuntimeFailure as error:
                failures += 1
                self.reporter.note(f"{network.key} left out: {error}")
                if failures == len(batch):
                    raise
                continue
            self.to_settle.append(workload)
            text = f"{network.architecture.id} at {network.image_size} px {m.median_ms:.2f} ms ± {m.half_width:.1%}"
            update(measured + done, max(request.goal.max_networks, measured + done), f"{text}, {m.verdict}")


def pool_of_networks(space: SearchSpace, num_classes: int, target: Target, seed: int) -> list[Network]:
    """Draw random points of the space, its two ends among them, at the target's image size or their own."""
    rng = random.Random(seed)
    points: dict[str, Architecture] = {a.id: a for a in (space.smallest, space.largest)}
    for _ in range(20 * POOL):
        if len(points) == min(POOL, space.size):
            break
        a = space.sample(rng)
        points[a.id] = a
    return [Network(a, num_classes, target.image_size or a.image_size) for a in points.values()]


def _chosen(
    predictor: Predictor | None, described: Sequence[Features], positions: Sequence[int], measured: int
) -> list[int]:
    """Choose positions of the pool to measure: first spread over it, then the most informative."""
    features = [described[i] for i in positions]
    if predictor is None:
        return [positions[i] for i in spread(features, FIRST - measured)]
    return [positions[i] for i in predictor.next_informative(features, BATCH)]
