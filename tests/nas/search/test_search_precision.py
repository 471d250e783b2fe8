"""Precision as a choice of a search: points and their ids, one front, what is written and read, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Profiler, Protocol, Workload
from latency_db.core.target import Target
from nas.bench.models import resolve_models
from nas.cli import main
from nas.core.architecture_file import SCHEMA_FILE, read_artifact
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Candidate, Estimate, Objective
from nas.core.precision_choice import CHOICE, id_of, joined, split, with_precisions
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.by_precision import ByPrecision, by_precision
from nas.plotting.frontier_html import frontier_figure
from nas.plotting.frontier_png import frontier_sheet
from nas.search import certify as certifying
from nas.search.plan import SearchPlan
from nas.search.report.front_files import read_front
from nas.search.report.frontier import frontier_data
from nas.search.run import open_study
from nas.search.samplers.encoding import Encoding
from nas.search.settings import SearchSettings
from nas.search.study import Study
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import HashLatency, numbers_of, tiny_space
from tests._measured import measurement

SPACE = tiny_space()
POINTS = with_precisions(SPACE, ("fp32", "int8"))
FIXED = [part for c in SPACE.choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]
OBJECTIVES = [Objective("latency_ms", "min", "ms"), Objective("map", "max")]


def precision_of(context: Context) -> str:
    assert context.target is not None
    return context.target.precision


class Faster(HashLatency):
    """int8 takes two thirds of the time."""

    def __call__(self, architecture: Architecture) -> Estimate:
        SPACE.check(architecture)  # of the space, without the precision
        ms = numbers_of(architecture)[0] * (2 / 3 if precision_of(self.context) == "int8" else 1)
        return Estimate(self.name, ms, self.unit, source="measured", target=str(self.context.target))


class Coarser(Estimator):
    """int8 loses a tenth of the accuracy."""

    name, direction, rank = "map", "max", 2

    def __call__(self, architecture: Architecture) -> Estimate:
        SPACE.check(architecture)
        gain = numbers_of(architecture)[1] * (0.9 if precision_of(self.context) == "int8" else 1)
        remarks = ("int8 was evaluated elsewhere",) if precision_of(self.context) == "int8" else ()
        return Estimate(self.name, gain, source="predicted", target=str(self.context.target), remarks=remarks)


class Unsaid(Coarser):
    """Of no target, as the float subnet's accuracy is."""

    def __call__(self, architecture: Architecture) -> Estimate:
        return replace(super().__call__(architecture), target=None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for a run, with a latency and an accuracy that answer at once and know the precision."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests.nas.search.test_search_precision:Faster")
    monkeypatch.setitem(ESTIMATORS._targets, "score", "tests.nas.search.test_search_precision:Coarser")
    return tmp_path / "run"


def search(run: Path, *more: str) -> int:
    data = ["--data", "digits@32:train=4,val=2", "--accuracy", "score"]
    return main(["search", *data, "--sampler", "random", *FIXED, "--out", str(run), *more])


# points


def test_a_point_is_an_architecture_and_a_precision() -> None:
    assert with_precisions(SPACE, ()) is SPACE and with_precisions(SPACE, ("int8",)) is SPACE
    assert POINTS.size == 2 * SPACE.size and POINTS[CHOICE].values == ("int8", "fp32")
    assert POINTS.smallest == joined(SPACE.smallest, "int8") and POINTS.largest == joined(SPACE.largest, "fp32")
    assert split(POINTS.smallest) == (SPACE.smallest, "int8") and split(SPACE.smallest) == (SPACE.smallest, None)
    assert joined(SPACE.smallest, None) is SPACE.smallest
    assert id_of(POINTS.smallest) == f"{SPACE.smallest.id}-int8" and id_of(SPACE.smallest) == SPACE.smallest.id
    assert POINTS.check(POINTS.smallest) and len({id_of(p) for p in POINTS.enumerate()}) == POINTS.size
    with pytest.raises(InputError, match="choices"):
        SPACE.check(POINTS.smallest)


def test_a_candidate_keeps_its_precision() -> None:
    point = joined(SPACE.largest, "int8")
    candidate = Candidate.of(point, (Estimate("map", 0.5),), 7)
    assert (candidate.architecture, candidate.precision, candidate.point) == (SPACE.largest, "int8", point)
    assert candidate.id == id_of(point) != Candidate(SPACE.largest).id == SPACE.largest.id
    assert Candidate.from_dict(json.loads(json.dumps(candidate.to_dict()))) == candidate
    assert "precision" not in Candidate(SPACE.largest).to_dict()
    with pytest.raises(InputError, match="int9"):
        Candidate.from_dict({**candidate.to_dict(), "precision": "int9"})


