"""A mutated ``run.json`` through everything that reads it: what it says is used, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import nas
from nas.cli import main
from nas.core.estimate import Estimate
from nas.estimators import ESTIMATORS
from nas.search.baseline import Baseline
from nas.search.plan import SearchPlan
from nas.search.settings import SearchSettings
from nas.search.study_reader import read_candidates
from search_spaces.errors import InputError
from search_spaces.image_size import ImageSize
from tests._fakes import tiny_space
from tests._fuzz import bounded, json_bytes, json_mutations, mutations

COUNT = 300
CONTENT: dict[Path, bytes] = {}
"""``run.json`` before it was mutated, by its run."""


def stop(*_: object, **__: object) -> None:
    """In the place of the work that follows the reading: trials, measuring, drawing."""
    raise InputError("stopped before the work")


WORK = (
    "nas.search.run._search",
    "nas.search.reselect.open_estimators",
    "nas.search.cost_estimate.estimate_cost",
    "nas.search.certify.open_profiler",
    "nas.plotting.frontier.write_frontier",
    "nas.search.run_report.facts._explanations",
    "nas.search.run_report.dashboard.serve",
)
FIXED = [part for c in tiny_space().choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run whose settings use every field; the work that follows the reading is cut off."""
    parent = tmp_path_factory.mktemp("fuzz")
    folder = parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(parent)  # a path that a mutation made is relative to this folder
        patch.setenv("NAS_CACHE", str(parent / "cache"))
        patch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
        begin = ["search", "--accuracy", "elements", "--num-classes", "2", "--sampler", "random", "--trials", "8"]
        assert main([*begin, *FIXED, "--latency-db", str(parent / "db.sqlite"), "--out", str(folder)]) == 0
        full = replace(
            SearchSettings.read(folder),
            budgets="S=2ms,L=ref:yolov8n",
            baselines={
                "L": Baseline(
                    "yolov8n", ImageSize(640, 640), Estimate("latency_ms", 3.0, "ms", 2.9, 3.1), 3_000_000, 10**9
                )
            },
            bounds=("params<=1e9",),
            recipe={"epochs": 3, "augmentation": {"mosaic": 0.5}},
            stop="auto",
            device="cpu",
        )
        (folder / "run.json").write_text(json.dumps(full.to_dict(), indent=2))
        for work in WORK:
            patch.setattr(work, stop)
        yield folder


def verb(*words: str) -> Callable[[Path], object]:
    def call(run: Path) -> object:
        status = main([word.format(run=run) for word in words])
        assert status in (0, 1, 2), status
        return status

    return call


READERS: tuple[Callable[[Path], object], ...] = (
    lambda run: SearchPlan.parse(SearchSettings.read(run)).check(),
    verb("search", "--resume", "{run}"),
    verb("search", "--resume", "{run}", "--total-trials", "9"),
    verb("search", "--resume", "{run}", "--estimate-cost"),
    verb("select", "{run}"),
    verb("select", "{run}", "--budgets", "S=1.5ms"),
    verb("plot", "{run}"),
    verb("certify", "{run}", "--repeat", "1"),
    verb("extract", "{run}"),
    verb("report", "{run}", "--json", "--no-profile", "--stock", "none"),
    verb("dashboard", "{run}"),
    lambda run: (nas.open_run(run).front, nas.open_run(run).candidates, nas.open_run(run).settings),
)


@pytest.mark.parametrize("kind", ["bytes", "entries"])
def test_every_reader_of_a_run(kind: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "run.json"
    content = CONTENT.setdefault(run, path.read_bytes())
    path.write_bytes(content)
    with bounded():
        READERS[0](run)
    changes = (
        mutations(content, COUNT, seed=7)
        if kind == "bytes"
        else map(json_bytes, json_mutations(json.loads(content), COUNT, seed=7))
    )
    used = 0
    for i, changed in enumerate(changes):
        path.write_bytes(changed)
        with bounded():
            used += READERS[0](run) is not None
        with bounded():
            READERS[i % len(READERS)](run)
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) <= 1 and "Traceback" not in "".join(errors), errors
    assert COUNT // 50 < used < COUNT * 9 // 10, "mutations that spoil nothing, or everything, test nothing"


def test_lines_of_a_study(run: Path) -> None:
    """The journal of Optuna: its candidates are read, or the journal is refused in one line."""
    (run / "run.json").write_bytes(CONTENT.setdefault(run, (run / "run.json").read_bytes()))
    path, used = run / "study.journal", 0
    content = path.read_bytes()
    for changed in mutations(content, COUNT, seed=8):
        path.write_bytes(changed)
        with bounded():
            used += len(list(read_candidates(path, "run"))) > 0
        with bounded():
            assert nas.open_run(run).candidates is not None
    path.write_bytes(content)
    assert used > COUNT // 50
