"""What is minimised, maximised and bounded: names to objectives, and whole searches by them from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nas.cli import main
from nas.core.estimate import Estimate
from nas.estimators import ESTIMATORS
from nas.estimators.base import Estimator
from nas.search.objectives import Aims, estimators_of, parse_bound
from nas.search.report.front_files import read_front
from nas.search.settings import SearchSettings
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import numbers_of


class Score(Estimator):
    """A gain from the hash, as ``supernet-small`` would be."""

    name, direction, rank = "map_small", "max", 2

    def __call__(self, architecture: Architecture) -> Estimate:
        return Estimate(
            self.name,
            numbers_of(architecture)[1],
            low=numbers_of(architecture)[1] - 0.01,
            high=numbers_of(architecture)[1] + 0.01,
        )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for a run, with a latency and a score that answer at once."""
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    monkeypatch.setitem(ESTIMATORS._targets, "elements", "tests.nas.search.test_objectives:Score")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "run"


def search(run: Path, *more: str) -> int:
    return main(
        [
            "search",
            "--accuracy",
            "elements",
            "--num-classes",
            "2",
            "--sampler",
            "random",
            "--latency-db",
            f"{run}.sqlite",
            "--out",
            str(run),
            *more,
        ]
    )


def test_defaults_and_names() -> None:
    aims = Aims.of((), (), "supernet")
    assert [str(o) for o in aims.objectives] == ["min:latency_ms", "max:map"]
    aims = Aims.of(("latency-p99", "params"), ("supernet-small",), "supernet")
    assert [o.name for o in aims.objectives] == ["latency_p99_ms", "params", "map_small"]
    assert (aims.cost.name, aims.gain.name) == ("latency_p99_ms", "map_small")
    assert [o.logarithmic for o in aims.objectives] == [True, True, False]
    rate = Aims.of((), ("throughput",), "nwot")
    assert [str(o) for o in rate.objectives] == ["max:throughput:img/s", "max:nwot"] and rate.cost.name == "latency_ms"
    assert estimators_of(aims, [parse_bound("activations<=4")], "predicted") == (
        *("params", "macs", "predicted_latency", "latency-p99", "supernet-small", "activations"),
    )


@pytest.mark.parametrize(
    ("minimize", "maximize", "words"),
    [
        (("size",), (), "nothing is known by the name 'size'"),
        (("latency", "latency_ms"), (), "each once"),
        (("latency", "params", "macs", "activations"), (), "two to four"),
    ],
)
def test_what_cannot_be_an_objective(minimize: tuple[str, ...], maximize: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Aims.of(minimize, maximize, "supernet")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("latency<=5ms", "latency_ms <= 5"),
        ("latency_ms<=0.002s", "latency_ms <= 2"),
        ("params<=1.5M", "params <= 1.5e+06"),
        ("supernet>=0.4", "map >= 0.4"),
        ("macs<=3e7", "macs <= 3e+07"),
    ],
)
def test_bounds_as_people_write_them(text: str, bound: str) -> None:
    assert str(parse_bound(text)) == bound


@pytest.mark.parametrize(
    "text", ["params", "params<=", "params<=many", "latency<=5mb", "size<=3", "params<=1e", "params<=1Q"]
)
def test_what_is_no_bound_is_one_line(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_bound(text)
    assert "\n" not in str(error.value)


def test_three_objectives_bounds_and_notes(run: Path) -> None:
    assert (
        search(
            run,
            "--trials",
            "24",
            "--minimize",
            "latency",
            "--minimize",
            "params",
            "--max",
            "params=4M",
            "--min",
            "elements=0.1",
        )
        == 0
    )
    front = read_front(run / "front.json")
    assert [o.name for o in front.objectives] == ["latency_ms", "params", "map_small"] and front.chosen
    assert all(c["params"].value <= 4e6 and c["map_small"].value >= 0.1 for c in front.candidates)
    sure = front.notes["certainty"]["non_dominated"]
    assert {c.id for c in front.candidates} <= sure.keys() and all(0 <= p <= 1 for p in sure.values())
    assert SearchSettings.read(run).minimize == ("latency", "params")
    assert main(["plot", str(run), "--out", str(run / "again")]) == 0


def test_the_cost_may_be_something_else_than_latency(run: Path) -> None:
    assert search(run, "--trials", "12", "--minimize", "params", "--budgets", "S=3000000,L=90000000") == 0
    chosen = json.loads((run / "L.json").read_text())
    names = [e["name"] for e in chosen["estimates"]]
    assert "latency_ms" in names and "params" in names
    assert search(run.with_name("other"), "--minimize", "params", "--budgets", "S=ref:yolov8n") == 2


def test_the_cheapest_that_is_accurate_enough(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(run, "--trials", "30", "--at-least", "S=0.3,L=0.6") == 0
    front = read_front(run / "front.json")
    goals, chosen = {"S": 0.3, "L": 0.6}, dict(front.chosen)
    assert "L" in chosen
    for name, id_ in chosen.items():
        enough = [c for c in front.candidates if c["map_small"].value >= goals[name]]
        assert id_ == min(enough, key=lambda c: c["latency_ms"].value).id
    assert search(run.with_name("b"), "--at-least", "S=0.3", "--budgets", "S=2ms") == 2
    assert "one of both" in capsys.readouterr().err
    assert search(run.with_name("c"), "--at-least", "S=ref:yolov8n") == 2  # no point of yolo-nano
    capsys.readouterr()
    assert search(run.with_name("d"), "--at-least", "S=ref:yolov8n@320") == 2
    assert "ref:yolov8n@320; expected ref:yolov8n" in capsys.readouterr().err


def test_the_end_comes_early_where_nothing_is_to_be_gained(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(run, "--trials", "400", "--stop", "99") == 0
    ended = re.search(r"ended after (\d+) candidates \(--stop 99\): expected gain", capsys.readouterr().out)
    assert ended and 30 <= int(ended[1]) < 400  # a gain per minute: a fast machine tries some more
    assert search(run.with_name("b"), "--stop", "sometime") == 2


def test_a_quote_is_measured_and_leaves_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(run, "--trials", "50", "--estimate-cost") == 0
    lines = capsys.readouterr().out
    assert "candidates: latency_ms" in lines and "the chosen measured again" in lines and "the search" in lines
    assert not run.exists()


def test_figures_of_one_measurement() -> None:
    from latency_db.core.measurement import Measurement
    from latency_db.core.target import Target

    gpu = {"before": {"power_w": 100.0}, "after": {"power_w": 300.0}}
    target = Target.parse("torch:fp16@320/b8/cuda:0")
    m = Measurement(4.0, 5.0, 7.0, 3.2, 5.0, 100, "measured", "clean", "wall", target, "w", environment={"gpu": gpu})

    def figure(name: str, of: Measurement) -> Estimate:
        estimator = object.__new__(ESTIMATORS[name])
        return estimator.figure(of)  # type: ignore[attr-defined]

    assert figure("latency-p99", m).value == 7.0
    rate = figure("throughput", m)
    assert (rate.low, rate.value, rate.high) == (1600.0, 2000.0, 2500.0)
    energy = figure("energy", m)
    assert (energy.low, energy.value, energy.high) == (80.0, 100.0, 125.0) and energy.unit == "mj"
    with pytest.raises(InputError, match="does not report its power"):
        figure("energy", Measurement(**{**vars(m), "environment": {"gpu": {"before": {"power_w": None}}}}))
