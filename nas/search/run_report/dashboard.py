"""A search in optuna-dashboard: its trials with readable parameters, notes, and images of the front.

The study of a search has indices of ordered choices as parameters. The dashboard shows a copy in memory, in which each
parameter has the values of its choice and a name in words; new trials are copied as they end. The study itself is not
changed.
"""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.core.estimate import Candidate
from nas.core.reporter import Reporter
from nas.core.units import label, quantity
from nas.plotting.frontier import write_frontier
from nas.search.optuna_compat import trial_id
from nas.search.plan import SearchPlan
from nas.search.report.frontier import frontier_data
from nas.search.settings import SearchSettings
from nas.search.storage import open_storage, quiet_optuna, storage_errors
from nas.search.study_identity import StudyIdentity
from nas.search.study_reader import find_record, read_candidates
from nas.search.trial_parameters import TrialParameters
from search_spaces.errors import InputError
from search_spaces.text import counted

EVERY_S = 5.0
"""Seconds between two looks at the study."""


def readable_name(choice: str) -> str:
    """Return a choice's name in words: ``stage2_hidden`` is ``stage 2 inner width``."""
    group, _, part = choice.rpartition("_")
    words = {"hidden": "inner width", "depth": "depth", "block": "block"}
    stem = group.rstrip("0123456789")
    if part not in words or not stem or stem == group:
        return choice.replace("_", " ")
    return f"{stem} {group[len(stem) :]} {words[part]}"