def test_a_sampler_sees_it_as_one_more_alternative(tmp_path: Path) -> None:
    study = Study(tmp_path / "s.journal", "run", POINTS, OBJECTIVES)
    encoding = Encoding(study.parameters.distributions)
    row = encoding.points([study.parameters.params(joined(SPACE.smallest, "fp32"))])
    near = [study.parameters.point(encoding.params(p)) for p in encoding.neighbours(row[0])]
    assert joined(SPACE.smallest, "int8") in near and sum(split(p)[1] == "int8" for p in near) == 1
    other = encoding.points([study.parameters.params(joined(SPACE.smallest, "int8"))])
    assert np.linalg.norm(encoding.embed(row) - encoding.embed(other)) == pytest.approx(1.0)  # one-hot


# a study


def estimators() -> list[Estimator]:
    contexts = {p: Context(SPACE, 3, target=Target("openvino", p)) for p in ("fp32", "int8")}
    return [by_precision({p: kind(c) for p, c in contexts.items()}) for kind in (Faster, Coarser)]


@pytest.mark.parametrize("sampler", ["guided", "nsga2", "tpe", "random"])
def test_all_precisions_are_on_one_front(sampler: str, tmp_path: Path) -> None:
    study = Study(tmp_path / "s.journal", "run", POINTS, OBJECTIVES, sampler)
    study.run(estimators(), 40)
    found = study.candidates
    assert [c.point for c in found[:2]] == [POINTS.smallest, POINTS.largest] and len({c.id for c in found}) == 40
    for c in found:
        assert c["latency_ms"].target == f"openvino:{c.precision}"
        assert c["map"].value == pytest.approx(numbers_of(c.architecture)[1] * (0.9 if c.precision == "int8" else 1))
    assert {c.precision for c in study.archive.front} == {"fp32", "int8"}
    again = Study(tmp_path / "s.journal", "run", POINTS, OBJECTIVES, sampler)
    assert again.candidates == found
    again.run(estimators(), 44)
    assert again.candidates[:40] == found and len(again.candidates) == 44


def test_a_small_space_is_tried_whole_at_every_precision(tmp_path: Path) -> None:
    space = with_precisions(tiny_space(1, 1), ("int8", "fp16", "fp32"))
    contexts = {p: Context(SPACE, 3, target=Target("openvino", p)) for p in ("fp32", "fp16", "int8")}
    study = Study(tmp_path / "s.journal", "run", space, OBJECTIVES, "random")
    study.run([by_precision({p: kind(c) for p, c in contexts.items()}) for kind in (Faster, Coarser)], 100)
    assert {c.id for c in study.candidates} == {id_of(p) for p in space.enumerate()} and len(
        study.candidates
    ) == space.size


def test_a_study_of_other_precisions_is_refused(tmp_path: Path) -> None:
    Study(tmp_path / "s.journal", "run", POINTS, OBJECTIVES)
    for space in (SPACE, with_precisions(SPACE, ("fp16", "int8"))):
        with pytest.raises(InputError, match="another folder or name"):
            Study(tmp_path / "s.journal", "run", space, OBJECTIVES)


def test_one_estimator_for_one_precision_is_itself() -> None:
    one = Coarser(Context(SPACE, 3, target=Target("openvino", "fp32")))
    assert by_precision({"fp32": one}) is one
    latency, accuracy = estimators()
    assert isinstance(latency, ByPrecision) and (latency.name, latency.unit, latency.direction, latency.rank) == (
        "latency_ms",
        "ms",
        "min",
        1,
    )
    assert latency.remeasure(POINTS.smallest) == latency(POINTS.smallest)
    assert accuracy(POINTS.smallest).remarks == ("int8 was evaluated elsewhere",)


# a run of the command line


def test_a_run_from_its_settings_to_its_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(run, "--target", "openvino", "--precision", "fp32,int8", "--trials", "30", "--no-early-stop") == 0
    said = capsys.readouterr().out
    assert "int8 was evaluated elsewhere" in said
    settings = SearchSettings.read(run)
    assert (settings.target, settings.precisions, SearchPlan.parse(settings).target_name) == (
        "openvino:fp32",
        ("fp32", "int8"),
        "openvino:fp32,int8",
    )
    front = read_front(run / "front.json")
    assert {c.precision for c in front.candidates} == {"fp32", "int8"} and front.notes["remarks"] == [
        "int8 was evaluated elsewhere"
    ]
    by_id = {c.id: c for c in read_candidates(run / "study.journal", "run")}
    assert front.chosen and all(id_ in said for _, id_ in front.chosen)
    schema = json.loads(SCHEMA_FILE.read_text())
    for name, id_ in front.chosen:
        artifact = read_artifact(run / f"{name}.json")
        assert (artifact.architecture, artifact.precision) == (by_id[id_].architecture, by_id[id_].precision)
        assert SPACE.check(artifact.architecture)
        jsonschema.validate(json.loads((run / f"{name}.json").read_text()), schema)
        assert artifact.int8_target == (Target("openvino", "int8") if artifact.precision == "int8" else None)
    csv = (run / "front.csv").read_text()
    assert "precision" in csv.splitlines()[0] and ",int8," in csv
    assert "openvino:fp32,int8" in (run / "frontier.html").read_text()

    assert main(["search", "--resume", str(run), "--total-trials", "34"]) == 0
    assert len(list(read_candidates(run / "study.journal", "run"))) > len(by_id)
    (run / "S-int8.quantization.json").write_text("{}")  # what else may lie there
    assert main(["plot", str(run), "--out", str(run / "again")]) == 0


