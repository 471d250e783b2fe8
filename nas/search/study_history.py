"""What the trials of a study have shown so far: evaluated candidates, the Pareto front, and what is in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.trial import FrozenTrial, TrialState

from nas.core.estimate import Candidate, Objective
from nas.core.pareto import Archive, values_of
from nas.search.evaluate_candidate import EvaluationRecord, FrontState
from nas.search.pruner import Pruner, PruningSavings, pruning_savings
from nas.search.terminator import SearchProgress
from nas.search.trial_parameters import TrialParameters

INTERRUPTED = "interrupted"
"""User attribute of a trial that ended without a result of its own; its point was enqueued again."""


class StudyHistory:
    """The finished and unfinished trials of a study, updated by :meth:`read`.

    Attributes:
        known: The first finished trial with a result of its own, by the id of its point.
        open: Unfinished trials by number.
        archive: The Pareto front.
        pruner: Learns from the candidates that were evaluated to the end.
        progress: Hypervolume after every candidate.
        duplicates: Trials in a row, up to now, whose point was evaluated or in flight already.
        asked: Trials that asked the sampler, without interrupted ones: the same number after a kill as without it.
    """

    def __init__(self, objectives: Sequence[Objective], seed: int, parameters: TrialParameters) -> None:
        self._objectives, self._parameters = tuple(objectives), parameters
        self.archive = Archive(objectives, log=tuple(o.name for o in objectives if o.logarithmic))
        self.pruner = Pruner(objectives, seed)
        self.progress = SearchProgress()
        self.known: dict[str, FrozenTrial] = {}
        self.open: dict[int, FrozenTrial] = {}
        self.duplicates = self.asked = 0
        self._without_promise = 0
        self._read = 0

    def read(self, trials: Sequence[FrozenTrial]) -> None:
        """Take over what is new in all trials of the study, in the order of their numbers."""
        for number in (*self.open, *range(self._read, len(trials))):
            trial = trials[number]
            self.asked += number >= self._read
            if not trial.state.is_finished():
                self.open[number] = trial
                continue
            self.open.pop(number, None)
            self.asked -= was_interrupted(trial)
            if has_result(trial):
                self._add(trial)
                self.duplicates = 0
            else:
                self.duplicates += "duplicate" in trial.user_attrs
        self._read = len(trials)

    def _add(self, trial: FrozenTrial) -> None:
        id_ = trial.user_attrs["architecture"]
        if id_ in self.known:
            return
        self.known[id_] = trial
        record, pruned = record_of(trial), was_pruned(trial)
        self._without_promise += pruned or record.audited
        if trial.state == TrialState.COMPLETE and not pruned:
            candidate = Candidate.from_dict(trial.user_attrs["candidate"])
            self.archive.add(candidate)
            self.pruner.observe({**{e.name: e.value for e in candidate.estimates}, **record.early})
        self.progress.add(trial, self.archive.hypervolume)

    @property
    def front(self) -> FrontState:
        """The Pareto front as the evaluation of a candidate needs it."""
        return FrontState(values_of(self.archive.front, self._objectives), self._without_promise)

    @property
    def waiting(self) -> bool:
        """Whether an enqueued point waits for its trial."""
        return any(t.state == TrialState.WAITING for t in self.open.values())

    @property
    def claims(self) -> set[str]:
        """Ids of the points that unfinished trials are about."""
        return {claim for t in self.open.values() if (claim := self._parameters.claim(t))}

    @property
    def taken(self) -> set[str]:
        """Ids of the points that are evaluated or in flight."""
        return self.known.keys() | self.claims

    @property
    def candidates(self) -> list[Candidate]:
        """Candidates evaluated to the end, in the order of their trials."""
        return [
            Candidate.from_dict(t.user_attrs["candidate"])
            for t in self.known.values()
            if t.state == TrialState.COMPLETE and not was_pruned(t)
        ]

    @property
    def stopped(self) -> list[tuple[str, str]]:
        """(id, message) of the candidates that were pruned early."""
        return [(id_, str(t.user_attrs["message"])) for id_, t in self.known.items() if was_pruned(t)]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(id, message) of the candidates that failed or are outside a bound."""
        return [(id_, str(t.user_attrs["message"])) for id_, t in self.known.items() if t.state != TrialState.COMPLETE]

    @property
    def records(self) -> Mapping[str, EvaluationRecord]:
        """The course of every evaluation by candidate id."""
        return {id_: record_of(t) for id_, t in self.known.items()}

    @property
    def savings(self) -> PruningSavings:
        """What pruning saved so far."""
        records = self.records
        return pruning_savings(
            {i: r.seconds for i, r in records.items()},
            [i for i, _ in self.stopped],
            [id_ for id_, r in records.items() if r.audited],
            [c.id for c in self.archive.front],
            self.pruner.rank_correlations(),
        )


def has_result(trial: FrozenTrial) -> bool:
    """Return whether the trial holds a result of its own; a duplicate or an interrupted trial does not."""
    return "candidate" in trial.user_attrs or "message" in trial.user_attrs


def was_interrupted(trial: FrozenTrial) -> bool:
    """Return whether a trial ended without a result, because its process was interrupted or (before version 0.2)
    another worker evaluated its point."""
    attributes = trial.user_attrs
    return INTERRUPTED in attributes or ("worker" in attributes and not has_result(trial))


def was_pruned(trial: FrozenTrial) -> bool:
    """Return whether the trial's candidate was pruned early: its values are a forecast."""
    return trial.state == TrialState.COMPLETE and "candidate" not in trial.user_attrs


def record_of(trial: FrozenTrial) -> EvaluationRecord:
    """Return the course of a trial's evaluation; empty for a trial of an older version."""
    kept = trial.user_attrs.get("course", {})
    return EvaluationRecord(**{name: value for name, value in kept.items() if name not in ("state", "values")})
