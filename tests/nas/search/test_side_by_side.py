"""Picks against reference models: one interleaved bench at the end, with interval, and with accuracies where known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.target import Target
from nas.core.estimate import Candidate, Estimate
from nas.core.reporter import Reporter
from nas.estimators.base import Context, Estimator
from nas.profiling.interleaved import RoundEntrant
from nas.search import side_by_side
from nas.search.baseline import Baseline, Comparison
from nas.search.estimation import SearchEstimators
from nas.search.plan import SearchPlan
from nas.search.selection import Pick, Selection
from nas.search.settings import SearchSettings
from nas.search.side_by_side import ROUNDS, compare_side_by_side
from search_spaces.architecture import Architecture
from search_spaces.image_size import ImageSize
from search_spaces.references import point_of
from tests._fakes import HashLatency
from tests._measured import measurement
from tests._progress import Recording

REFERENCE = "yolov8n"


def latency(ms: float) -> Estimate:
    return Estimate("latency_ms", ms, "ms", ms * 0.98, ms * 1.02, "measured", "onnxruntime:fp32")


class Accuracy(Estimator):
    name, direction = "elements_written", "max"

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(self.name, 0.37)


def the_plan() -> SearchPlan:
    baseline = Baseline(REFERENCE, ImageSize(640, 640), latency(20.0), 3_000_000, 8_000_000_000)
    settings = SearchSettings(
        space="yolov8",
        accuracy="elements",
        num_classes=3,
        budgets=f"S=ref:{REFERENCE},L=90ms",
        baselines={"S": baseline},
    )
    return SearchPlan.parse(settings)


@contextmanager
def opened(plan: SearchPlan) -> Iterator[tuple[Selection, SearchEstimators]]:
    point = point_of(plan.space, "yolov8s")
    estimates = (latency(10.0), Estimate("params", 1e6), Estimate("macs", 2e9), Estimate("elements_written", 0.41))
    candidate = Candidate(point, estimates)
    selection = Selection((Pick("S", candidate, 20.0), Pick("L", candidate, 90.0)), "latency_ms", "elements_written")
    context = Context(plan.space, 3)
    yield selection, SearchEstimators([Accuracy(context)], HashLatency(context))


def test_both_are_measured_in_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is three times slower than when the search measured: the ratio is that of now."""
    orders: list[list[str]] = []

    def rounds(order: Sequence[RoundEntrant], protocol: object) -> Iterator[object]:
        orders.append([entrant.name for entrant in order])
        for entrant in order:
            network = entrant.workload().network
            assert network is not None
            ms = {"S": 30.0}.get(entrant.name, 75.0) * (1 + len(orders) / 100)
            m: Measurement = replace(measurement(network, ms), target=Target("onnxruntime"))
            yield type("Outcome", (), {"entrant": entrant, "measurement": m})()

    monkeypatch.setattr(side_by_side, "measure_round", rounds)
    plan = the_plan()
    with opened(plan) as (selection, estimators):
        reporter = Recording()
        (found,) = compare_side_by_side(plan, selection, estimators, 3, None, reporter)
        reporter.check("comparing with the reference models")
    assert len(orders) == ROUNDS and {tuple(sorted(o)) for o in orders} == {("S", f"reference {REFERENCE}@640")}
    assert len({tuple(o) for o in orders}) > 1  # in random orders
    assert found.name == "S" and found.speed_up.value == pytest.approx(2.5)
    assert found.speed_up.low is not None and found.speed_up.high is not None
    assert found.speed_up.low < 2.5 < found.speed_up.high
    text = str(found)
    assert "2.50x faster" in text and "measured side by side, ratio" in text
    assert "Elements written 0.410 against 0.370 by the same estimate" in text
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_reference_outside_the_space_has_no_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "measure_round", lambda order, protocol: iter(()))
    plan = the_plan()
    small = replace(
        plan.settings.baselines["S"], image_size=ImageSize(320, 320)
    )  # not the size that the space has it at
    plan = plan.with_references(baselines={"S": small})
    with opened(plan) as (selection, estimators):
        (found,) = compare_side_by_side(plan, selection, estimators, 3, None, Reporter())
    assert found.baseline.accuracy is None and found.accuracy is None and not found.side_by_side
    assert found.latency.value == 10.0  # nothing was measured: the values of the search
    assert str(found).endswith(f"; not measured side by side; accuracy of {REFERENCE} not known")


def test_accuracies_are_compared_with_their_intervals() -> None:
    baseline = the_plan().settings.baselines["S"]
    own, other = (Estimate("map", v, "", v - 0.012, v + 0.012) for v in (0.41, 0.37))
    found = Comparison("S", latency(10.0), 1e6, 2e9, replace(baseline, accuracy=other), own, side_by_side=True)
    assert str(found).endswith("; mAP 50–95 0.410 ± 0.012 against 0.370 ± 0.012 by the same estimate")
    assert "not measured" not in str(found) and "not known" not in str(found)


def test_budgets_that_are_numbers_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "measure_round", None)
    plan = SearchPlan.parse(SearchSettings(accuracy="nwot", budgets="S=2ms"))
    with opened(the_plan()) as (selection, estimators):
        assert compare_side_by_side(plan, selection, estimators, 3, None, Reporter()) == ()


def test_temporary_networks_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(side_by_side, "measure_round", lambda order, protocol: iter(()))
    plan = the_plan()
    with opened(plan) as (selection, estimators):
        compare_side_by_side(plan, selection, estimators, 3, None, Reporter())
    assert list(tmp_path.iterdir()) == []
