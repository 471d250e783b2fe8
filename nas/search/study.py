"""A search that survives: ask, estimate, tell on an Optuna study; reopening it resumes it, and nothing is evaluated
twice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.core.estimate import Candidate, Objective
from nas.core.pareto import Archive, values_of
from nas.core.precision_choice import CHOICE, id_of
from nas.estimators.base import Estimator
from nas.search.cheap_objectives import Watch, ask_ahead
from nas.search.evaluate import Bound, Course, Evaluation, Outcome
from nas.search.heartbeat import Heart, Signed, Watcher, name_of_this, workers
from nas.search.pruner import Fidelity, Saving, saving
from nas.search.samplers import SAMPLERS, Known, Learner
from nas.search.storage import asking, explained, open_storage
from nas.search.terminator import Progress
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace

HOPELESS = 8
"""Failures in a row from the beginning after which a search stops: that is the set-up, not a candidate."""
MAX_DUPLICATES = 5
"""Known architectures in a row after which an unseen one is asked for: samplers converge, and small spaces run out."""
LOOK_S = 0.5
"""How often a worker with nothing to do looks what became of the others' candidates."""
RECORD = "run"
STREAM = 1_000_003
"""Between the seeds of two workers' samplers."""


@dataclass(frozen=True)
class Event:
    """What a watcher is told after every trial: the candidate or why there is none, how many were evaluated of all
    wanted, the archive, seconds it took."""

    candidate: Candidate | None
    message: str
    done: int
    wanted: int
    archive: Archive
    seconds: float