class DashboardStudy:
    """The copy of a study that the dashboard shows.

    Args:
        storage: Journal file or URL of the study.
        name: Name of the study.
        plan: Plan of the search.
        artifacts: Folder of the images.
    """

    def __init__(self, storage: Path | str, name: str, plan: SearchPlan, artifacts: Path) -> None:
        from optuna.artifacts import FileSystemArtifactStore

        self._storage, self._name, self._plan = storage, name, plan
        self._parameters = TrialParameters(plan.points)
        self.memory = optuna.storages.InMemoryStorage()
        self.artifacts = FileSystemArtifactStore(str(artifacts))
        self._folder = artifacts
        with quiet_optuna():
            directions = [
                StudyDirection.MINIMIZE if o.direction == "min" else StudyDirection.MAXIMIZE for o in plan.objectives
            ]
            self.study = optuna.create_study(storage=self.memory, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # metric names have been experimental for years
            self.study.set_metric_names([label(o.name) for o in plan.objectives])
        self._copied: set[int] = set()

    def refresh(self) -> int:
        """Copy the trials that have ended since the last call; return their number.

        Raises InputError if the storage cannot be read.
        """
        with storage_errors(self._storage), quiet_optuna():
            study = optuna.load_study(study_name=self._name, storage=open_storage(self._storage, write=False))
            new = [
                t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.number not in self._copied
            ]
            for trial in new:
                self._copied.add(trial.number)
                if readable := self.readable(trial):
                    self.study.add_trial(readable)
                    self._annotate(trial)
        if new:
            self._draw()
        return len(new)

    def readable(self, trial: FrozenTrial) -> FrozenTrial | None:
        """Return a trial with the values of its choices; None if it has no parameters of the space."""
        if not self._parameters.are_complete(trial.params):
            return None
        point = self._parameters.point(trial.params)
        names = {name: readable_name(name) for name in self._parameters.choices}
        distributions: Mapping[str, BaseDistribution] = {
            names[name]: CategoricalDistribution(c.values) for name, c in self._parameters.choices.items()
        }
        candidate = trial.user_attrs.get("candidate")
        attributes = {"trial of the search": trial.number, "architecture": trial.user_attrs.get("architecture", "")}
        if candidate:
            attributes |= {label(e.name): quantity(e) for e in Candidate.from_dict(candidate).estimates}
        if message := trial.user_attrs.get("message"):
            attributes["not evaluated to the end"] = message
        state = trial.state if candidate or trial.state != TrialState.COMPLETE else TrialState.PRUNED
        return create_trial(
            state=state,
            values=trial.values if state == TrialState.COMPLETE else None,
            params={names[name]: point[name] for name in names},
            distributions=dict(distributions),
            user_attrs=attributes,
        )

    def _annotate(self, trial: FrozenTrial) -> None:
        """Write a note to the newest copied trial that was not evaluated to the end."""
        from optuna_dashboard import save_note

        message = trial.user_attrs.get("message")
        if message:
            number = len(self.study.get_trials(deepcopy=False)) - 1
            copied = optuna.trial.Trial(self.study, trial_id(self.study.trials[number]))
            save_note(copied, str(message))

    def _draw(self) -> None:
        """Attach the image of the front so far to the study, with a note."""
        from optuna.artifacts import upload_artifact
        from optuna_dashboard import save_note

        candidates = list(read_candidates(self._storage, self._name))
        if not candidates:
            return
        aims, settings = self._plan.aims, self._plan.settings
        title = f"Front after {counted(len(candidates), 'candidate')}"
        data = frontier_data(candidates, aims.cost, aims.gain, target=self._plan.target_name, title=title)
        with tempfile.TemporaryDirectory() as folder:
            (image,) = write_frontier(folder, data, ("png",))
            upload_artifact(artifact_store=self.artifacts, file_path=str(image), study_or_trial=self.study)
        lines = [
            f"**{settings.space}** on `{self._plan.target_name}`"
            + (f", data {settings.data}" if settings.data else ""),
            f"{len(candidates)} of {settings.trials} candidates; budgets: {settings.budgets or 'none'}",
            "The images of the front are under *Artifacts*. Choices have their values here, not their indices.",
        ]
        save_note(self.study, "\n\n".join(lines))


def why_no_dashboard() -> str | None:
    """Return what to install for the dashboard; None where it is there."""
    return (
        None
        if find_spec("optuna_dashboard")
        else "optuna-dashboard not installed; pip install 'hw-nas-yolo[dashboard]'"
    )


@contextmanager
def dashboard_study(
    storage: Path | str, name: str | None, settings: SearchSettings | None = None
) -> Iterator[DashboardStudy]:
    """Provide the copy of a study; its images are removed at the end.

    ``name`` may be None if the storage has one study; ``settings`` are those of the search, by default those that the
    study keeps. Raises InputError if there is no such study, or optuna-dashboard is not installed.
    """
    if reason := why_no_dashboard():
        raise InputError(reason)
    if settings is None or name is None:
        name, settings = _found(storage, name)
    plan = SearchPlan.parse(settings)
    with tempfile.TemporaryDirectory(prefix="nas-dashboard-") as folder:
        shown = DashboardStudy(storage, name, plan, Path(folder))
        shown.refresh()
        yield shown


def _found(storage: Path | str, name: str | None) -> tuple[str, SearchSettings]:
    """Return name and settings of a study; ``name`` may be None if the storage has one study."""
    with storage_errors(storage), quiet_optuna():
        names = optuna.get_all_study_names(open_storage(storage, write=False))
    if name is None and len(names) == 1:
        (name,) = names
    record = None if name is None else find_record(storage, name)
    if name is None or record is None:
        there = ", ".join(names[:8]) or "none"
        what = f"no search named {name!r} in {storage}" if name else f"{len(names)} studies in {storage}"
        raise InputError(what, f"--study with one of: {there}")
    return name, StudyIdentity.from_dict(record, name).settings


def serve(
    storage: Path | str,
    name: str | None,
    host: str,
    port: int,
    reporter: Reporter,
    settings: SearchSettings | None = None,
    run: Callable[..., Any] | None = None,
) -> None:
    """Serve the dashboard of a study until Ctrl-C; new trials appear within :data:`EVERY_S` seconds.

    Args:
        storage: Journal file or URL of the study.
        name: Name of the study; None if the storage has one only.
        host: Address to listen at.
        port: Port to listen at.
        reporter: Receives the address, and a warning while the study cannot be read.
        settings: Settings of the search, if they are known.
        run: Server of optuna-dashboard; for tests.

    Raises InputError as :func:`dashboard_study`, or if the port is taken.
    """
    with dashboard_study(storage, name, settings) as shown:
        from optuna_dashboard import run_server

        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(shown, ended, reporter), daemon=True)
        watcher.start()
        reporter.note(f"http://{host}:{port}/ shows {counted(len(shown.study.trials), 'trial')}; Ctrl-C ends it")
        try:
            (run or run_server)(shown.memory, host, port, artifact_store=shown.artifacts)
        except OSError as error:
            raise InputError(f"cannot listen at {host}:{port} ({error.strerror})", hint="another --port") from None
        finally:
            ended.set()
            watcher.join(timeout=EVERY_S)


def _watch(shown: DashboardStudy, ended: threading.Event, reporter: Reporter) -> None:
    while not ended.wait(EVERY_S):
        try:
            shown.refresh()
        except InputError as error:
            reporter.warning(str(error))
