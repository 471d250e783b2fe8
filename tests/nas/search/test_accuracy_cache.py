"""Accuracies of a supernet are evaluated once: a search for another device pays for latency only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from nas.core.estimate import Estimate
from nas.core.precision_choice import joined
from nas.estimators.base import Context
from nas.search.accuracy_cache import ACCURACIES, AccuracyCache, accuracy_url
from nas.search.evaluate_candidate import Bound, KnownAccuracy
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from nas.search.study import Limits, Study
from nas.search.study_identity import StudyIdentity
from search_spaces.architecture import Architecture
from tests._fakes import FakeLatency, FakeScore, numbers_of, tiny_space

TINY = tiny_space(2, 2)
CONTEXT = Context(TINY, 3)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal syncs every record."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class OtherDevice(FakeLatency):
    """The same networks, elsewhere."""

    def __call__(self, architecture: Architecture) -> Estimate:
        estimate = super().__call__(architecture)
        return replace(estimate, value=3 - estimate.value)


class InRungs(FakeScore):
    """The gain, after an early estimate, with replicates."""

    role = "compute"

    def rungs(self, architecture: Architecture) -> Iterator[Estimate]:
        self.asked.append(architecture.id)
        gain = numbers_of(architecture)[1]
        yield Estimate("score@10", gain / 2)
        yield Estimate(self.name, gain, replicates=(gain, gain / 3), remarks=("as float",))


def cache_of(folder: Path, **changes: object) -> AccuracyCache:
    settings = SearchSettings(latency_db=str(folder / "latency.sqlite"), data="digits", target="openvino:fp32")
    settings = replace(settings, precisions=("fp32", "int8"))
    identity = StudyIdentity(settings, "data", "device", "weights")
    named = {name: value for name, value in changes.items() if name in ("data", "device", "weights")}
    other = {name: value for name, value in changes.items() if name not in named}
    settings = replace(settings, **other)  # type: ignore[arg-type]
    return AccuracyCache(SearchPlan.parse(settings), replace(identity, settings=settings, **named))  # type: ignore[arg-type]


def searched(folder: Path, name: str, latency: FakeLatency, early_stop: bool = False) -> tuple[Study, InRungs]:
    score = InRungs(CONTEXT)
    objectives = [FakeLatency.objective(), InRungs.objective()]
    study = Study(folder / f"{name}.journal", "run", TINY, objectives, "random")
    with cache_of(folder) as cache:
        study.run([latency, score], TINY.size, early_stop=early_stop, accuracies=cache)
    return study, score


def test_a_search_for_another_device_evaluates_no_accuracy_again(tmp_path: Path) -> None:
    first, score = searched(tmp_path, "a", FakeLatency(CONTEXT))
    assert len(score.asked) == TINY.size
    second, score = searched(tmp_path, "b", OtherDevice(CONTEXT), early_stop=True)
    assert score.asked == [] and len(second.candidates) == TINY.size
    of_first = {c.id: c["score"] for c in first.candidates}
    assert all(c["score"] == of_first[c.id] for c in second.candidates)
    records, kept = second.history.records, first.history.records
    for id_, record in records.items():
        assert (record.early, record.draws, record.remarks) == (kept[id_].early, kept[id_].draws, ["as float"])
    assert {c.id for c in first.archive.front} != {c.id for c in second.archive.front}


def test_an_accuracy_outside_a_bound_is_kept_too(tmp_path: Path) -> None:
    bounds = Limits([Bound("score", False, 2.0)])
    for name, asked in (("a", 5), ("b", 0)):
        score = InRungs(CONTEXT)
        objectives = [FakeLatency.objective(), InRungs.objective()]
        study = Study(tmp_path / f"{name}.journal", "run", TINY, objectives, "random", limits=bounds)
        with cache_of(tmp_path) as cache:
            study.run([FakeLatency(CONTEXT), score], 5, accuracies=cache)
        assert len(score.asked) == asked and len(study.failures) == 5


KNOWN = [KnownAccuracy(Estimate("map", 0.5, replicates=(0.4, 0.6)), {"map@62": 0.3})]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"device": "another", "target": "onnxruntime:fp32"}, True),
        ({"weights": "another"}, False),
        ({"data": "another"}, False),
        ({"eval_images": 77}, False),
        ({"seed": 3}, False),
    ],
)
def test_what_an_accuracy_depends_on(changes: dict[str, object], found: bool, tmp_path: Path) -> None:
    point = joined(TINY.smallest, "fp32")
    with cache_of(tmp_path) as cache:
        cache.put(KNOWN, point)
        cache.put(KNOWN, point)  # by another search, at the same time
    with cache_of(tmp_path, **changes) as cache:
        assert cache.find(["map"], point) == (KNOWN if found else None)
        assert cache.find(["map", "map_small"], point) is None
        assert cache.find(["map"], joined(TINY.largest, "fp32")) is None


def test_float16_that_is_rounded_is_no_float32(tmp_path: Path) -> None:
    """On targets that read ONNX the supernet is evaluated with the roundings of float16."""
    with cache_of(tmp_path) as cache:
        cache.put(KNOWN, joined(TINY.smallest, "fp32"))
    changes = {"target": "tensorrt-rtx:fp16", "precisions": ("fp32", "fp16")}
    with cache_of(tmp_path, **changes) as cache:
        assert cache.find(["map"], joined(TINY.smallest, "fp16")) is None
        assert cache.find(["map"], joined(TINY.smallest, "fp32")) == KNOWN


def test_int8_is_of_its_target_and_device(tmp_path: Path) -> None:
    point = joined(TINY.smallest, "int8")
    with cache_of(tmp_path) as cache:
        cache.put(KNOWN, point)
        assert cache.find(["map"], point) == KNOWN and cache.find(["map"], joined(TINY.smallest, "fp32")) is None
    for changes in ({"device": "another"}, {"target": "onnxruntime:fp32"}):
        with cache_of(tmp_path, **changes) as cache:
            assert cache.find(["map"], point) is None


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"estimate": 5, "early": {}, "replicates": [], "remarks": []}'])
def test_a_damaged_record_is_evaluated_again(record: str, tmp_path: Path) -> None:
    with cache_of(tmp_path) as cache:
        cache.put(KNOWN, joined(TINY.smallest, "fp32"))
        with cache._engine.begin() as connection:
            connection.execute(update(ACCURACIES).values(record=record))
        assert cache.find(["map"], joined(TINY.smallest, "fp32")) is None


def test_where_accuracies_are_kept(tmp_path: Path) -> None:
    assert accuracy_url(str(tmp_path / "l.sqlite")).database == str(tmp_path / "l-accuracies.sqlite")
    assert accuracy_url("postgresql://nas@db/latencies").database == "latencies"
