"""Slots that run steps concurrently: what the executors of several workers have in common.

Each slot is a thread that waits for its worker: a process, an actor, or a device that is measured from here. A task
keeps its slot from its first step to its release. A step whose worker was lost runs again on another slot.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from nas.estimators.base import Estimator
from nas.search.tasks import COMPUTE, Step, Task, TaskRunner
from search_spaces.errors import InputError

LOG = logging.getLogger(__name__)

LOSSES = 5
"""Workers that one task may lose before its candidate counts as failed: it may be what kills them."""
END_S = 30.0
"""Seconds for which a step under way is waited for at the end, such as a measurement, whose device is locked."""
AGAIN_S = 2.0
"""Seconds between two tries to open a worker that was lost several times before it was ready."""
AHEAD = 1
"""Candidates beyond the slots, so that a slot that becomes free has its next task at once."""


class WorkerLost(Exception):
    """A worker ended without an answer."""


class Worker(ABC):
    """Runs steps of tasks somewhere."""

    @abstractmethod
    def step(self, task: Task, number: int) -> Step:
        """Run one step and wait for it. Raises WorkerLost if the worker ends."""

    @abstractmethod
    def close(self) -> None:
        """End the worker."""


class RunnerHere(Worker):
    """Runs steps in the slot's own thread.

    Args:
        estimators: Estimators that no other thread uses.
    """

    def __init__(self, estimators: Sequence[Estimator]) -> None:
        self._runner = TaskRunner(estimators)

    def step(self, task: Task, number: int) -> Step:
        """Run one step."""
        return self._runner.step(task, number)

    def close(self) -> None:
        """Do nothing: the estimators belong to the caller."""


class PoolExecutor:
    """An executor of slots, each with a worker of one role.

    Args:
        device: Estimators of the devices, which are measured from this process, each device one at a time.
        open_worker: Opens a worker for accuracies; its argument is the slot's number.
        workers: Number of these.
    """

    def __init__(self, device: Sequence[Estimator], open_worker: Callable[[int], Worker], workers: int) -> None:
        self._open_worker = open_worker
        self._changed = threading.Condition()
        self._waiting: list[tuple[Task, int]] = []
        self._holders: dict[Task, _Slot] = {}
        self._losses: Counter[Task] = Counter()
        self._results: queue.Queue[Step | BaseException | None] = queue.Queue()
        self._slots: list[_Slot] = []
        self._closed = False
        for role in dict.fromkeys(e.role for e in device):
            self._add(role, partial(RunnerHere, [e for e in device if e.role == role]))
        for _ in range(workers):
            self.add_worker()

    @property
    def capacity(self) -> int:
        """Slots whose worker is open, and one candidate more."""
        return sum(slot.ready for slot in self._slots) + AHEAD

    @property
    def workers(self) -> int:
        """Slots for accuracies, whose workers are open, being opened, or waited for."""
        return sum(slot.role == COMPUTE for slot in self._slots)

    def add_worker(self) -> None:
        """Add a slot for accuracies."""
        number = self.workers
        self._add(COMPUTE, lambda: self._open_worker(number))

    def _add(self, role: str, open_worker: Callable[[], Worker]) -> None:
        slot = _Slot(self, role, open_worker)
        self._slots.append(slot)
        slot.start()

    def submit(self, task: Task, number: int) -> None:
        """Have a step run on the slot that holds its task, or on the first that is free."""
        with self._changed:
            self._waiting.append((task, number))
            self._changed.notify_all()

    def release(self, task: Task) -> None:
        """Free the slot of a task that ends."""
        with self._changed:
            self._holders.pop(task, None)
            self._losses.pop(task, None)
            self._changed.notify_all()

    def result(self, timeout_s: float | None = None) -> Step | None:
        """Wait for the next result; None if a worker has become ready meanwhile.

        Raises InputError if a worker cannot be opened, queue.Empty after ``timeout_s`` seconds.
        """
        found = self._results.get(timeout=timeout_s)
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """End all workers; steps under way are lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for slot in self._slots:
            slot.end()
        for slot in self._slots:
            slot.join(END_S)

    def take(self, slot: _Slot) -> tuple[Task, int] | None:
        """Wait for a step for a slot; None at the end."""
        with self._changed:
            while not self._closed:
                for i, (task, _) in enumerate(self._waiting):
                    holder = self._holders.get(task)
                    busy = slot in self._holders.values()
                    if holder is slot or (holder is None and task.role == slot.role and not busy):
                        self._holders[task] = slot
                        return self._waiting.pop(i)
                self._changed.wait()
        return None

    def has_other(self, slot: _Slot) -> bool:
        """Return whether another slot of the same role has an open worker."""
        return any(other.ready and other.role == slot.role for other in self._slots if other is not slot)

    def give(self, result: Step | BaseException | None) -> None:
        """Take a result from a slot; None tells that its worker is ready."""
        self._results.put(result)

    def lost(self, task: Task, number: int) -> None:
        """Have another slot run a step whose worker was lost, before everything else."""
        with self._changed:
            if self._closed:
                return
            self._holders.pop(task, None)
            self._losses[task] += 1
            if self._losses[task] < LOSSES:
                self._waiting.insert(0, (task, number))
                self._changed.notify_all()
                return
        self.give(Step(task, number, error=f"{LOSSES} workers ended while they evaluated it"))

    @property
    def closed(self) -> bool:
        """Whether the end has begun."""
        return self._closed


class _Slot(threading.Thread):
    """A thread that waits for one worker; a lost worker is opened anew."""

    def __init__(self, pool: PoolExecutor, role: str, open_worker: Callable[[], Worker]) -> None:
        super().__init__(name=f"{role} slot", daemon=True)
        self.role = role
        self._pool, self._open_worker = pool, open_worker
        self._worker: Worker | None = None
        self._openings = 0

    def run(self) -> None:
        """Take steps and run them until the pool is closed."""
        while not self._pool.closed and (self._openings < LOSSES or self._pool.has_other(self)):
            time.sleep(AGAIN_S if self._openings >= LOSSES else 0)
            self._openings += 1
            try:
                worker = self._worker = self._open_worker()
                self._openings = 0
                self._pool.give(None)
                self._work(worker)
            except WorkerLost:
                continue
            except InputError as error:
                if not self._pool.has_other(self):
                    self._pool.give(error)
                    return
                LOG.warning("%s: %s; the search continues without it", self.name, error)
                return
            except BaseException as error:  # noqa: BLE001 - raised in the driver, which ends
                self._pool.give(error)
                return
            finally:
                self.end()
        if not self._pool.closed:
            self._pool.give(InputError(f"{LOSSES} workers ended before they were ready", hint="see their messages"))

    @property
    def ready(self) -> bool:
        """Whether the worker is open."""
        return self._worker is not None

    def _work(self, worker: Worker) -> None:
        while (job := self._pool.take(self)) is not None:
            try:
                step = worker.step(*job)
            except WorkerLost:
                self._pool.lost(*job)
                raise
            self._pool.give(step)

    def end(self) -> None:
        """End the worker, also from another thread."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
