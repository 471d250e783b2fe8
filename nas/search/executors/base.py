"""The interface of executors."""

from __future__ import annotations

from typing import Protocol

from nas.search.tasks import Step, Task


class Executor(Protocol):
    """Runs steps of tasks; :meth:`result` returns them in the order in which they end."""

    @property
    def capacity(self) -> int:
        """Candidates that are evaluated concurrently; it may change as machines join and leave."""

    def submit(self, task: Task, number: int) -> None:
        """Have step ``number`` of a task run. A task keeps its slot until it is released."""

    def release(self, task: Task) -> None:
        """Free the slot of a task that ends."""

    def result(self) -> Step | None:
        """Wait for the next result; None if the capacity has changed meanwhile.

        Raises InputError if no worker can be opened.
        """

    def close(self) -> None:
        """End workers; steps under way are lost."""
