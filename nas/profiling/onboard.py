"""A device nobody has measured on: the next most informative networks are measured until latency can be predicted as
surely as was asked."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network, RuntimeFailure, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.remeasure import remeasure
from latency_db.predictor.database import rows_of
from latency_db.predictor.features import Features, network_features
from latency_db.predictor.model import Predictor, spread
from latency_db.runtimes import open_profiler
from nas.core.reporter import Reporter
from nas.data.source import open_data
from nas.profiling.workload import latency_workload
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

POOL = 400
FIRST, BATCH = 24, 8
SHARE = 0.95


@dataclass(frozen=True)
class OnboardingGoal:
    """Stop when ``share`` of the networks, each predicted from others, are within ``within`` (a share: 0.05) of what
    was measured; or at ``most``."""

    within: float = 0.05
    share: float = SHARE
    most: int = 120

    def __post_init__(self) -> None:
        if not 0 < self.within < 1:
            raise InputError(f"--tolerance {self.within:.0%}", "between 0 and 100 %, for example 5%")
        if self.most < FIRST:
            raise InputError(f"--max-networks {self.most}", f"at least {FIRST}")


@dataclass(frozen=True)
class OnboardingResult:
    """How it ended: networks measured on the target (before and now), the share of them within the goal's limit, the
    predictor."""

    measured: int
    share: float
    reached: bool
    predictor: Predictor


def onboard(
    space: SearchSpace,
    num_classes: int,
    target: Target,
    goal: OnboardingGoal,
    database: LatencyDB,
    reporter: Reporter,
    data: str | None = None,
    seed: int = 0,
) -> OnboardingResult:
    """Measure networks of ``space`` on ``target`` until the goal is met; each is kept at once, so that an interrupted
    onboarding goes on.

    A network that the runtime fails on is named and left out; an error, if a whole batch fails. Before it ends, what
    was measured now while the machine was off its usual speed is measured once more
    (:mod:`latency_db.database.remeasure`), and the goal is judged again.
    """
    pool = pool_of_networks(space, num_classes, target, seed)
    with tempfile.TemporaryDirectory() as scratch, open_profiler(target) as profiler:
        opened = open_data(data) if data else None
        reporter.note(f"describing {len(pool)} networks of {space.name} to choose from")
        described = [network_features(n, target.batch) for n in pool]
        left = {i for i, n in enumerate(pool) if database.find(profiler.key(n.key)) is None}
        started, measured = time.monotonic(), 0
        to_settle: list[Workload] = []

        def say(workload: Workload, m: Measurement, better: bool) -> None:
            outcome = "kept" if better else "no nearer, the first is kept"
            reporter.note(f"{workload.key} again, the machine was off its usual speed: {m.median_ms:.2f} ms, {outcome}")

        while True:
            rows = rows_of(database, profiler.key(""))
            predictor = Predictor.fit(rows) if len(rows) >= FIRST else None
            if predictor is not None:
                found = float((predictor.errors() <= goal.within).mean())
                reporter.note(
                    f"{len(rows)} networks: {predictor.report()}; {found:.0%} within ±{goal.within:.0%} (goal {goal.share:.0%})"
                )
                if found >= goal.share or len(rows) >= goal.most:
                    if to_settle:
                        remeasure(database, profiler, to_settle, say)
                        to_settle = []
                        continue
                    return OnboardingResult(len(rows), found, found >= goal.share, predictor)
            if not left:
                raise InputError(
                    f"all {len(pool)} networks of the pool are measured",
                    hint="allow more of the space, or accept a wider --tolerance",
                )
            batch = _chosen(predictor, described, sorted(left), len(rows))
            left -= set(batch)
            failed = 0
            for done, i in enumerate(batch, 1):
                workload = latency_workload(space, pool[i].architecture, num_classes, target, Path(scratch), opened)
                try:
                    m = database.measure_cached(profiler, workload)
                    to_settle.append(workload)
                except RuntimeFailure as error:
                    failed += 1
                    reporter.note(f"{pool[i].key} left out: {error}")
                    if failed == len(batch):
                        raise
                    continue
                measured += 1
                eta = (time.monotonic() - started) / measured * max(0, goal.most - len(rows) - done)
                reporter.note(
                    f"{len(rows) + done} of at most {goal.most} (ETA at most {eta:.0f} s): {pool[i].architecture.id} at {pool[i].image_size} px "
                    f"{m.median_ms:.2f} ms ± {m.half_width:.1%}, {m.verdict}"
                )


def pool_of_networks(space: SearchSpace, num_classes: int, target: Target, seed: int) -> list[Network]:
    """Random points of the space, and its ends, at the target's image size or their own."""
    rng = random.Random(seed)
    points: dict[str, Architecture] = {a.id: a for a in (space.smallest, space.largest)}
    for _ in range(20 * POOL):
        if len(points) == min(POOL, space.size):
            break
        a = space.sample(rng)
        points[a.id] = a
    return [Network(a, num_classes, target.image_size or int(a["image_size"])) for a in points.values()]


def _chosen(
    predictor: Predictor | None, described: Sequence[Features], positions: Sequence[int], measured: int
) -> list[int]:
    """Whom to measure next, as positions in the pool: spread over it at first, then the most informative."""
    features = [described[i] for i in positions]
    if predictor is None:
        return [positions[i] for i in spread(features, FIRST - measured)]
    return [positions[i] for i in predictor.next_informative(features, BATCH)]
