"""A study as optuna-dashboard shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.artifacts import get_all_artifact_meta

from nas.cli import main
from nas.core.reporter import Reporter
from nas.search.explain.run_data import RunData
from nas.search.run_report import dashboard
from nas.search.run_report.dashboard import dashboard_study, readable_name, serve
from nas.search.settings import SearchSettings

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")


def test_names_in_words() -> None:
    assert readable_name("stage2_hidden") == "stage 2 inner width"
    assert readable_name("neck1_depth") == "neck 1 depth"
    assert readable_name("head_width") == "head width"
    assert readable_name("width") == "width"


def test_trials_have_the_values_of_their_choices(run: RunData) -> None:
    settings = run.plan.settings
    with dashboard_study(settings.storage_of(run.folder), settings.study_name(run.folder), settings) as shown:
        trials = shown.study.trials
        assert len(trials) == len(run.candidates)
        for trial, candidate in zip(trials, run.candidates, strict=True):
            for name in shown._parameters.choices:
                assert trial.params[readable_name(name)] == candidate.architecture[name]
            assert trial.user_attrs["architecture"] == candidate.id
        assert shown.refresh() == 0
        images = get_all_artifact_meta(shown.study)
        assert len(images) == 1


def test_the_server_shows_the_study(run: RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's interface answers with the readable parameters; no port is opened."""
    from optuna_dashboard import wsgi

    answers: dict[str, Any] = {}

    def ask(storage: Any, host: str, port: int, artifact_store: Any) -> None:
        app: Callable[..., Any] = wsgi(storage, artifact_store)
        environ: dict[str, Any] = {"PATH_INFO": "/api/studies/0"}
        setup_testing_defaults(environ)
        body = b"".join(app(environ, lambda status, headers, error=None: answers.update(status=status)))
        answers["study"] = json.loads(body)

    settings = run.plan.settings
    serve(settings.storage_of(run.folder), settings.study_name(run.folder), "127.0.0.1", 1, Reporter(), settings, ask)
    assert answers["status"].startswith("200")
    trial = answers["study"]["trials"][0]
    assert {p["name"] for p in trial["params"]} >= {"stage 2 inner width", "head width"}
    assert "yolo-nano" in answers["study"]["note"]["body"]


def test_errors(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["dashboard", str(tmp_path)]) == 2
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    assert main(["dashboard", str(run_folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "hw-nas-yolo[dashboard]" in lines[1]
    assert SearchSettings.read(run_folder).name == "made"
