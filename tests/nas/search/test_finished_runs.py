"""Files of a run: one set of values in all of them; a finished run stays as it is; S, M and L are chosen anew."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nas.api import open_run
from nas.cli import main
from nas.core.architecture_file import read_artifact
from nas.core.estimate import Estimate
from nas.core.pareto import front_of
from nas.estimators import ESTIMATORS
from nas.estimators.base import Estimator
from nas.search.chosen_files import chosen_files, supernet_of
from nas.search.explain.run_data import read_run
from nas.search.plan import SearchPlan
from nas.search.report.front_files import read_front, write_front
from nas.search.run_lock import run_lock
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from tests._fakes import HashLatency, numbers_of
from tests._progress import Recording

ROOT = Path(__file__).resolve().parents[3]


class Steadier(HashLatency):
    """The second measurement of every network is 12.5 % below the first."""

    measured: ClassVar[list[str]] = []

    def remeasure(self, architecture: Architecture) -> Estimate:
        Steadier.measured.append(architecture.id)
        first = self(architecture)
        return replace(first, value=first.value * 0.875, low=first.value * 0.87, high=first.value * 0.88)


class Growing(Estimator):
    """An accuracy that mostly grows with the latency, so that the front has several members."""

    name, direction, rank = "map_small", "max", 2

    def __call__(self, architecture: Architecture) -> Estimate:
        cost, gain = numbers_of(architecture)
        return Estimate(self.name, 0.8 * (cost - 1) + 0.2 * gain)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """``nas search`` of 12 candidates with latencies and accuracies from a hash; options are added."""
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests.nas.search.test_finished_runs:Steadier")
    monkeypatch.setitem(ESTIMATORS._targets, "elements", "tests.nas.search.test_finished_runs:Growing")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Steadier, "measured", [])

    def run(*more: str, out: Path | None = None) -> int:
        begin = ["search", "--accuracy", "elements", "--num-classes", "2", "--sampler", "random", "--trials", "12"]
        where = ["--latency-db", str(tmp_path / "db.sqlite"), "--out", str(out or tmp_path / "run")]
        return main([*begin, *where, *more])

    return run


def files_of(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(run.iterdir()) if p.is_file()}


def test_all_files_of_a_run_hold_the_same_values(search: Callable[..., int], tmp_path: Path) -> None:
    assert search("--budgets", "S=1.2ms,M=1.5ms,L=2ms") == 0
    run = tmp_path / "run"
    front = read_front(run / "front.json")
    by_id = {c.id: c for c in front.candidates}
    table = {row["id"]: row for row in csv.DictReader((run / "candidates.csv").open())}
    on_front = {row["id"]: row for row in csv.DictReader((run / "front.csv").open())}
    kept = {c.id: c for c in read_candidates(run / "study.journal", "run")}
    page = (run / "frontier.html").read_text()
    assert len(table) == 12 and set(on_front) == set(by_id)
    for name, id_ in front.chosen:
        (latency,) = [e for e in read_artifact(run / f"{name}.json").estimates if e.name == "latency_ms"]
        first = numbers_of(kept[id_].architecture)[0]
        assert latency.value == first * 0.875
        assert kept[id_]["latency_ms"] == latency and kept[id_]["latency_ms_first"].value == first
        assert float(table[id_]["latency_ms"]) == latency.value and float(table[id_]["latency_ms_first"]) == first
        assert float(on_front[id_]["latency_ms"]) == latency.value
        assert by_id[id_]["latency_ms"] == latency and by_id[id_]["latency_ms_first"].value == first
        assert json.dumps(latency.value) in page
    expected = front_of(list(kept.values()), front.objectives)
    assert [c.id for c in front.candidates] == [c.id for c in expected]
    plotted = (tmp_path / "plots").as_posix()
    assert main(["plot", str(run), "--out", plotted]) == 0


def test_a_finished_search_stays_as_it_is(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search() == 0
    run = tmp_path / "run"
    before, measured = files_of(run), len(Steadier.measured)
    assert main(["search", "--resume", str(run)]) == 0
    assert "holds a finished search" in capsys.readouterr().out
    assert files_of(run) == before and len(Steadier.measured) == measured
    assert main(["search", "--resume", str(run), "--total-trials", "14"]) == 0
    assert len(list(read_candidates(run / "study.journal", "run"))) == 14


def test_trained_weights_keep_their_architecture_file(search: Callable[..., int], tmp_path: Path) -> None:
    assert search("--budgets", "S=1.2ms,L=2ms") == 0
    run = tmp_path / "run"
    (run / "S.safetensors").write_bytes(b"weights of this S")
    before = (run / "S.json").read_bytes()
    assert main(["select", str(run), "--budgets", "S=1.9ms,L=2ms"]) == 0
    assert (run / "S.json").read_bytes() == before
    other = read_artifact(run / "selection-2" / "S.json")
    assert other.architecture != read_artifact(run / "S.json").architecture
    assert read_front(run / "selection-2" / "front.json").chosen


def test_names_that_a_selection_has_no_more_lose_their_file(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--budgets", "S=1.2ms,M=1.5ms,L=2ms") == 0
    run = tmp_path / "run"
    (run / "report.html").write_text("of the first selection")
    assert main(["select", str(run), "--budgets", "S=1.2ms,L=2ms"]) == 0
    assert "report.html shows the selection before" in capsys.readouterr().out
    assert not (run / "M.json").exists() and (run / "S.json").exists() and (run / "L.json").exists()
    (run / "S.safetensors").write_bytes(b"weights of this S")
    before = files_of(run)
    assert main(["select", str(run), "--budgets", "L=2ms"]) == 0
    assert files_of(run) == {**before, "study.journal": files_of(run)["study.journal"]}
    assert [p.name for p in (run / "selection-2").glob("*.json")] != [] and not (run / "selection-2/S.json").exists()


def test_out_of_a_selection_keeps_weights_and_other_runs(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, mine = tmp_path / "run", tmp_path / "other", tmp_path / "mine"
    assert search("--budgets", "S=1.2ms,L=2ms") == 0 and search("--budgets", "S=1.5ms", out=other) == 0
    before = files_of(other)
    assert main(["select", str(run), "--budgets", "S=1.9ms", "--out", str(other)]) == 2
    assert "is another run" in capsys.readouterr().err and files_of(other) == before
    assert main(["select", str(run), "--budgets", "S=1.2ms", "--out", str(mine)]) == 0
    (mine / "S.safetensors").write_bytes(b"weights of this S")
    kept = (mine / "S.json").read_bytes()
    assert main(["select", str(run), "--budgets", "S=1.9ms", "--out", str(mine)]) == 0
    assert (mine / "S.json").read_bytes() == kept and (mine / "selection-2/S.json").exists()
    assert main(["select", str(run), "--budgets", "S=1.9ms", "--out", str(run)]) == 0  # the run itself
    assert SearchSettings.read(run).budgets == "S=1.9ms" and not (run / "L.json").exists()


def test_budgets_are_stated_in_their_unit(search: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert search("--budgets", "S=1.2,L=2000us") == 0
    assert "budgets of latency_ms: S 1.2 ms, L 2 ms" in capsys.readouterr().out


def test_other_budgets_choose_anew_and_measure_only_what_is_new(search: Callable[..., int], tmp_path: Path) -> None:
    assert search("--budgets", "S=1.2ms,L=2ms") == 0
    run = tmp_path / "run"
    old, measured = dict(read_front(run / "front.json").chosen), list(Steadier.measured)
    assert main(["select", str(run), "--budgets", "tiny=1.1ms,L=2ms", "--out", str(tmp_path / "other")]) == 0
    new = dict(read_front(tmp_path / "other" / "front.json").chosen)
    assert set(new) == {"tiny", "L"} and new["L"] == old["L"]
    assert not set(Steadier.measured[len(measured) :]) & set(measured)
    candidates = {c.id: c for c in read_candidates(run / "study.journal", "run")}
    within = [c for c in candidates.values() if c["latency_ms"].value <= 1.1 * 1.02]
    assert candidates[new["tiny"]]["map_small"].value == max(c["map_small"].value for c in within)
    assert len(candidates) == 12 and dict(read_front(run / "front.json").chosen) == old
    assert main(["select", str(run), "--at-least", "S=0.3"]) == 0
    assert SearchSettings.read(run).at_least == "S=0.3" and SearchSettings.read(run).budgets is None
    assert main(["select", str(run), "--budgets", "S=0.1ms"]) == 2
    assert main(["select", str(run), "--budgets", "S=0.1ms", "--out", str(tmp_path / "new" / "folder")]) == 2
    assert not (tmp_path / "new").exists()


def test_resuming_with_other_budgets_applies_them(search: Callable[..., int], tmp_path: Path) -> None:
    """The hint of a search that no candidate fits leads somewhere."""
    assert search("--budgets", "S=0.5ms,L=2ms") == 0
    run = tmp_path / "run"
    assert not (run / "S.json").exists() and (run / "L.json").exists()
    assert main(["search", "--resume", str(run), "--budgets", "S=1.9ms"]) == 0
    assert read_artifact(run / "S.json").name == "S" and SearchSettings.read(run).budgets == "S=1.9ms"
    assert search("--budgets", "S=0.5ms,M=0.6ms", out=tmp_path / "b") == 2
    assert not (tmp_path / "b" / "M.json").exists()
    assert main(["select", str(tmp_path / "b"), "--budgets", "S=1.9ms"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--data", "other"),
        ("--epochs", "3"),
        ("--trials", "3"),
        ("--trials", "100"),  # the default
        ("--target", "onnxruntime"),
        ("--precision", "fp32"),
        ("--seed", "0"),
        ("--no-early-stop",),
        ("--bound", "params<=1e6"),
        ("--fix", "image_size=128"),
        ("--recipe", "small"),
        ("--out", "elsewhere"),
    ],
)
def test_options_that_belong_to_a_run_are_refused_by_name(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath("run").mkdir()
    SearchSettings(accuracy="nwot", num_classes=2).write(tmp_path / "run")
    assert main(["search", "--resume", str(tmp_path / "run"), *options]) == 2
    line = capsys.readouterr().err
    assert f"{options[0]} with --resume" in line and line.count("\n") == 1


@pytest.mark.parametrize("limit", [("--budgets", "S=0.1ms,M=0.2ms"), ("--at-least", "S=9")])
@pytest.mark.parametrize("verb", [("search", "--resume"), ("select",)])
def test_limits_that_nothing_meets_leave_a_finished_run_as_it_is(
    verb: tuple[str, ...],
    limit: tuple[str, str],
    search: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert search("--budgets", "S=1.5ms,M=2ms") == 0
    run, kept = tmp_path / "run", ("S.json", "M.json", "run.json", "front.json", "candidates.csv")
    before = files_of(run)
    assert main([*verb, str(run), *limit]) == 2
    assert {name: data for name, data in files_of(run).items() if name in kept} == {name: before[name] for name in kept}
    message = capsys.readouterr().err
    assert main(["search", "--resume", str(run)]) == 0
    assert "holds a finished search" in capsys.readouterr().out
    (advised,) = re.findall(rf"nas select {run} {limit[0]} (S=[^,)]+)", message)
    assert main(["select", str(run), limit[0], advised]) == 0


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (("--max", "latency=0.1ms"), "a looser bound than latency_ms <= 0.1 (nearest: 1.121)"),
        (("--min", "elements=7"), "a looser bound than map_small >= 7 (nearest: "),
    ],
)
def test_bounds_that_nothing_meets_are_named_with_the_nearest_value(
    options: tuple[str, str], advice: str, search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(*options) == 2
    assert advice in capsys.readouterr().err


def test_total_trials_belong_to_a_run_that_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["search", "--accuracy", "nwot", "--num-classes", "2", "--out", str(tmp_path / "run"), "--total-trials", "5"]
    assert main(argv) == 2
    assert "--trials N" in capsys.readouterr().err


def test_two_searches_in_one_folder_are_refused(search: Callable[..., int], tmp_path: Path) -> None:
    assert search() == 0
    program = f"""
