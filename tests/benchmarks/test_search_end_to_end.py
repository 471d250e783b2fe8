"""The comparison of samplers on the quickstart's search: its arithmetic, and that an architecture is asked once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.search_end_to_end import TABLE as OWN_TABLE
from benchmarks.search_end_to_end import Recorded, TableLatency, compared, searched
from benchmarks.workers import MadeUpLatency, size_of
from latency_db.core.profiler import Network
from latency_db.database.table_io import read_table, write_table
from nas.estimators.base import Context
from search_spaces.spaces import SPACES
from tests._fakes import FakeScore, tiny_space


def test_evaluations_until_the_front_is_as_good() -> None:
    slow = [(1.0, 0.1), (0.5, 0.2), (0.5, 0.3), (0.2, 0.3)]
    fast = [(1.0, 0.1), (0.2, 0.3), (0.1, 0.3), (0.1, 0.1)]
    figure = compared({"nsga2": [slow, slow], "guided": [fast, list(reversed(fast))]}, 4)
    assert figure["evaluations_to_nsga2_at_the_end_each_seed"] == [2, 2]
    assert figure["reference"] == (1.0, 0.1)
    never = compared({"nsga2": [slow], "guided": [slow[:1] * 4]}, 4)
    assert never["evaluations_to_nsga2_at_the_end_each_seed"] == [None] and never["median_each_seed"] == 4


def test_an_architecture_is_asked_once_by_all_searches(tmp_path: Path) -> None:
    space = tiny_space()
    score = FakeScore(Context(space, 3))
    score.name = "map"  # type: ignore[misc]
    estimators = [
        Recorded(MadeUpLatency(score.context), tmp_path / "latency.json"),
        Recorded(score, tmp_path / "map.json"),
    ]
    first = searched(space, estimators, "random", 0, 20)
    asked = len(score.asked)
    assert searched(space, estimators, "random", 0, 20) == first and len(score.asked) == asked == 20
    again = Recorded(score, tmp_path / "map.json")
    assert len(again.known) == 20


def test_the_table_of_latencies_grows_with_the_network(tmp_path: Path) -> None:
    space = SPACES["yolo-nano"].restrict({"image_size": (96,)})
    measured = [(k, m) for k, m in read_table(OWN_TABLE).rows if m.environment["network"]["image_size"] == 96]
    measured.sort(key=lambda row: row[1].median_ms)
    write_table(tmp_path / "table.csv", measured, "test")
    latency = TableLatency(Context(space, 10), tmp_path / "table.csv")
    small, large = (
        latency(Network.from_dict(m.environment["network"]).architecture) for _, m in (measured[0], measured[-1])
    )
    assert 0 < small.value < large.value and small.source == "predicted"
    assert size_of(SPACES["yolo-nano"].smallest) == 0


def test_a_batch_that_lies_ready_is_the_first_of_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.train_models import Ready
    from nas.data.loader import Loader, LoaderConfig
    from nas.data.source import open_data

    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    loader = Loader(open_data("digits@32:train=8,val=2").train, LoaderConfig(2, 32, shuffle=True, drop_last=True))
    first = next(iter(loader.epoch()))
    batches = list(Ready(loader).epoch())
    assert len(batches) == len(loader) == 4 and all(torch.equal(b.images, first.images) for b in batches)
