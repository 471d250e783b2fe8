"""The candidates in flight: their tasks go to an executor, their outcomes to the study.

What is in flight when the loop is left early stays a running trial, which the next run recovers
(:meth:`nas.search.trial_queue.TrialQueue.recover`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from nas.search.evaluate_candidate import CandidateEvaluator, Evaluation, TrialOutcome
from nas.search.executors.base import Executor
from nas.search.study_history import StudyHistory
from nas.search.trial_queue import AskedTrial, TrialQueue


@dataclass(frozen=True)
class InFlight:
    """A candidate in evaluation, its trial, and when it began."""

    asked: AskedTrial
    evaluation: Evaluation
    began_s: float


class EvaluationLoop:
    """Candidates in flight.

    Args:
        queue: Trials of the study.
        history: What is known of them.
        evaluator: Estimators, bounds and pruner.
        executor: Where estimates are made.
    """

    def __init__(
        self, queue: TrialQueue, history: StudyHistory, evaluator: CandidateEvaluator, executor: Executor
    ) -> None:
        self._queue, self._history, self._evaluator, self._executor = queue, history, evaluator, executor
        self._in_flight: dict[int, InFlight] = {}

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def free(self) -> bool:
        """Whether the executor takes another candidate."""
        return len(self) < self._executor.capacity

    def begin(self, asked: AskedTrial) -> None:
        """Begin the evaluation of a trial's point."""
        began, number = time.monotonic(), asked.trial.number
        evaluation = Evaluation(self._evaluator, asked.point, number, lambda: self._history.front)
        self._in_flight[number] = InFlight(asked, evaluation, began)
        evaluation.run_here()
        self._submit(evaluation)

    def advance(self) -> list[tuple[TrialOutcome, float]]:
        """Record and return the outcomes, with seconds, of the candidates that have one; wait for a result if none
        has."""
        if not any(f.evaluation.outcome for f in self._in_flight.values()):
            if (step := self._executor.result()) is None:
                return []
            evaluation = self._in_flight[step.task.trial].evaluation
            evaluation.receive(step)
            if evaluation.outcome is not None or evaluation.task != step.task:
                self._executor.release(step.task)
            self._submit(evaluation)
        found = []
        for number, one in list(self._in_flight.items()):
            if (outcome := one.evaluation.outcome) is not None:
                self._queue.tell(one.asked, outcome)
                del self._in_flight[number]
                found.append((outcome, time.monotonic() - one.began_s))
        return found

    def _submit(self, evaluation: Evaluation) -> None:
        if evaluation.outcome is None:
            self._executor.submit(evaluation.task, evaluation.step)
