"""The benchmarks that judge: against references, and training-free scores against real accuracies; on numbers that a
hand can check."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.against_references import Entrant, judged, references
from benchmarks.proxy_correlation import GROUPINGS, TOGETHER, correlations, tau
from latency_db.core.profiler import Network
from nas.bench.results import BenchEntry, BenchModel, BenchResult, BenchSettings
from nas.core.estimate import Estimate
from search_spaces.references import FAMILIES, reference
from search_spaces.spaces import SPACES, space_of
from search_spaces.trace import trace

NANO = SPACES["yolo-nano"]


def test_references_at_nano_scale() -> None:
    found = references("nano", 96)
    assert len({e.name for e in found}) == len({e.architecture.id for e in found}) == len(found) >= 10
    assert {e.family for e in found} == set(FAMILIES) - {"YOLO-NAS"}  # has no width to scale it by
    for e in found:
        assert e.architecture["image_size"] == 96 and not e.ours and space_of(e.architecture)
        assert trace(space_of(e.architecture).graph(e.architecture), 10).macs < 120e6
    names = {e.name: e.architecture for e in found}
    assert names["yolov8n"] == reference("yolov8n").architecture.replace(image_size=96)
    assert names["yolov8n x0.5"]["width"] == 0.125
    assert {e.name for e in references("full", 640)} >= {"yolov8x", "yolo26n", "yolo-nas-l"}


def bench_of(entrants: list[Entrant], ms: dict[str, float]) -> BenchResult:
    network = Network(NANO.smallest, 3, 96)
    models = [BenchModel(e.name, e.family, network, 1000, 2000) for e in entrants]
    entries = [
        BenchEntry(m, "fake", (), Estimate("latency_ms", ms[m.name], "ms", ms[m.name] * 0.99, ms[m.name] * 1.01))
        for m in models
    ]
    return BenchResult(BenchSettings(("fake",), {m.name: network.key for m in models}), tuple(entries), None, {})


def test_who_dominates_whom() -> None:
    entrants = [Entrant(n, "F", NANO.smallest, n == "slow") for n in ("slow", "even", "best", "tiny")]
    ms = {"slow": 2.0, "even": 2.4, "best": 2.0, "tiny": 1.0}
    accuracy = {"slow": [0.50, 0.52], "even": [0.51, 0.49], "best": [0.60, 0.60], "tiny": [0.30, 0.30]}
    found = judged(entrants, accuracy, bench_of(entrants, ms))
    even, best, tiny = (found["references"][n] for n in ("even", "best", "tiny"))
    assert (
        even["faster_at_its_map"] == pytest.approx(1.2)
        and even["faster_by"] == even["more_by"] == "slow"
        and even["dominated"]
    )
    assert even["points_more_per_seed"] == [pytest.approx(-1.0), pytest.approx(3.0)] and even[
        "points_more_at_its_latency"
    ] == pytest.approx(1.0)
    assert (
        best["faster_at_its_map"] is None
        and best["points_more_at_its_latency"] == pytest.approx(-9.0)
        and not best["dominated"]
    )
    assert (
        tiny["points_more_at_its_latency"] is None
        and tiny["faster_at_its_map"] == pytest.approx(0.5)
        and not tiny["dominated"]
    )
    assert found["searched"]["slow"]["map"] == pytest.approx(51.0) and found["searched"]["slow"]["map_per_seed"] == [
        50.0,
        52.0,
    ]


def test_correlations_where_it_matters() -> None:
    """A score that is the resolution alone orders everything overall, and nothing at one resolution."""
    sizes = np.repeat([160.0, 320.0, 480.0], 40)
    inside = np.tile(np.arange(40.0), 3)
    accuracy = sizes + 0.1 * inside
    latency = np.tile(np.random.default_rng(0).permutation(40) + 1, 3) * sizes**2
    values = {
        "resolution": sizes,
        "inside": inside,
        "macs": accuracy,
        "nwot_table": accuracy,
        "latency": latency,
        "activations": latency,
    }
    found = correlations(values, latency, sizes, accuracy)
    assert set(found) == set(GROUPINGS)
    assert found["overall"]["macs"] == pytest.approx(1) == found["overall"]["macs + nwot"] and set(TOGETHER) < set(
        found["overall"]
    )
    assert found["overall"]["resolution"] > 0.8 and "resolution" not in found["one resolution"]
    assert (
        found["one resolution"]["inside"] == pytest.approx(1) == found["one resolution and latency quarter"]["inside"]
    )
    assert found["within latency bands"]["macs"] == pytest.approx(1)
    assert np.isnan(tau(np.ones(10), np.arange(10.0))) and np.isnan(tau(np.arange(2.0), np.arange(2.0)))
