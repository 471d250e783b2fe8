"""``nas worker``: what it takes from the study, what it has of its own, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.cli import main
from nas.estimators import ESTIMATORS
from nas.search.storage import open_storage
from nas.search.study_reader import RECORD, read_candidates
from tests._fakes import tiny_space

FIXED = [part for c in tiny_space().choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search of four candidates that has ended; its study is made to want ten."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    monkeypatch.setitem(ESTIMATORS._targets, "score", "tests._fakes:FakeScore")
    folder = tmp_path / "run"
    assert (
        main(
            [
                "search",
                "--accuracy",
                "score",
                "--num-classes",
                "3",
                "--trials",
                "4",
                "--sampler",
                "random",
                *FIXED,
                "--out",
                str(folder),
            ]
        )
        == 0
    )
    change(folder, trials=10)
    return folder


def change(folder: Path, **settings: Any) -> None:
    study = optuna.load_study(study_name=folder.name, storage=open_storage(folder / "study.journal"))
    record = study.user_attrs[RECORD]
    study.set_user_attr(RECORD, {**record, "settings": {**record["settings"], **settings}})


def test_it_evaluates_what_the_search_still_wants(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", str(run)]) == 0
    assert len(list(read_candidates(run / "study.journal", "run"))) == 10
    assert "6 candidates evaluated here" in capsys.readouterr().out
    assert main(["worker", "--storage", str(run / "study.journal")]) == 0  # the only study there
    assert "0 candidates" in capsys.readouterr().out


def test_a_search_that_is_resumed_finds_what_workers_did(run: Path) -> None:
    assert main(["worker", str(run)]) == 0
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 0
    assert len(list(read_candidates(run / "study.journal", "run"))) == 12
    assert json.loads((run / "front.json").read_text())["chosen"]


REFUSED = {
    "no folder": (["worker", "{run}/nowhere"], "no such run"),
    "neither folder nor storage": (["worker"], "no study to work on"),
    "both": (["worker", "{run}", "--storage", "x"], "a folder and a --storage"),
    "another name": (["worker", "--storage", "{run}/study.journal", "--study", "other"], "no study 'other'"),
    "no journal": (["worker", "--storage", "{run}/none.journal"], "no study file"),
    "no database": (["worker", "--storage", "sqlite:///{run}/none.db"], "no study file"),
    "another precision": (["worker", "{run}", "--target", "onnxruntime:int8"], "on a device of this machine"),
    "another device": (["worker", "{run}", "--device", "gpu9"], "device 'gpu9'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_refuses_is_one_line(case: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = REFUSED[case]
    assert main([a.replace("{run}", str(run)) for a in argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (run / "none.db").exists() and not (run / "none.journal").exists()


def test_another_machine_is_refused_where_latencies_are_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.load_study(study_name="run", storage=open_storage(run / "study.journal"))
    study.set_user_attr(RECORD, {**study.user_attrs[RECORD], "device": "0123456789ab"})
    assert main(["worker", str(run)]) == 2
    assert "is not the one whose latencies the study holds" in capsys.readouterr().err
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 2
    assert "0123456789ab" in capsys.readouterr().err


def test_what_is_not_on_this_machine_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, supernet="/far/supernet.safetensors")
    assert main(["worker", str(run)]) == 2
    assert "--supernet FILE" in capsys.readouterr().err
    change(run, supernet=None, data="/far/shop")
    assert main(["worker", str(run)]) == 2
    assert "no data set at '/far/shop'" in capsys.readouterr().err


def test_another_data_set_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", str(run), "--data", "digits@32:train=4,val=2"]) == 2
    assert "not the one of the search" in capsys.readouterr().err
