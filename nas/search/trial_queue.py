"""Who evaluates what: the trials of a study are shared out among workers through the study alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas.core.estimate import Candidate, Objective
from nas.core.precision_choice import id_of
from nas.search.evaluate_candidate import TrialOutcome
from nas.search.heartbeat import WorkerMonitor
from nas.search.storage import ask_lock
from nas.search.study_history import StudyHistory
from nas.search.trial_parameters import TrialParameters
from search_spaces.architecture import Architecture

LOOK_S = 0.5
"""Seconds between two looks of an idle worker at the candidates of others."""


@dataclass(frozen=True)
class AskedTrial:
    """A running trial of this worker, and its point."""

    trial: optuna.Trial
    point: Architecture


class TrialQueue:
    """Takes trials of an Optuna study for one worker, and records their outcomes.

    Args:
        study: The Optuna study.
        storage: Its storage, as it was named.
        worker: Name of this worker.
        parameters: The parameters of its space.
        history: Everything that is known of its trials, kept up to date here.
        objectives: Its objectives.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: Path | str,
        worker: str,
        parameters: TrialParameters,
        history: StudyHistory,
        objectives: Sequence[Objective],
    ) -> None:
        self._study, self._storage, self._worker = study, storage, worker
        self._parameters, self._history, self._objectives = parameters, history, tuple(objectives)
        self.monitor = WorkerMonitor(worker)

    def sync(self) -> None:
        """Read what happened in the study."""
        self._history.read(self._study.get_trials(deepcopy=False))

    def enqueue(self, point: Architecture) -> None:
        """Make this the next point, unless it is evaluated or in flight."""
        if id_of(point) not in self._history.taken:
            self._study.enqueue_trial(self._parameters.params(point))
            self.sync()

    def take(self, wanted: int) -> AskedTrial | None:
        """Ask Optuna for a trial and make sure that its point is this worker's alone; None if it is not.

        Workers may be given the same point at the same time. The one with the lowest trial number keeps it (Lamport's
        bakery algorithm, doi:10.1145/361082.361093): every worker writes down its point, waits until all trials with
        lower numbers did so, and gives up if one of them has the point. ``wanted`` is the number of points in all.
        """
        with contextlib.suppress(UpdateFinishedTrialError):  # counted as dead meanwhile
            with ask_lock(self._storage):
                trial = self._study.ask(self._parameters.distributions)
            point = self._parameters.point(trial.params)
            trial.set_user_attr("architecture", id_of(point))
            if self._is_own(trial, id_of(point), wanted):
                return AskedTrial(trial, point)
        self.sync()
        return None

    def _is_own(self, trial: optuna.Trial, id_: str, wanted: int) -> bool:
        claim = self._parameters.claim
        while True:
            self.sync()
            lower = [t for t in self._history.open.values() if t.number < trial.number]
            if not any(t.state == TrialState.RUNNING and claim(t) is None for t in lower):
                break
            self.recover()
            time.sleep(LOOK_S / 10)
        taken = {other: t.number for t in lower if (other := claim(t))}
        known = self._history.known
        if id_ in known:  # the sampler learns the known result once more; it counts as nothing
            before = known[id_]
            trial.set_user_attr("duplicate", before.number)
            values = before.values if before.state == TrialState.COMPLETE else None
            self._study.tell(trial, values, state=before.state, skip_if_finished=True)
            return False
        if id_ in taken:
            trial.set_user_attr("duplicate", taken[id_])
        elif len(known.keys() | taken.keys()) < wanted:
            return True
        self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return False

    def tell(self, asked: AskedTrial, outcome: TrialOutcome) -> None:
        """Record the outcome of a trial.

        Does nothing if others finished the trial: this process was stopped for so long that they counted it as dead
        and enqueued the point again.
        """
        trial, candidate, values = asked.trial, outcome.candidate, outcome.expected
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr("course", outcome.record.to_dict())
            if candidate is None:
                trial.set_user_attr("message", outcome.message)
            else:
                trial.set_user_attr("candidate", candidate.to_dict())
                values = tuple(candidate[o.name].value for o in self._objectives)
            self._study.tell(trial, values, state=outcome.state, skip_if_finished=True)
        self.sync()

    def give_back(self, asked: AskedTrial) -> None:
        """Record a trial as interrupted and enqueue its point again."""
        self._study.enqueue_trial(self._parameters.params(asked.point))
        self._study.tell(asked.trial, state=TrialState.FAIL, skip_if_finished=True)

    def recover(self) -> None:
        """Record the trials of dead workers as interrupted and enqueue their points again.

        Several workers may do so at once.
        """
        trials = self._history.open.values()
        foreign = [t for t in trials if t.state == TrialState.RUNNING and t.user_attrs.get("worker") != self._worker]
        attributes = self._study.user_attrs if foreign else {}
        for trial in foreign:
            if not self.monitor.alive(trial.user_attrs.get("worker"), attributes, trial.number):
                self._take_over(trial)
        if foreign:
            self.sync()

    def _take_over(self, trial: FrozenTrial) -> None:
        values, state = None, TrialState.FAIL
        if "candidate" in trial.user_attrs:  # killed between its last estimate and the telling
            candidate = Candidate.from_dict(trial.user_attrs["candidate"])
            values, state = [candidate[o.name].value for o in self._objectives], TrialState.COMPLETE
        elif "message" not in trial.user_attrs and self._parameters.are_complete(trial.params):
            # Enqueued first: a kill in between leads to a duplicate, which is noticed, instead of a loss.
            point = self._parameters.point(trial.params)
            claims = (self._parameters.claim(t) for t in self._history.open.values() if t.number != trial.number)
            if id_of(point) not in self._history.known.keys() | set(claims):
                self._study.enqueue_trial(self._parameters.params(point))
                self.sync()
        with contextlib.suppress(UpdateFinishedTrialError):  # another worker was first
            self._study.tell(trial.number, values, state=state, skip_if_finished=True)
