"""A search that survives: ask, estimate, tell on an Optuna study; reopening it resumes it, and nothing is evaluated twice."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.estimate import Candidate, Estimate, Objective
from nas.estimators.base import Estimator
from nas.front import Archive
from nas.samplers import SAMPLERS, Known
from nas.storage import explained, open_storage
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

HOPELESS = 8
"""Failures in a row from the beginning after which a search stops: that is the set-up, not a candidate."""
MAX_DUPLICATES = 5
"""Known architectures in a row after which an unseen one is asked for: samplers converge, and small spaces run out."""


@dataclass(frozen=True)
class Bound:
    """A constraint: an estimate at most (``<=``) or at least (``>=``) so much."""

    name: str
    at_most: bool
    value: float

    def excess(self, estimate: Estimate) -> float:
        """Above 0 when violated, in the estimate's unit."""
        return (estimate.value - self.value) * (1 if self.at_most else -1)

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.at_most else '>='} {self.value:g}"


class Violated(Exception):
    """A candidate is outside a bound; it is recorded, not evaluated further."""


@dataclass(frozen=True)
class Event:
    """What a watcher is told after every trial: the candidate or why there is none, how many were evaluated of all wanted, the archive, seconds it took."""

    candidate: Candidate | None
    message: str
    done: int
    wanted: int
    archive: Archive
    seconds: float