import sys, time
from pathlib import Path
from nas.search.run_lock import run_lock
with run_lock(Path({str(tmp_path / "run")!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(InputError, match="another nas search works in"), run_lock(tmp_path / "run"):
            pass
        assert main(["search", "--resume", str(tmp_path / "run"), "--total-trials", "14"]) == 2
    finally:
        holder.kill()
        holder.wait()
    assert main(["search", "--resume", str(tmp_path / "run"), "--total-trials", "14"]) == 0


IDENTITY = {
    "another accuracy": (("--accuracy", "nwot"), "objectives|accuracy"),
    "other classes": (("--num-classes", "3"), "num_classes"),
    "another target": (("--target", "onnxruntime:fp32@128"), "target"),
    "another restriction": (("--fix", "image_size=128"), "fixed"),
    "a constraint": (("--max", "params=1M"), "bounds"),
    "another data set": (("--data", "digits@32:train=4,val=2"), "data set"),
    "other images": (("--eval-images", "7"), "eval_images"),
}


@pytest.mark.parametrize("case", IDENTITY)
def test_a_study_of_the_same_name_about_something_else_is_refused(
    case: str, search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path / 'studies.db'}")
    assert search(*storage, out=tmp_path / "a" / "run") == 0
    capsys.readouterr()
    options, words = IDENTITY[case]
    assert search(*storage, *options, out=tmp_path / "b" / "run") == 2
    line = capsys.readouterr().err
    assert any(word in line for word in words.split("|")) and line.count("\n") == 1
    assert not (tmp_path / "b" / "run" / "S.json").exists()


def test_the_same_search_elsewhere_joins_its_study(search: Callable[..., int], tmp_path: Path) -> None:
    storage = ("--storage", f"sqlite:///{tmp_path / 'studies.db'}")
    assert search(*storage, out=tmp_path / "a" / "run") == 0
    assert search(*storage, "--budgets", "S=1.9ms", out=tmp_path / "b" / "run") == 0
    assert read_artifact(tmp_path / "b" / "run" / "S.json").study.trials == 12


def test_an_image_size_that_no_detector_takes_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    for target in ("onnxruntime:fp32@100", "openvino@650/b2"):
        argv = ["search", "--accuracy", "nwot", "--num-classes", "2", "--target", target, "--out", str(out)]
        assert main(argv) == 2
        line = capsys.readouterr().err
        assert "a multiple of 32" in line and line.count("\n") == 1 and not out.exists()
    assert main(["measure", "yolov8n", "--target", "onnxruntime:fp32@100", "--latency-db", str(tmp_path / "db")]) == 2
    assert "multiple of 32" in capsys.readouterr().err


WRONG = {
    "trials": "x",
    "seed": 1.5,
    "target": 5,
    "budgets": ["S=2ms"],
    "augment": "yes",
    "fixed": {"width": 8},
    "bounds": "params<=1e6",
    "seeded": [1],
    "recipe": [1],
    "goals": {"S": "many"},
    "baselines": {"S": 3},
    "data": {"path": "x"},
    "colour": "blue",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_settings_file_with_a_wrong_type_is_one_line(name: str, tmp_path: Path) -> None:
    SearchSettings(accuracy="nwot").write(tmp_path)
    data = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**data, name: WRONG[name]}))
    with pytest.raises(InputError, match=f"run.json cannot be used.*{name.rstrip('s')}") as error:
        SearchSettings.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[1]", "5", "[" * 100_000, '{"trials": 1' + "0" * 5000 + "}", '{"trials": NaN}'])
def test_a_settings_file_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match="run.json cannot be used") as error:
        SearchSettings.read(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_numbers_out_of_range_are_refused_on_resuming(tmp_path: Path) -> None:
    for name, value in (("trials", -1), ("num_classes", 0), ("eval_images", -5)):
        SearchSettings(**{"accuracy": "nwot", name: value}).write(tmp_path)  # type: ignore[arg-type]
        assert main(["search", "--resume", str(tmp_path)]) == 2


def test_settings_of_the_version_before_are_read(tmp_path: Path) -> None:
    old: dict[str, Any] = {
        "space": "yolo-nano",
        "fixed": {"width": [8, 16]},
        "data": "digits",
        "num_classes": None,
        "limit": None,
        "target": "onnxruntime:fp32",
        "latency": "measured",
        "accuracy": "supernet",
        "trials": 4,
        "seed": 0,
        "sampler": "guided",
        "budgets": "S=like:yolov8n@320,L=9ms",
        "at_least": None,
        "goals": {},
        "bounds": [],
        "recipe": {"epochs": 1, "batch_size": 16},
        "augment": True,
        "storage": None,
        "name": "run",
    }
    (tmp_path / "run.json").write_text(json.dumps(old))
    plan = SearchPlan.parse(SearchSettings.read(tmp_path))
    assert plan.budgets is not None and str(plan.budgets.references["S"]) == "ref:yolov8n@320"
    assert plan.settings.fixed == {"width": (8, 16)} and plan.recipe.epochs == 1


def test_progress_of_the_second_measurements(search: Callable[..., int], tmp_path: Path) -> None:
    from nas.search.run import search as run_search

    settings = SearchSettings(
        accuracy="elements", num_classes=2, trials=12, sampler="random", latency_db=str(tmp_path / "db.sqlite")
    )
    reporter = Recording()
    result = run_search(settings, tmp_path / "run", reporter)
    reporter.check("measuring the chosen again")
    (reports,) = [r for title, r in reporter.phases.items() if title.startswith("measuring the chosen again")]
    assert reports[-1][0] >= len(result.selection)
    other = Recording()
    by_size = run_search(replace(settings, minimize=("params",)), tmp_path / "by size", other)
    other.check("measuring the latency of the chosen")
    assert all("latency_ms" in {e.name for e in artifact.estimates} for artifact in by_size.artifacts)


def test_a_resumed_search_beside_trained_weights_is_the_run(
    search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picks of more candidates go to a selection: report, Python, the next resume and other verbs take those."""
    run = tmp_path / "run"
    assert search("--budgets", "S=1.2ms,L=2ms") == 0
    (run / "S.safetensors").write_bytes(b"weights of this S")
    trained = (run / "S.json").read_bytes()
    for name in ("notes.json", "notes.safetensors"):
        (run / name).write_text("{}")  # files of the user are left alone
    assert main(["search", "--resume", str(run), "--total-trials", "14", "--budgets", "S=1.9ms,L=2ms"]) == 0
    assert (run / "notes.json").read_text() == "{}"
    chosen = run / "selection-2"
    assert "the files go to" in capsys.readouterr().out and (run / "S.json").read_bytes() == trained
    assert chosen_files(run) == {"S": chosen / "S.json", "L": chosen / "L.json"}
    assert (run / "frontier.html").read_bytes() == (chosen / "frontier.html").read_bytes()
    opened = open_run(run)
    assert opened.names == ("S", "L") and opened["S"].path == chosen / "S.json"
    facts = read_run(run)
    assert [a.study.trials for a in facts.artifacts] == [14, 14] and facts.selection is not None
    assert facts.selection["S"].candidate.id == opened["S"].architecture.id

    before = files_of(run)
    assert main(["search", "--resume", str(run)]) == 0  # nothing is left to do
    assert "holds a finished search" in capsys.readouterr().out and files_of(run) == before
    assert main(["select", str(run), "--budgets", "S=1.9ms,L=2ms"]) == 0  # the same architectures: no third folder
    assert {p.name for p in run.glob("selection-*")} == {"selection-2"}
    assert main(["select", str(run), "--budgets", "L=2ms"]) == 0
    assert {p.name for p in run.glob("selection-*")} == {"selection-2", "selection-3"}
    assert opened.names == ("S", "L")  # budgets of the run are as before
    assert supernet_of(chosen) == run / "supernet.safetensors"
    (run / "supernet.safetensors").write_bytes(b"not the one of the search")
    replace(SearchSettings.read(run), supernet="given.safetensors").write(run)
    assert supernet_of(chosen) == supernet_of(run) == Path("given.safetensors")


@pytest.mark.parametrize("name", ["../other", "selection-0", "selection-2/..", 3])
def test_a_front_that_names_another_folder_is_refused(search: Callable[..., int], tmp_path: Path, name: object) -> None:
    assert search("--budgets", "S=1.2ms") == 0
    front = read_front(tmp_path / "run" / "front.json")
    write_front(tmp_path / "run", replace(front, notes={**front.notes, "files": name}))
    with pytest.raises(InputError, match="a folder such as selection-2"):
        chosen_files(tmp_path / "run")
