"""The search for blocks to leave float: its model of cost and loss, its path and proposals, what it picks, and that a
killed one goes on."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Protocol
from nas.cli import main
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate
from nas.core.pareto import hypervolume
from nas.profiling.interleaved import Files
from nas.quantization import measurements as probing
from nas.quantization.block_selection import (
    BlockCostModel,
    FloatBlocks,
    SelectionPoint,
    choose_point,
    fit_cost_model,
    neighbours,
    points_lost,
    propose_blocks,
    selection_front,
    spread_along_path,
)
from nas.quantization.measurements import SelectionMeasurements
from nas.quantization.mixed_precision import HEURISTIC, SelectionConfig, search_float_blocks, write_selection
from nas.quantization.model import CalibratedDetector, CalibrationConfig
from search_spaces.errors import InputError
from tests._progress import Recording
from tests._quantized import shelf, subject

BLOCKS = tuple("abcdefgh")


class World:
    """Blocks with known costs and losses, and a latency that also pays for every border between int8 and float."""

    def __init__(self, seed: int, border_ms: float = 0.02) -> None:
        rng = random.Random(seed)
        self.cost = {b: rng.uniform(0.02, 0.2) for b in BLOCKS}
        self.loss = {b: rng.uniform(0.001, 0.05) ** 1.5 for b in BLOCKS}
        self.border_ms = border_ms

    def point(self, plan: FloatBlocks) -> SelectionPoint:
        borders = sum((x in plan) != (y in plan) for x, y in itertools.pairwise(BLOCKS))
        ms = 1 + sum(self.cost[b] for b in plan) + self.border_ms * borders
        loss = sum(self.loss[b] for b in BLOCKS if b not in plan)
        return SelectionPoint(
            plan, 0.7 - loss, loss, Estimate("latency_ms", ms, "ms", ms * 0.99, ms * 1.01, "measured")
        )

    @property
    def float_ms(self) -> float:
        return self.point(frozenset(BLOCKS)).latency.value

    def model(self, measured: list[SelectionPoint]) -> BlockCostModel:
        macs = [
            self.cost[b] * random.Random(b).uniform(0.5, 2) for b in BLOCKS
        ]  # the multiply-accumulates say something, not all
        return fit_cost_model(BLOCKS, macs, [self.loss[b] for b in BLOCKS], measured, self.float_ms)

    def search(self, along: int, trials: int) -> list[SelectionPoint]:
        points = {frozenset[str](): self.point(frozenset())}
        for plan in spread_along_path(self.model(list(points.values())), along):
            points[plan] = self.point(plan)
        for _ in range(trials):
            proposed = propose_blocks(self.model(list(points.values())), list(points.values()), self.float_ms)
            if proposed is None:
                break
            points[proposed] = self.point(proposed)
        return list(points.values())


def volume(points: list[SelectionPoint], world: World) -> float:
    rows = [(p.latency.value, p.distortion) for p in points]
    return hypervolume(rows, (world.float_ms * 1.01, sum(world.loss.values()) * 1.01), ["min", "min"])


@pytest.mark.parametrize("seed", range(2))
def test_few_measurements_find_nearly_the_whole_front(seed: int) -> None:
    world = World(seed)
    everything = [world.point(frozenset(c)) for n in range(len(BLOCKS)) for c in itertools.combinations(BLOCKS, n)]
    whole = volume(everything, world)
    found = world.search(4, 16)
    assert len(found) <= 21 < len(everything) / 10
    assert volume(found, world) > 0.97 * whole
    rng = random.Random(seed)
    drawn = [world.point(frozenset()), *rng.sample(everything, 20)]
    assert volume(found, world) > volume(drawn, world)


def test_costs_follow_what_was_measured() -> None:
    world = World(0, border_ms=0.0)
    none = world.point(frozenset())
    before = world.model([none])
    after = world.model([none, *(world.point(frozenset({b})) for b in BLOCKS)])
    true = np.array([world.cost[b] for b in BLOCKS])
    assert np.abs(before.cost_ms - true).max() > 0.02
    assert np.abs(after.cost_ms - true).max() < 0.012  # a single measurement is known to one percent of 1 ms
    assert after.latency({"a", "c"}) == pytest.approx(1 + world.cost["a"] + world.cost["c"], abs=0.02)
    assert before.cost_ms.sum() == pytest.approx(world.float_ms - none.latency.value, rel=1e-6)


def test_the_path_takes_the_best_ratio_first() -> None:
    model = BlockCostModel(("a", "b", "c"), 1.0, np.array([1.0, 0.1, 0.0]), np.array([1.0, 0.5, 0.01]))
    assert model.path() == [frozenset(), {"c"}, {"b", "c"}, {"a", "b", "c"}]
    assert model.latency({"b"}) == pytest.approx(1.1) and model.distortion({"b"}) == pytest.approx(1.01)
    assert spread_along_path(model, 5) == [frozenset("c"), frozenset("bc")]


def test_neighbours() -> None:
    assert set(neighbours(frozenset("a"), "abc")) == {
        frozenset("ab"),
        frozenset("ac"),
        frozenset(),
        frozenset("b"),
        frozenset("c"),
    }


def points() -> list[SelectionPoint]:
    rows = ((1.0, 0.690), (1.2, 0.697), (1.1, 0.680), (1.5, 0.699))
    return [
        SelectionPoint(frozenset({str(i)}), m, 0.0, Estimate("latency_ms", ms, "ms")) for i, (ms, m) in enumerate(rows)
    ]


def test_front_and_pick() -> None:
    best = selection_front(points())
    assert [p.latency.value for p in best] == [1.0, 1.2, 1.5]
    assert choose_point(best, 0.7, max_drop=1.0).latency.value == 1.0
    assert choose_point(best, 0.7).latency.value == 1.2  # half a point
    assert choose_point(best, 0.7, budget_ms=1.3).latency.value == 1.2
    assert points_lost(best[0], 0.7) == pytest.approx(1.0)
    assert [p.latency.value for p in selection_front(points(), 1.2)] == [
        1.0
    ]  # what is not faster than float is of no use
    with pytest.raises(InputError, match="faster than the float model"):
        choose_point(selection_front(points(), 0.5), 0.7)
    with pytest.raises(InputError, match="no selection within 0.9 ms; there are 1 ms with"):
        choose_point(best, 0.7, budget_ms=0.9)
    with pytest.raises(InputError, match="drop of 0.1 points"):
        choose_point(best, 0.7, max_drop=0.1, budget_ms=1.3)
    assert SelectionPoint.from_dict(json.loads(json.dumps(best[0].to_dict()))) == best[0]


@pytest.fixture(scope="module")
def few() -> CalibratedDetector:
    """With few blocks to choose of: each costs a file and an evaluation."""
    found = subject("onnxruntime:int8")
    kept = [
        b
        for b in found.blocks.choices
        if b.startswith(("head-dfl/levels.2/cls", "head-dfl/levels.2/reg", "stage4_down"))
    ]
    kept_convs = {name: b if name in kept else replace(b, convs=()) for name, b in found.blocks.by_name.items()}
    return replace(found, blocks=replace(found.blocks, by_name=kept_convs))


def timed(files: Files, seed: int, protocol: Protocol = probing.QUICK) -> dict[str, Measurement]:
    """In the place of a stopwatch: the size of the file, which int8 makes smaller."""
    found = {}
    for name, (path, target) in files.items():
        ms = path.stat().st_size / 1e6 + (target.precision == "fp32")
        found[name] = Measurement(ms, ms, ms, ms * 0.99, ms * 1.01, 10, "measured", "clean", "wall", target, name)
    return found


def test_a_selection_is_measured_kept_and_goes_on(
    few: CalibratedDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "one_round", timed)
    search = SelectionConfig(along=1, trials=1, subset=4)

    def probe() -> SelectionMeasurements:
        return SelectionMeasurements(few, shelf().data, tmp_path, search.subset)

    calls = 0

    def stops(files: Files, seed: int, protocol: Protocol = probing.QUICK) -> dict[str, Measurement]:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyboardInterrupt
        return timed(files, seed, protocol)

    monkeypatch.setattr(probing, "one_round", stops)
    with pytest.raises(KeyboardInterrupt):
        search_float_blocks(few, probe(), search, 1, ConsoleReporter())
    journal = tmp_path / probing.JOURNAL
    kept = journal.read_text()
    journal.write_text(kept + '{"kind": "accur')  # torn by a kill
    monkeypatch.setattr(probing, "one_round", timed)
    reporter = Recording()
    found = search_float_blocks(few, probe(), search, 1, reporter)
    reporter.check("sensitivity", "gain of each block", "sets of blocks", "latency of")
    assert journal.read_text().startswith(kept)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    kinds = [(line["kind"], *(str(line.get(name)) for name in ("left_float", "block", "number"))) for line in lines[1:]]
    assert len(set(kinds)) == len(kinds)  # nothing was measured twice
    (begun,) = (line["plans"] for line in lines[1:] if line["kind"] == "start")
    assert (
        len(found.points) == len({(), *map(tuple, begun)}) + search.trials
        and found.named[HEURISTIC].kept_float == few.blocks.heads_but_stems()
    )
    assert set(found.alone) == set(few.blocks.choices) and all(d > 0 for d, _ in found.alone.values())
    assert [p.latency.value for p in found.front] == sorted(p.latency.value for p in found.front)
    written = write_selection(tmp_path, replace(found, chosen=found.front[0]), few, shelf().data)
    assert all(path.stat().st_size > 1000 for path in written)
    said = json.loads(written[0].read_text())
    assert set(said["blocks"]) == set(few.blocks.choices) and said["chosen"]["left_float"] == sorted(
        found.front[0].kept_float
    )
    assert all(p["drop"] == pytest.approx(100 * (said["float"]["map"] - p["map"])) for p in said["points"])
    other = replace(few, calibration=CalibrationConfig(9))
    with pytest.raises(InputError, match="other settings: calibration"):
        SelectionMeasurements(other, shelf().data, tmp_path, search.subset)


def test_what_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="gains 'guessed'"):
        SelectionConfig(gains="guessed")
    with pytest.raises(InputError, match="budget above it"):
        SelectionConfig(budget_ms=-1.0)
    assert main(["quantize", str(shelf().weights), "--data", "digits", "--mode", "ptq", "--max-drop", "1"]) == 2
    assert "--mode selective" in capsys.readouterr().err
    assert main(["quantize", str(shelf().weights)]) == 2 and "--data" in capsys.readouterr().err
