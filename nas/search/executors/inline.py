"""Tasks in the process of the search, one after the other, so that nothing disturbs a measurement."""

from __future__ import annotations

from collections.abc import Sequence

from nas.estimators.base import Estimator
from nas.search.tasks import Step, Task, TaskRunner


class InlineExecutor:
    """Runs each step when its result is asked for; one candidate at a time.

    Args:
        estimators: The estimators of a candidate.
    """

    capacity = 1

    def __init__(self, estimators: Sequence[Estimator]) -> None:
        self._runner = TaskRunner(estimators)
        self._submitted: list[tuple[Task, int]] = []

    def submit(self, task: Task, number: int) -> None:
        """Keep a step until its result is asked for."""
        self._submitted.append((task, number))

    def release(self, task: Task) -> None:
        """Drop what the task holds."""
        self._runner.release(task)

    def result(self) -> Step:
        """Run the step that was submitted first."""
        return self._runner.step(*self._submitted.pop(0))

    def close(self) -> None:
        """Do nothing: the estimators belong to the caller."""