def test_one_precision_is_the_targets(run: Path) -> None:
    assert search(run, "--target", "openvino", "--precision", "int8", "--trials", "12") == 0
    settings = SearchSettings.read(run)
    assert (settings.target, settings.precisions) == ("openvino:int8", ())
    front = read_front(run / "front.json")
    assert {c.precision for c in front.candidates} == {None} and {c["latency_ms"].target for c in front.candidates} == {
        "openvino:int8"
    }
    assert {read_artifact(run / f"{name}.json").precision for name, _ in front.chosen} == {"int8"}


def test_budgets_and_goals_choose_among_both(run: Path) -> None:
    assert (
        search(run, "--target", "openvino", "--precision", "fp32,int8", "--trials", "60", "--budgets", "S=0.8ms,L=2ms")
        == 0
    )
    small, large = (read_artifact(run / f"{name}.json") for name in ("S", "L"))
    assert small.precision == "int8"  # fp32 takes 1 ms at least
    latency = next(e for e in large.estimates if e.name == "latency_ms")
    assert latency.target == f"openvino:{large.precision}"
    assert (
        search(
            run.with_name("b"),
            "--target",
            "openvino:int8",
            "--precision",
            "fp32,int8",
            "--trials",
            "30",
            "--at-least",
            "S=0.3",
        )
        == 0
    )
    assert SearchSettings.read(run.with_name("b")).target == "openvino:int8"  # the one that was named