class Study:
    """Candidates of a space, each with its estimates, kept in an Optuna storage (a journal file by default, or any storage URL).

    Trials are complete (evaluated), pruned (outside a bound) or failed (with their message). A trial that a killed process left running is
    recorded as interrupted and its architecture asked again first.
    """

    def __init__(
        self,
        storage: Path | str,
        name: str,
        space: SearchSpace,
        objectives: Sequence[Objective],
        sampler: str = "nsga2",
        seed: int = 0,
        bounds: Sequence[Bound] = (),
        budgets: Sequence[float] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.objectives, self.bounds, self.seed = space, tuple(objectives), tuple(bounds), seed
        self._storage = storage
        self._free = {c.name: c for c in space.choices if len(c.values) > 1}
        directions = [StudyDirection.MINIMIZE if o.direction == "min" else StudyDirection.MAXIMIZE for o in objectives]
        log = tuple(i for i, o in enumerate(self.objectives) if o.unit == "ms")
        sampling = Known(self._distributions, log, tuple(budgets))
        settings = {"space": space.name, "version": space.version, "objectives": [str(o) for o in objectives]}
        make = SAMPLERS[sampler]
        with explained(storage):
            self._study = optuna.create_study(storage=open_storage(storage), study_name=name, directions=directions, load_if_exists=True)
            known = self._study.user_attrs.get("settings")
            if known is None:
                self._study.set_user_attr("settings", settings)
            elif known != settings:
                raise InputError(f"study {name!r} is of {known}", f"{settings}", "give the run another folder or name")
            trials = self._study.get_trials(deepcopy=False)
        # A reopened study must not repeat the random numbers of its beginning.
        self._study.sampler = make(seed + len(trials), sampling)
        self.archive = Archive(objectives, log=tuple(self.objectives[i].name for i in log))
        self._known: dict[str, FrozenTrial] = {}
        self._running: list[FrozenTrial] = []
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._running.append(trial)
            elif trial.state.is_finished() and _evaluated(trial):
                self._remember(trial)

    @property
    def candidates(self) -> list[Candidate]:
        """All evaluated candidates, in the order of their trials."""
        return [Candidate.from_dict(t.user_attrs["candidate"]) for t in self._known.values() if t.state == TrialState.COMPLETE]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(architecture id, message) of those that failed or are outside a bound."""
        return [(id_, str(t.user_attrs["message"])) for id_, t in self._known.items() if t.state != TrialState.COMPLETE]

    def enqueue(self, architecture: Architecture) -> None:
        """Ask for this one next (unless it is known)."""
        if architecture.id not in self._known:
            self._study.enqueue_trial(self._params(architecture))

    def run(
        self,
        estimators: Sequence[Estimator],
        trials: int,
        watch: Callable[[Event], None] = lambda event: None,
        first: Sequence[Architecture] = (),
    ) -> None:
        """Propose and estimate until ``trials`` architectures were tried in all, failed ones and those outside a bound included.

        A new study begins with the space's extremes; ``first`` are tried next, those of them that are not known.
        """
        ordered = sorted(estimators, key=lambda e: e.rank)
        names = {e.name for e in ordered}
        for wanted in (*(o.name for o in self.objectives), *(b.name for b in self.bounds)):
            if wanted not in names:
                raise InputError(f"objective or bound on {wanted!r}", f"one of {', '.join(sorted(names))}")
        with explained(self._storage, opened=True):
            self._run(ordered, trials, watch, [self.space.check(a) for a in first])

    def _run(self, ordered: Sequence[Estimator], trials: int, watch: Callable[[Event], None], first: Sequence[Architecture]) -> None:
        self._recover()
        extremes = () if self._known else (self.space.smallest, self.space.largest)
        for architecture in dict.fromkeys((*extremes, *first)):
            self.enqueue(architecture)
        duplicates = 0
        while len(self._known) < min(trials, self._size):
            trial = self._study.ask(self._distributions)
            architecture = self._architecture(trial.params)
            if architecture.id in self._known:
                duplicates += 1
                self._tell_again(trial, self._known[architecture.id])
                if duplicates >= MAX_DUPLICATES:
                    self.enqueue(self._unseen(len(self._known)))
                continue
            duplicates = 0
            self._evaluate(trial, architecture, ordered, trials, watch)
            if len(self._known) >= HOPELESS and all(t.state == TrialState.FAIL for t in self._known.values()):
                raise InputError(f"all of the first {HOPELESS} candidates failed ({self.failures[-1][1]})", hint="mend the cause and start anew")

    @property
    def _size(self) -> int:
        return self.space.size

    @property
    def _distributions(self) -> dict[str, BaseDistribution]:
        return {
            name: IntDistribution(0, len(c.values) - 1) if c.ordered else CategoricalDistribution(range(len(c.values)))
            for name, c in self._free.items()
        }

    def _architecture(self, params: dict[str, Any]) -> Architecture:
        return self.space.architecture(**{c.name: c.values[int(params.get(c.name, 0))] for c in self.space.choices})

    def _params(self, architecture: Architecture) -> dict[str, int]:
        return {name: c.index(architecture[name]) for name, c in self._free.items()}

    def _unseen(self, number: int) -> Architecture:
        """An architecture not tried yet: a neighbour of one on the front, else any."""
        rng = random.Random(f"{self.seed}/{number}")
        front = list(self.archive.front)
        rng.shuffle(front)
        for candidate in front:
            new = [a for a in self.space.neighbours(candidate.architecture) if a.id not in self._known]
            if new:
                return rng.choice(new)
        while True:
            sample = self.space.sample(rng)
            if sample.id not in self._known:
                return sample

    def _evaluate(
        self, trial: optuna.Trial, architecture: Architecture, estimators: Sequence[Estimator], wanted: int, watch: Callable[[Event], None]
    ) -> None:
        start = time.monotonic()
        trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
        estimates: list[Estimate] = []
        candidate, message, values, state = None, "", None, TrialState.FAIL
        try:
            for estimator in estimators:
                estimates.append(estimator(architecture))
                self._check(estimates[-1])
            candidate = Candidate(architecture, tuple(estimates), trial.number)
            values, state = [candidate[o.name].value for o in self.objectives], TrialState.COMPLETE
        except Violated as violated:
            message, state = str(violated), TrialState.PRUNED
        except KeyboardInterrupt:
            self._study.enqueue_trial(self._params(architecture))
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one candidate is recorded with it, and the search goes on
            message = f"{type(error).__name__}: {error}".splitlines()[0]
        trial.set_user_attr("architecture", architecture.id)
        if candidate is None:
            trial.set_user_attr("message", message)
        else:
            trial.set_user_attr("candidate", candidate.to_dict())
        told = self._study.tell(trial, values, state=state)
        self._remember(told)
        watch(Event(candidate, message, len(self._known), wanted, self.archive, time.monotonic() - start))

    def _check(self, estimate: Estimate) -> None:
        for bound in self.bounds:
            if bound.name == estimate.name and bound.excess(estimate) > 0:
                raise Violated(f"{estimate.name} {estimate.value:.4g} violates {bound}")

    def _remember(self, trial: FrozenTrial) -> None:
        id_ = trial.user_attrs["architecture"]
        if id_ in self._known:
            return
        self._known[id_] = trial
        if trial.state == TrialState.COMPLETE:
            self.archive.add(Candidate.from_dict(trial.user_attrs["candidate"]))

    def _tell_again(self, trial: optuna.Trial, known: FrozenTrial) -> None:
        """A proposal already tried gets the known answer, so that the sampler learns from it; it counts as nothing."""
        trial.set_user_attr("duplicate", known.number)
        values = known.values if known.state == TrialState.COMPLETE else None
        self._study.tell(trial, values, state=known.state)

    def _recover(self) -> None:
        """Trials of processes that are no more: recorded as interrupted, their architectures asked again first."""
        for trial in self._running:
            if _alive(trial.user_attrs.get("worker")):
                continue
            if _evaluated(trial):  # killed between its last estimate and the telling
                values = None
                if "candidate" in trial.user_attrs:
                    candidate = Candidate.from_dict(trial.user_attrs["candidate"])
                    values = [candidate[o.name].value for o in self.objectives]
                self._remember(self._study.tell(trial.number, values, state=TrialState.COMPLETE if values else TrialState.FAIL))
                continue
            if trial.params.keys() == self._free.keys():
                self.enqueue(self._architecture(trial.params))  # first: a kill in between asks it twice, which is found out, instead of never
            self._study.tell(trial.number, state=TrialState.FAIL)
        self._running.clear()


def _evaluated(trial: FrozenTrial) -> bool:
    """Whether the trial holds an outcome of its own (a duplicate or an interrupted one does not)."""
    return "candidate" in trial.user_attrs or "message" in trial.user_attrs


def _alive(worker: str | None) -> bool:
    """Whether the process that asked is still there; of another host, nobody here can know, so it is left alone."""
    if worker is None:
        return False
    host, _, pid = worker.rpartition(":")
    if host != platform.node():
        return True
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_candidates(storage: Path | str, name: str) -> Iterator[Candidate]:
    """Evaluated candidates of a study, without opening it for writing; for plots."""
    with explained(storage):
        study = optuna.load_study(study_name=name, storage=open_storage(storage, write=False))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if "candidate" in trial.user_attrs:
                yield Candidate.from_dict(trial.user_attrs["candidate"])
