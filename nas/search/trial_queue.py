"""The trials of a study as its driver takes and ends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.core.estimate import Candidate, Objective
from nas.core.precision_choice import id_of
from nas.search.driver import Driver
from nas.search.evaluate_candidate import TrialOutcome
from nas.search.optuna_compat import CONSTRAINTS, FIXED_PARAMS, set_trial_user_attr
from nas.search.study_history import INTERRUPTED, StudyHistory
from nas.search.trial_parameters import TrialParameters
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


@dataclass(frozen=True)
class AskedTrial:
    """A running trial and its point."""

    trial: optuna.Trial
    point: Architecture


class TrialQueue:
    """Takes trials of an Optuna study and records their outcomes; only the study's driver may.

    Args:
        study: The Optuna study.
        driver: The right to write it.
        parameters: The parameters of its space.
        history: Everything that is known of its trials, kept up to date here.
        objectives: Its objectives.
    """

    def __init__(
        self,
        study: optuna.Study,
        driver: Driver,
        parameters: TrialParameters,
        history: StudyHistory,
        objectives: Sequence[Objective],
    ) -> None:
        self._study, self._driver = study, driver
        self._parameters, self._history, self._objectives = parameters, history, tuple(objectives)

    def sync(self) -> None:
        """Read what happened in the study."""
        self._history.read(self._study.get_trials(deepcopy=False))

    def enqueue(self, point: Architecture) -> None:
        """Make this the next point, unless it is evaluated or in flight."""
        if id_of(point) not in self._history.taken:
            self._study.enqueue_trial(self._parameters.params(point))
            self.sync()

    def take(self) -> AskedTrial | None:
        """Ask Optuna for a trial; None if its point is evaluated or in flight already, which the sampler is shown."""
        self._driver.check()
        taken = self._history.taken if not self._history.waiting else self._history.known.keys()
        trial = self._study.ask(self._parameters.distributions)
        point = self._parameters.point(trial.params)
        id_ = id_of(point)
        trial.set_user_attr("architecture", id_)
        if id_ not in taken:
            self.sync()
            return AskedTrial(trial, point)
        self._tell_duplicate(trial, id_)
        self.sync()
        return None

    def _tell_duplicate(self, trial: optuna.Trial | FrozenTrial, id_: str) -> None:
        """Show the sampler the known result once more; it counts as nothing."""
        before = self._history.known.get(id_)
        if before is None:  # in flight
            first = next(t for t in self._history.open.values() if self._parameters.claim(t) == id_)
            set_trial_user_attr(self._study, trial, "duplicate", first.number)
            self._tell(trial.number, None, TrialState.FAIL)
            return
        set_trial_user_attr(self._study, trial, "duplicate", before.number)
        values = before.values if before.state == TrialState.COMPLETE else None
        self._tell(trial.number, values, before.state)

    def tell(self, asked: AskedTrial, outcome: TrialOutcome) -> None:
        """Record the outcome of a trial. Raises InputError if another process took the study over."""
        self._driver.check()
        trial, candidate, values = asked.trial, outcome.candidate, outcome.expected
        if candidate is not None:
            values = tuple(candidate[o.name].value for o in self._objectives)
        # The state and the values come first, so that a kill before the end loses nothing.
        trial.set_user_attr("course", {**outcome.record.to_dict(), "state": outcome.state.name, "values": values})
        if candidate is None:
            trial.set_user_attr("message", outcome.message)
        else:
            trial.set_user_attr("candidate", candidate.to_dict())
        self._tell(trial.number, values, outcome.state)
        self.sync()

    def recover(self) -> None:
        """End the trials that an earlier run left running: those with a result by their result, the others as
        interrupted, with their points enqueued again in their order."""
        left = [t for t in self._history.open.values() if t.state == TrialState.RUNNING]
        for trial in left:
            self._end(trial)
        if left:
            self.sync()

    def _end(self, trial: FrozenTrial) -> None:
        attributes = trial.user_attrs
        if "candidate" in attributes or "message" in attributes:  # killed between its last estimate and the telling
            course = attributes.get("course", {})
            state = TrialState[course["state"]] if "state" in course else None
            values = course.get("values")
            if state is None and "candidate" in attributes:  # of an older version
                candidate = Candidate.from_dict(attributes["candidate"])
                values = [candidate[o.name].value for o in self._objectives]
                state = TrialState.COMPLETE
            self._tell(trial.number, values, state or TrialState.FAIL)
            return
        id_ = attributes.get("architecture")
        if id_ in self._history.known:  # killed while the sampler was shown a known result
            self._tell_duplicate(trial, str(id_))
            return
        if self._parameters.are_complete(trial.params):
            # Enqueued first: a kill in between leads to a duplicate, which is noticed, instead of a loss.
            self._enqueue_again(trial)
        set_trial_user_attr(self._study, trial, INTERRUPTED, True)
        self._tell(trial.number, None, TrialState.FAIL)

    def _enqueue_again(self, trial: FrozenTrial) -> None:
        """Enqueue the point of an interrupted trial, with what its sampler noted of it, such as its generation.

        An evolutionary sampler counts the new trial as the one that it proposed.
        """
        claims = (self._parameters.claim(t) for t in self._history.open.values() if t.number != trial.number)
        if id_of(self._parameters.point(trial.params)) in self._history.known.keys() | set(claims):
            return
        notes = {k: v for k, v in trial.system_attrs.items() if not k.startswith(CONSTRAINTS)}
        attributes = {**notes, FIXED_PARAMS: trial.params}
        self._study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=attributes))
        self.sync()

    def _tell(self, number: int, values: Sequence[float] | None, state: TrialState) -> None:
        try:
            self._study.tell(number, values, state=state)
        except UpdateFinishedTrialError:
            self._driver.check()
            raise InputError("another process wrote to the study", "one search per study") from None
