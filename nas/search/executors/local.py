"""Accuracies in spawned processes of this machine, latencies in a thread of the search."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, Pipe

from nas.estimators.base import Estimator
from nas.search.executors.pool import PoolExecutor, Worker, WorkerLost
from nas.search.tasks import Step, Task, TaskRunner
from search_spaces.errors import InputError

OpenEstimators = Callable[[int], AbstractContextManager[Sequence[Estimator]]]
"""Opens the estimators of one worker from its number; a function of a module, or a partial of one, since it travels to
another process."""
CLOSE_S = 5.0
"""Seconds that a worker has to end by itself."""


class LocalExecutor(PoolExecutor):
    """An executor of ``workers`` processes; each opens its estimators once.

    Args:
        device: Estimators of the device, which are measured from this process, one at a time.
        open_estimators: Opens the estimators of one worker.
        workers: Number of processes, 1 or more.
    """

    def __init__(self, device: Sequence[Estimator], open_estimators: OpenEstimators, workers: int) -> None:
        if workers < 1:
            raise InputError(f"{workers} workers", "1 or more")
        super().__init__(device, lambda number: LocalWorker(open_estimators, number), workers)


class LocalWorker(Worker):
    """A spawned process that runs steps. Raises InputError if it cannot open its estimators.

    Args:
        open_estimators: Opens its estimators there.
        number: Number of the worker.
    """

    def __init__(self, open_estimators: OpenEstimators, number: int) -> None:
        # Not multiprocessing's spawn, which runs the main script again: a user's script need not be written for that.
        self._connection, other = Pipe()
        with other:
            command = [sys.executable, "-c", f"from {__name__} import serve; serve({other.fileno()})"]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[other.fileno()], env=environment
            )
        self._connection.send((open_estimators, number))
        opened = self._receive()
        if isinstance(opened, str):
            self.close()
            raise InputError(f"worker {number}: {opened}")

    def step(self, task: Task, number: int) -> Step:
        """Run one step in the process. Raises WorkerLost if it ends."""
        try:
            self._connection.send((task, number))
        except OSError:
            raise WorkerLost from None
        step = self._receive()
        assert isinstance(step, Step)
        return step

    def _receive(self) -> object:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise WorkerLost from None

    def close(self) -> None:
        """End the process: by a message, else by a signal. May be called from another thread, and twice."""
        with contextlib.suppress(OSError):
            self._connection.send(None)
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connection.close()


def serve(descriptor: int) -> None:
    """Answer steps over a socket until the driver closes it or ends; Ctrl-C is the driver's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError), contextlib.ExitStack() as stack:
        try:
            open_estimators, number = connection.recv()
            runner = TaskRunner(stack.enter_context(open_estimators(number)))
        except InputError as error:
            return connection.send(str(error))
        except (EOFError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - it reaches the user as one line
            return connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
        connection.send(None)
        while (job := connection.recv()) is not None:
            connection.send(runner.step(*job))


def threads_of(workers: int) -> int:
    """Return the threads of one of ``workers`` processes that share the cores of this machine."""
    return max(1, (os.cpu_count() or 1) // workers)
