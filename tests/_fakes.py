"""Estimators that answer from the architecture's hash, and spaces small enough to know whole: a search in
milliseconds, without torch."""

from __future__ import annotations

from collections.abc import Callable

from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

NANO = SPACES["yolo-nano"]


def tiny_space(widths: int = 4, hidden: int = 3) -> SearchSpace:
    """``widths`` x 3 block types x 2 depths x ``hidden`` points of yolo-nano: 72 in all."""
    free = {
        "width": NANO["width"].values[:widths],
        "stage2_block": NANO["stage2_block"].values,
        "stage3_depth": NANO["stage3_depth"].values[:2],
        "stage4_hidden": NANO["stage4_hidden"].values[:hidden],
    }
    return NANO.restrict({c.name: free.get(c.name, c.values[:1]) for c in NANO.choices})


def numbers_of(architecture: Architecture) -> tuple[float, float]:
    """Cost (1..2) and gain (0..1) that only the architecture decides."""
    return 1 + int(architecture.id[:6], 16) / 2**24, int(architecture.id[6:], 16) / 2**24


class FakeLatency(Estimator):
    """The cost, cheap."""

    name, unit, direction = "latency_ms", "ms", "min"

    def __init__(self, context: Context, before: Callable[[Architecture], None] = lambda architecture: None) -> None:
        super().__init__(context)
        self.before = before
        self.asked: list[str] = []

    def __call__(self, architecture: Architecture) -> Estimate:
        self.asked.append(architecture.id)
        self.before(architecture)
        return Estimate(self.name, numbers_of(architecture)[0], self.unit, source="table", target="fake:fp32")


class FakeScore(FakeLatency):
    """The gain, dear."""

    name, unit, direction, rank = "score", "", "max", 2

    def __call__(self, architecture: Architecture) -> Estimate:
        self.asked.append(architecture.id)
        self.before(architecture)
        return Estimate(self.name, numbers_of(architecture)[1], source="table")


class HashLatency(Latency):
    """A latency for whole runs of the command line, second measurement included; registered as ``latency`` by the
    test that wants it."""

    def __init__(self, context: Context) -> None:
        Estimator.__init__(self, context)

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, numbers_of(architecture)[0], self.unit, source="measured", target="fake:fp32")

    def remeasure(self, architecture: Architecture) -> Estimate:
        return self(architecture)

    def close(self) -> None:
        return
