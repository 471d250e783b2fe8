"""A study is resumed on the device, the data set and the supernet that it was begun with; else it is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.cli import main
from nas.estimators import ESTIMATORS
from nas.search.settings import SearchSettings
from nas.search.storage import open_storage
from nas.search.study_identity import StudyIdentity
from nas.search.study_reader import RECORD, read_candidates
from search_spaces.errors import InputError
from tests._fakes import tiny_space

FIXED = [part for c in tiny_space().choices for part in ("--fix", f"{c.name}={','.join(map(str, c.values))}")]
SEARCH = ["search", "--accuracy", "score", "--num-classes", "3", "--trials", "4", "--sampler", "random", *FIXED]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search of four candidates that has ended."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ESTIMATORS._targets, "latency", "tests._fakes:HashLatency")
    monkeypatch.setitem(ESTIMATORS._targets, "score", "tests._fakes:FakeScore")
    folder = tmp_path / "run"
    assert main([*SEARCH, "--out", str(folder)]) == 0
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    study = optuna.load_study(study_name=folder.name, storage=open_storage(folder / "study.journal"))
    study.set_user_attr(RECORD, edit(study.user_attrs[RECORD]))


def test_a_search_that_is_resumed_finds_what_was_done(run: Path) -> None:
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 0
    assert len(list(read_candidates(run / "study.journal", "run"))) == 12
    assert json.loads((run / "front.json").read_text())["chosen"]


def test_another_machine_is_refused_where_latencies_are_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, lambda record: {**record, "device": "0123456789ab"})
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 2
    error = capsys.readouterr().err
    assert "is not the one whose latencies the study holds" in error and "0123456789ab" in error
    assert error.count("\n") == 1


def test_another_data_set_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, lambda record: {**record, "data": "of other images"})
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 2
    assert "another data set" in capsys.readouterr().err


def test_another_precision_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run, lambda record: {**record, "settings": {**record["settings"], "target": "onnxruntime:int8"}})
    assert main(["search", "--resume", str(run), "--total-trials", "12"]) == 2
    assert "was begun on target onnxruntime:int8" in capsys.readouterr().err


@pytest.mark.parametrize("key, value", [("seed", 7), ("augment", False), ("recipe", {"epochs": 3})])
def test_another_supernet_is_refused_before_it_is_trained(key: str, value: Any) -> None:
    def identity(weights: str | None, **settings: Any) -> StudyIdentity:
        return StudyIdentity(SearchSettings(data="digits", **settings), "data", "device", weights)

    begun = identity("0123", supernet="run/supernet.safetensors", **{key: value})
    with pytest.raises(InputError, match=rf"study 'shop' was begun with {key} "):
        identity(None).check_same(begun, "shop")
    identity(None, **{key: value}).check_same(begun, "shop")
    identity("0123", **{key: value}).check_same(begun, "shop")
