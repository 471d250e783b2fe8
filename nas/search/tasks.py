"""Tasks of a candidate: the estimators of one role, run step by step wherever the role's hardware is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nas.core.estimate import Estimate
from nas.estimators.base import Estimator
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

DRIVER, DEVICE, COMPUTE = "driver", "device", "compute"
"""Roles of estimators (:attr:`nas.estimators.base.Estimator.role`)."""


@dataclass(frozen=True)
class Task:
    """Estimators of one candidate that run on the same hardware, one after the other.

    Args:
        trial: Number of the trial.
        role: Role of the estimators.
        names: Names of the estimates, in their order.
        point: The point of the search.
    """

    trial: int
    role: str
    names: tuple[str, ...]
    point: Architecture


@dataclass(frozen=True)
class Step:
    """The result of one step of a task: one estimate, early or final, or an error.

    Args:
        task: The task.
        number: Position of the step in its task.
        estimate: The estimate; None after an error.
        seconds: Wall time of the step.
        error: Type and first line of the error; empty without one.
    """

    task: Task
    number: int
    estimate: Estimate | None = None
    seconds: float = 0.0
    error: str = ""


class TaskRunner:
    """Runs the steps of tasks, one task at a time.

    A step of a task that is not under way begins the task anew and repeats the steps before it: so a task whose worker
    was lost continues on another.
    """

    def __init__(self, estimators: Sequence[Estimator]) -> None:
        self._estimators: Mapping[str, Estimator] = {e.name: e for e in estimators}
        self._task: Task | None = None
        self._next = 0
        self._steps: Iterator[Estimate] = iter(())

    def step(self, task: Task, number: int) -> Step:
        """Run step ``number`` of a task. Errors of the candidate are part of the result."""
        start = time.monotonic()
        try:
            if task != self._task or number < self._next:
                self._task, self._next, self._steps = task, 0, self._run(task)
            while self._next <= number:
                estimate = next(self._steps, None)
                self._next += 1
        except Exception as error:  # noqa: BLE001 - a candidate's error is recorded with it, and the search continues
            self.release(task)
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            return Step(task, number, error=f"{kind}{error}".splitlines()[0])
        seconds = round(time.monotonic() - start, 4)
        return Step(task, number, estimate, seconds, "" if estimate else f"no final estimate of {task.names[-1]}")

    def release(self, task: Task) -> None:
        """Drop what a task that ends still holds."""
        if task == self._task:
            self._task, self._steps = None, iter(())

    def _run(self, task: Task) -> Iterator[Estimate]:
        for name in task.names:
            yield from self._estimators[name].rungs(task.point)