class Study:
    """Candidates of a space, or of one with the precision (:mod:`nas.core.precision_choice`), kept with their
    estimates in an Optuna storage (a file, or any URL).

    Trials are complete (evaluated), pruned (outside a bound) or failed (with their message). A trial that a killed
    process left running is recorded as interrupted and its architecture asked again first.
    """

    def __init__(
        self,
        storage: Path | str,
        name: str,
        space: SearchSpace,
        objectives: Sequence[Objective],
        sampler: str = "guided",
        seed: int = 0,
        bounds: Sequence[Bound] = (),
        budgets: Sequence[float] = (),
        goals: Sequence[float] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.objectives, self.bounds, self.seed = space, tuple(objectives), tuple(bounds), seed
        self._storage = storage
        self._free = {c.name: c for c in space.choices if len(c.values) > 1}
        directions = [StudyDirection.MINIMIZE if o.direction == "min" else StudyDirection.MAXIMIZE for o in objectives]
        log = tuple(i for i, o in enumerate(self.objectives) if o.logarithmic)
        sampling = Known(self._distributions, log, tuple(budgets), tuple(goals))
        settings: dict[str, Any] = {
            "space": space.name,
            "version": space.version,
            "objectives": [str(o) for o in objectives],
        }
        settings |= {CHOICE: list(self._free[CHOICE].values)} if CHOICE in self._free else {}
        make = SAMPLERS[sampler]
        with explained(storage):
            self._study = optuna.create_study(
                storage=open_storage(storage), study_name=name, directions=directions, load_if_exists=True
            )
            known = self._study.user_attrs.get("settings")
            if known is None:
                self._study.set_user_attr("settings", settings)
                self._study.set_metric_names([o.name for o in objectives])  # for dashboards
            elif known != settings:
                raise InputError(f"study {name!r} is of {known}", f"{settings}", "give the run another folder or name")
            trials = self._study.get_trials(deepcopy=False)
            begun = len(workers(self._study.user_attrs))
        # A reopened study must not repeat the random numbers of its beginning, nor one worker those of another.
        self.worker = name_of_this()
        self._sampler = make(seed, replace(sampling, begun=len(trials) + STREAM * begun))
        self._study.sampler = Signed(self._sampler, self.worker)
        self.archive = Archive(objectives, log=tuple(self.objectives[i].name for i in log))
        self.fidelity = Fidelity(self.objectives, seed)
        self.progress = Progress()
        self._without_promise, self._looked = 0, False
        self._watcher = Watcher(self.worker)
        self._known: dict[str, FrozenTrial] = {}
        self._open: dict[int, FrozenTrial] = {}
        self._read = 0
        self._learn(trials)

    @property
    def candidates(self) -> list[Candidate]:
        """All evaluated candidates, in the order of their trials."""
        return [
            Candidate.from_dict(t.user_attrs["candidate"])
            for t in self._known.values()
            if t.state == TrialState.COMPLETE and not _stopped(t)
        ]

    @property
    def stopped(self) -> list[tuple[str, str]]:
        """(id, message) of those that were not estimated to the end because they had hardly a chance."""
        return [(id_, str(t.user_attrs["message"])) for id_, t in self._known.items() if _stopped(t)]

    @property
    def draws(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """Of every candidate the values that its estimates might have had, by the estimate's name
        (:attr:`nas.estimators.base.Estimator.draws`)."""
        return {id_: course.draws for id_, course in self._courses.items()}

    @property
    def saving(self) -> Saving:
        """What stopping early has saved so far."""
        courses = self._courses
        audited = [id_ for id_, course in courses.items() if course.audited]
        front = [c.id for c in self.archive.front]
        return saving(
            {i: c.seconds for i, c in courses.items()},
            [i for i, _ in self.stopped],
            audited,
            front,
            self.fidelity.rank_correlations(),
        )

    @property
    def _courses(self) -> dict[str, Course]:
        return {id_: Course(**t.user_attrs.get("course", {})) for id_, t in self._known.items()}

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(id, message) of those that failed or are outside a bound."""
        return [(id_, str(t.user_attrs["message"])) for id_, t in self._known.items() if t.state != TrialState.COMPLETE]

    def describe(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Keep, in the study itself, what another worker must know to take part (JSON); what was kept first stays.
        The record that holds."""
        with explained(self._storage):
            if RECORD not in self._study.user_attrs:
                self._study.set_user_attr(RECORD, dict(record))
            return dict(self._study.user_attrs[RECORD])

    def enqueue(self, point: Architecture) -> None:
        """Ask for this one next (unless it is known, or somebody has it in hand)."""
        if id_of(point) not in self._known and id_of(point) not in self._claims():
            self._study.enqueue_trial(self._params(point))
            self._sync()

    def look_ahead(self, estimators: Sequence[Estimator], watch: Watch = lambda done, wanted, what: None) -> None:
        """Tells the sampler, once, what cheap objectives say of points that nobody evaluates, the same ones whenever
        the study is opened.

        :meth:`run` does so by itself, unwatched.
        """
        if not self._looked and isinstance(self._sampler, Learner):
            for place, (points, values) in ask_ahead(self.space, self.objectives, estimators, self.seed, watch).items():
                self._sampler.learn(place, [self._params(point) for point in points], values)
        self._looked = True

    def run(
        self,
        estimators: Sequence[Estimator],
        trials: int,
        watch: Callable[[Event], None] = lambda event: None,
        first: Sequence[Architecture] = (),
        early_stop: bool = False,
        enough: Callable[[Progress], bool] = lambda progress: False,
    ) -> None:
        """Propose and estimate until ``trials`` points were tried in all, failed ones and those outside a bound
        included, or ``enough`` says so.

        A new study begins with the space's extremes; ``first`` are tried next, those of them that are not known.
        ``early_stop``: candidates that have hardly a chance to come to the front are not estimated to the end
        (:mod:`nas.search.pruner`).
        """
        evaluation = Evaluation(estimators, self.objectives, self.bounds, self.fidelity if early_stop else None)
        if len(self._known) < min(trials, self.space.size):
            self.look_ahead(estimators)
        with explained(self._storage, opened=True):
            self._run(evaluation, trials, watch, [self.space.check(a) for a in first], enough)

    def _run(
        self,
        evaluation: Evaluation,
        trials: int,
        watch: Callable[[Event], None],
        first: Sequence[Architecture],
        enough: Callable[[Progress], bool],
    ) -> None:
        self._sync()
        self._recover()
        extremes = () if self._known else (self.space.smallest, self.space.largest)
        for point in dict.fromkeys((*extremes, *first)):
            self.enqueue(point)
        wanted, repeated = min(trials, self.space.size), 0
        with Heart(self._study, self.worker):
            while len(self._known) < wanted and not enough(self.progress):
                if not self._to_begin(wanted):
                    time.sleep(
                        LOOK_S
                    )  # others have the rest in hand; what of it is lost with them has to be done again
                    self._sync()
                    self._recover()
                    continue
                taken = self._take(wanted)
                if taken is None:
                    repeated += 1
                    if repeated >= MAX_DUPLICATES and len(self._known.keys() | self._claims()) < wanted:
                        self.enqueue(self._unseen(len(self._known)))
                    continue
                repeated = 0
                self._evaluate(*taken, evaluation, trials, watch)
                if len(self._known) >= HOPELESS and all(t.state == TrialState.FAIL for t in self._known.values()):
                    raise InputError(
                        f"all of the first {HOPELESS} candidates failed ({self.failures[-1][1]})",
                        hint="mend the cause and start anew",
                    )

    def _to_begin(self, wanted: int) -> bool:
        """Whether something is left that nobody has in hand."""
        waiting = any(t.state == TrialState.WAITING for t in self._open.values())
        return waiting or len(self._known.keys() | self._claims()) < wanted

    def _take(self, wanted: int) -> tuple[optuna.Trial, Architecture] | None:
        """A trial, and its point, which nobody else has or had; None where the proposal turned out to be somebody's.

        Workers may propose the same at the same time. Who has the lower number keeps it (Lamport's bakery,
        doi:10.1145/361082.361093): everyone says what was proposed to it, waits until all with lower numbers have
        said so too, and steps back if one of them has it.
        """
        with contextlib.suppress(
            UpdateFinishedTrialError
        ):  # taken for dead meanwhile: this process was stopped, or the storage kept it waiting
            with asking(self._storage):
                trial = self._study.ask(self._distributions)
            point = self._point(trial.params)
            trial.set_user_attr("architecture", id_of(point))
            if self._is_mine(trial, id_of(point), wanted):
                return trial, point
        self._sync()
        return None

    def _is_mine(self, trial: optuna.Trial, id_: str, wanted: int) -> bool:
        while True:
            self._sync()
            lower = [t for t in self._open.values() if t.number < trial.number]
            if not any(t.state == TrialState.RUNNING and self._claim(t) is None for t in lower):
                break
            self._recover()
            time.sleep(LOOK_S / 10)
        taken = {claim: t.number for t in lower if (claim := self._claim(t))}
        if id_ in self._known:
            self._tell_again(trial, self._known[id_])
        elif id_ in taken:
            trial.set_user_attr("duplicate", taken[id_])
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        elif len(self._known.keys() | taken.keys()) >= wanted:
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)  # no longer needed
        else:
            return True
        return False

    def _sync(self) -> None:
        """Learns what happened in the study since the last look."""
        self._learn(self._study.get_trials(deepcopy=False))

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        for number in (*self._open, *range(self._read, len(trials))):
            trial = trials[number]
            if not trial.state.is_finished():
                self._open[number] = trial
                continue
            self._open.pop(number, None)
            if _evaluated(trial):
                self._remember(trial)
        self._read = len(trials)

    def _claim(self, trial: FrozenTrial) -> str | None:
        """Id of the point that an unfinished trial is of; None where it does not say (yet)."""
        if id_ := trial.user_attrs.get("architecture"):
            return str(id_)
        fixed = trial.system_attrs.get("fixed_params", {})
        return id_of(self._point(fixed)) if fixed.keys() == self._free.keys() else None

    def _claims(self) -> set[str]:
        return {claim for t in self._open.values() if (claim := self._claim(t))}

    @property
    def _distributions(self) -> dict[str, BaseDistribution]:
        return {
            name: IntDistribution(0, len(c.values) - 1) if c.ordered else CategoricalDistribution(c.values)
            for name, c in self._free.items()
        }

    def _point(self, params: Mapping[str, Any]) -> Architecture:
        """Parameters are places in a choice's list where it is ordered, else the values themselves."""
        return self.space.architecture(
            **{
                c.name: c.values[0]
                if c.name not in params
                else c.values[params[c.name]]
                if c.ordered
                else params[c.name]
                for c in self.space.choices
            }
        )

    def _params(self, point: Architecture) -> dict[str, Any]:
        return {name: c.index(point[name]) if c.ordered else point[name] for name, c in self._free.items()}

    def _unseen(self, number: int) -> Architecture:
        """A point not tried yet: a neighbour of one on the front, else any."""
        rng = random.Random(f"{self.seed}/{number}")
        taken = self._known.keys() | self._claims()
        front = list(self.archive.front)
        rng.shuffle(front)
        for candidate in front:
            new = [a for a in self.space.neighbours(candidate.point) if id_of(a) not in taken]
            if new:
                return rng.choice(new)
        while True:
            sample = self.space.sample(rng)
            if id_of(sample) not in taken:
                return sample

    def _evaluate(
        self,
        trial: optuna.Trial,
        point: Architecture,
        evaluation: Evaluation,
        wanted: int,
        watch: Callable[[Event], None],
    ) -> None:
        start = time.monotonic()
        try:
            outcome = evaluation(
                point, trial.number, values_of(self.archive.front, self.objectives), self._without_promise
            )
        except KeyboardInterrupt:
            self._study.enqueue_trial(self._params(point))
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
        self._tell(trial, outcome)
        self._sync()
        watch(
            Event(outcome.candidate, outcome.message, len(self._known), wanted, self.archive, time.monotonic() - start)
        )

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        candidate, values = outcome.candidate, outcome.expected
        # Finished by others: this process was stopped for so long that they took it for dead, and asked for the
        # architecture again.
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr("course", outcome.course.to_dict())
            if candidate is None:
                trial.set_user_attr("message", outcome.message)
            else:
                trial.set_user_attr("candidate", candidate.to_dict())
                values = tuple(candidate[o.name].value for o in self.objectives)
            self._study.tell(trial, values, state=outcome.state, skip_if_finished=True)

    def _remember(self, trial: FrozenTrial) -> None:
        id_ = trial.user_attrs["architecture"]
        if id_ in self._known:
            return
        self._known[id_] = trial
        course = Course(**trial.user_attrs.get("course", {}))
        stopped = _stopped(trial)
        self._without_promise += stopped or course.audited
        if trial.state == TrialState.COMPLETE and not stopped:
            candidate = Candidate.from_dict(trial.user_attrs["candidate"])
            self.archive.add(candidate)
            self.fidelity.learn({**{e.name: e.value for e in candidate.estimates}, **course.early})
        self.progress.add(trial, self.archive.hypervolume)

    def _tell_again(self, trial: optuna.Trial, known: FrozenTrial) -> None:
        """A proposal already tried gets the known answer, so that the sampler learns from it; it counts as nothing."""
        trial.set_user_attr("duplicate", known.number)
        values = known.values if known.state == TrialState.COMPLETE else None
        self._study.tell(trial, values, state=known.state, skip_if_finished=True)

    def _recover(self) -> None:
        """Trials of processes that are no more: recorded as interrupted, their architectures asked again first.
        Several may do this at once."""
        foreign = [
            t
            for t in self._open.values()
            if t.state == TrialState.RUNNING and t.user_attrs.get("worker") != self.worker
        ]
        attributes = self._study.user_attrs if foreign else {}
        for trial in foreign:
            if self._watcher.alive(trial.user_attrs.get("worker"), attributes, trial.number):
                continue
            values, state = None, TrialState.FAIL
            if "candidate" in trial.user_attrs:  # killed between its last estimate and the telling
                candidate = Candidate.from_dict(trial.user_attrs["candidate"])
                values, state = [candidate[o.name].value for o in self.objectives], TrialState.COMPLETE
            elif "message" not in trial.user_attrs and trial.params.keys() == self._free.keys():
                # First: a kill in between asks it twice, which is found out, instead of never.
                self._ask_again(trial)
            with contextlib.suppress(UpdateFinishedTrialError):  # another worker was first
                self._study.tell(trial.number, values, state=state, skip_if_finished=True)
        if foreign:
            self._sync()

    def _ask_again(self, lost: FrozenTrial) -> None:
        point = self._point(lost.params)
        others = {claim for t in self._open.values() if t.number != lost.number and (claim := self._claim(t))}
        if id_of(point) not in self._known and id_of(point) not in others:
            self._study.enqueue_trial(self._params(point))
            self._sync()


def _evaluated(trial: FrozenTrial) -> bool:
    """Whether the trial holds an outcome of its own (a duplicate or an interrupted one does not)."""
    return "candidate" in trial.user_attrs or "message" in trial.user_attrs


def _stopped(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and "candidate" not in trial.user_attrs


def read_candidates(storage: Path | str, name: str) -> Iterator[Candidate]:
    """Evaluated candidates of a study, without opening it for writing; for plots."""
    with explained(storage):
        study = optuna.load_study(study_name=name, storage=open_storage(storage, write=False))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if "candidate" in trial.user_attrs:
                yield Candidate.from_dict(trial.user_attrs["candidate"])


def read_record(storage: Path | str, name: str | None) -> tuple[str, dict[str, Any]]:
    """Name and :meth:`Study.describe` record of a study in a storage; ``name`` may be left out where there is one
    only."""
    with explained(storage):
        opened = open_storage(storage, write=False)
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) == 1:
            (name,) = names
        if name not in names:
            said = ", ".join(names[:8]) or "none"
            raise InputError(
                f"no study {name!r} in {storage}" if name else f"{len(names)} studies in {storage}",
                f"--study with one of: {said}",
            )
        record = optuna.load_study(study_name=name, storage=opened).user_attrs.get(RECORD)
    if record is None:
        raise InputError(
            f"the study {name!r} does not say yet what is searched",
            "one that nas search has begun",
            "wait for its supernet to be trained",
        )
    return name, dict(record)