def test_a_quote_times_every_precision(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(run, "--target", "openvino", "--precision", "fp32,int8", "--estimate-cost") == 0
    assert "candidates: latency_ms" in capsys.readouterr().out and not run.exists()


def test_references_are_tried_at_every_precision() -> None:
    settings = SearchSettings(space="yolov8", target="openvino:fp32", precisions=("fp32", "int8"), seeded=("yolov8n",))
    plan = SearchPlan.parse(settings)
    first = plan.first
    assert [split(p)[1] for p in first] == ["fp32", "int8"] and first[0] in list(map(plan.points.check, first))


def test_a_run_without_the_choice_is_read_as_before(run: Path) -> None:
    assert search(run, "--trials", "12") == 0
    assert read_artifact(run / "S.json").precision == "fp32"
    old = json.loads((run / "run.json").read_text())
    del old["precisions"]
    (run / "run.json").write_text(json.dumps(old))
    artifact = json.loads((run / "S.json").read_text())
    del artifact["precision"]
    (run / "S.json").write_text(json.dumps(artifact))
    jsonschema.validate(artifact, json.loads(SCHEMA_FILE.read_text()))
    assert read_artifact(run / "S.json").precision is None
    assert main(["plot", str(run), "--out", str(run / "again")]) == 0
    assert main(["search", "--resume", str(run), "--total-trials", "14"]) == 0


def test_a_run_whose_int8_was_judged_in_float_is_not_gone_on_with(tmp_path: Path) -> None:
    settings = SearchSettings(
        fixed={c.name: c.values for c in SPACE.choices}, data="digits", target="openvino:int8", sampler="random"
    )
    contexts = [Context(SPACE, 3, target=Target("openvino", p)) for p in ("int8", "fp32")]
    Study(tmp_path / "s.journal", "run", SPACE, SearchPlan.parse(settings).objectives, "random").run(
        [Faster(contexts[0]), Unsaid(contexts[1])], 3
    )
    with pytest.raises(InputError, match="accuracy of float"):
        open_study(SearchPlan.parse(settings), tmp_path / "s.journal", "run")
    open_study(SearchPlan.parse(replace(settings, target="openvino:fp32")), tmp_path / "s.journal", "run")


REFUSED = {
    "no such precision": (["--precision", "int9"], "precision 'int9'"),
    "one that the runtime has not": (
        ["--target", "torch", "--precision", "fp32,int8"],
        "precision int8 is not supported by torch",
    ),
    "only such": (["--target", "torch", "--precision", "int8"], "precision int8 is not supported by torch"),
    "twice": (["--precision", "int8,int8"], "each precision once"),
    "another than the target's": (["--target", "openvino:fp16", "--precision", "fp32,int8"], "the target's among them"),
    "an accuracy that does not see it": (
        ["--target", "openvino", "--precision", "fp32,int8", "--accuracy", "nwot"],
        "nwot as the accuracy",
    ),
    "a cost that does not see it": (
        ["--target", "openvino", "--precision", "fp32,int8", "--minimize", "params"],
        "params as the cost",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line(case: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more, said = REFUSED[case]
    assert search(run, *more) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not run.exists()


def test_int8_without_images_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "search",
        "--accuracy",
        "score",
        "--num-classes",
        "3",
        "--target",
        "openvino",
        "--precision",
        "fp32,int8",
        "--out",
        str(run),
    ]
    assert main(argv) == 2
    assert "openvino:int8 without --data" in capsys.readouterr().err
    with pytest.raises(InputError, match="the target's among them"):
        SearchPlan.parse(SearchSettings(target="openvino:fp16", precisions=("fp32", "int8"), accuracy="score")).check()


# what comes after


class Desk(Profiler):
    """A machine that says which target it was asked for."""

    runtime = "openvino"
    precisions = ("fp32", "int8")

    @classmethod
    def available(cls) -> str | None:
        return None

    @classmethod
    def version(cls) -> str:
        return "1"

    def measure(self, workload: Workload) -> Measurement:
        assert workload.network is not None
        return replace(measurement(workload.network, 1.0), target=self.target)


def test_the_chosen_are_certified_at_their_own_precision(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        search(run, "--target", "openvino", "--precision", "fp32,int8", "--trials", "60", "--budgets", "S=0.8ms,L=2ms")
        == 0
    )
    asked: list[str] = []

    def opened(target: Target, protocol: Protocol) -> Profiler:
        asked.append(str(target))
        return Desk(target, protocol)

    monkeypatch.setattr(certifying, "open_profiler", opened)
    chosen = {a.name: a.precision for a in certifying.chosen(run)}
    certified = certifying.certify(run, 1, ConsoleReporter())
    assert [c.architecture for c in certified] == [id_ for _, id_ in read_front(run / "front.json").chosen]
    assert asked == [f"openvino:{p}" for p in chosen.values()] and "int8" in chosen.values()
    asked.clear()
    certifying.certify(run, 1, ConsoleReporter(), "openvino:fp32")
    assert asked == ["openvino:fp32"] * len(chosen)


def test_a_bench_takes_the_accuracy_of_int8_for_int8_alone(run: Path) -> None:
    assert search(run, "--target", "openvino", "--precision", "int8", "--trials", "12") == 0
    file = str(run / "S.json")
    size = int(read_artifact(run / "S.json").architecture["image_size"])
    assert resolve_models([file], image_size=size)[0].accuracy is None
    accuracy = resolve_models([file], image_size=size, precision="int8")[0].accuracy
    assert accuracy is not None and accuracy.kind == "supernet"


# images


def candidates() -> list[Candidate]:
    made = []
    for i, (ms, gain) in enumerate([(1.0, 0.2), (1.5, 0.3), (2.0, 0.5), (3.0, 0.6)]):
        estimates = (Estimate("latency_ms", ms, "ms", ms * 0.98, ms * 1.02), Estimate("map", gain))
        made.append(Candidate(list(SPACE.enumerate())[i], estimates, i, ("int8", "fp32")[i % 2]))
    return made


def test_shapes_say_the_precision() -> None:
    data = frontier_data(candidates(), *OBJECTIVES)
    assert data.precisions == ("fp32", "int8") and [p.shape for p in data.front] == ["square", "circle"] * 2
    assert "precision: int8" in data.front[0].hover
    traces: dict[str, Any] = {t.name: t for t in frontier_figure(data).data if t.name}
    assert traces["int8"].marker.symbol == "square" and traces["fp32"].marker.symbol == "circle"
    assert list(traces["Front, with 95 % intervals"].marker.symbol) == ["square", "circle"] * 2
    texts = [t.get_text() for legend in frontier_sheet(data).figure.legends for t in legend.get_texts()]
    assert {"fp32", "int8"} <= set(texts) and len(texts) == len(set(texts))
    plain = frontier_data([Candidate(c.architecture, c.estimates, c.trial) for c in candidates()], *OBJECTIVES)
    assert plain.precisions == () and {p.shape for p in plain.front} == {"circle"}
