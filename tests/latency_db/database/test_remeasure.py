"""What was measured while the machine was off its usual speed is measured again, and the better of two stays."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Network, Profiler, Workload
from latency_db.core.target import Target
from latency_db.database.db import LatencyDB
from latency_db.database.remeasure import MAX_DEVIATION, off_nominal, remeasure, speed_deviation
from search_spaces.spaces import SPACES
from tests._measured import measurement

NANO = SPACES["yolo-nano"]


class TwoSpeeds(Profiler):
    """A machine whose anchor takes what the test says, and each network as long in proportion."""

    runtime, precisions = "onnxruntime", ("fp32",)

    def __init__(self, anchors: list[float | None]) -> None:
        super().__init__(Target("onnxruntime"))
        self.anchors = anchors
        self.busy = False

    @classmethod
    def available(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return "1"

    def measure(self, workload: Workload) -> Measurement:
        assert workload.network is not None
        anchor = self.anchors.pop(0)
        known: dict[str, Any] = {} if anchor is None else {"anchor": {"wall_ms": anchor, "cpu_ms": anchor}}
        verdict = "contended" if self.busy else "clean"
        return replace(
            measurement(workload.network, ms=3 * (anchor or 2.0), **known), target=self.target, verdict=verdict
        )


def workloads(count: int) -> list[Workload]:
    rng = random.Random(0)
    networks = [Network(NANO.sample(rng), 10, 96) for _ in range(count)]
    return [Workload(n.key, Path("none"), n) for n in networks]


def test_the_better_of_two_stays(tmp_path: Path) -> None:
    asked = workloads(5)
    profiler = TwoSpeeds([2.0, 2.6, 2.02, 1.98, 2.3])
    told: list[tuple[float, bool]] = []
    with LatencyDB(tmp_path / "l.sqlite") as database:
        keys = [profiler.key(w.key) for w in asked]
        for workload in asked:
            database.measure_cached(profiler, workload)
        assert list(off_nominal(database, keys)) == [keys[1], keys[4]]  # the farthest first
        profiler.anchors = [2.01, 2.5]
        left = remeasure(database, profiler, asked, lambda w, m, better: told.append((m.median_ms, better)))
        assert (
            left == 1
            and [better for _, better in told] == [True, False]
            and [ms for ms, _ in told] == pytest.approx([6.03, 7.5])
        )
        assert database.get(keys[1]).median_ms == pytest.approx(6.03) and database.get(
            keys[4]
        ).median_ms == pytest.approx(6.9)
        profiler.anchors = [2.0]
        assert remeasure(database, profiler, asked) == 0 and not profiler.anchors
        assert remeasure(database, profiler, asked) == 0  # nothing left to measure


def test_without_an_anchor_nothing_is_off(tmp_path: Path) -> None:
    asked = workloads(3)
    profiler = TwoSpeeds([None, None, None])
    with LatencyDB(tmp_path / "l.sqlite") as database:
        for workload in asked:
            database.measure_cached(profiler, workload)
        assert remeasure(database, profiler, [*asked, *workloads(4)[3:]]) == 0  # nor what was never measured
    assert asked[0].network is not None and speed_deviation(measurement(asked[0].network), 2.0) == 1.0
    assert 0 < MAX_DEVIATION < 0.2


def test_what_was_disturbed_is_measured_again(tmp_path: Path) -> None:
    asked = workloads(3)
    profiler = TwoSpeeds([2.0, 2.0, 2.0])
    with LatencyDB(tmp_path / "l.sqlite") as database:
        for i, workload in enumerate(asked):
            profiler.busy = i == 1
            database.measure_cached(profiler, workload)
        profiler.busy, profiler.anchors = True, [2.0]
        assert remeasure(database, profiler, asked) == 1  # no better
        profiler.busy, profiler.anchors = False, [2.3]
        assert remeasure(database, profiler, asked) == 1  # better, and still off the usual speed
        profiler.anchors = [2.02]
        assert remeasure(database, profiler, asked) == 0
