"""The timing server: a process that loads one model with one engine and times blocks of runs.

Requests and answers are JSON lines over its standard input and output. The process ends when its input ends.

It is started as ``python -m latency_db.timing.timing_server MODULE:FUNCTION`` by
:class:`latency_db.timing.timing_client.TimingClient`. The function is the engine: it takes the ``load`` request and
returns (a function that runs the model once, a JSON-ready description). ``do`` of a request is ``load``, ``pin``,
``warm``, ``block`` or ``time``. An answer is ``{"ok": …}`` or ``{"error": "one line"}``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

try:
    import resource
except ImportError:  # Windows: no count of context switches; samples are then judged by wall against CPU time
    resource = None  # type: ignore[assignment]


LONG_S = 0.1
"""A run of so many seconds warms itself up: it has touched all of its memory by its end."""


class Scheduling:
    """Reads involuntary context switches of this process, and its wait for a CPU in ms (None if not reported)."""

    def __init__(self) -> None:
        try:
            self._file: int | None = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            self._file = None

    def read(self) -> tuple[int, float | None]:
        """Return switches and wait in ms since the process started."""
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0
        # proc_pid_schedstat: "ns on the CPU, ns waiting for it, slices", of the main thread, which is the one that
        # runs the model.
        return switches, None if self._file is None else int(os.pread(self._file, 128, 0).split()[1]) / 1e6


class TimingServer:
    """Answers requests about one loaded model."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._scheduling = Scheduling()
        self._run: Callable[[], object] = lambda: None

    def prepare(self) -> None:
        """Import what the engine needs, by its module's ``prepare``; a failure is reported at loading."""
        module = import_module(self._engine.split(":")[0])
        with contextlib.suppress(Exception):
            getattr(module, "prepare", lambda: None)()

    def pin(self, request: Mapping[str, Any]) -> None:
        """Pin this process and its future threads to ``cpus``, where the system supports it."""
        if request["cpus"] and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, request["cpus"])

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Load the model; return the engine's description of it."""
        self.pin(request)
        module, function = self._engine.split(":")
        self._run, info = getattr(import_module(module), function)(request)
        self._run()
        gc.collect()
        gc.freeze()
        gc.disable()
        return dict(info)

    def warm(self, request: Mapping[str, Any]) -> list[float]:
        """Run for ``seconds``, and at least ``runs`` times unless a run takes over :data:`LONG_S`.

        Returns the number of runs and their seconds.
        """
        start = time.perf_counter()
        runs = 0
        while True:
            self._run()
            runs += 1
            spent = time.perf_counter() - start
            if spent >= request["seconds"] and (runs >= request["runs"] or spent > LONG_S * runs):
                return [runs, spent]

    def block(self, request: Mapping[str, Any]) -> list[tuple[float, float, int, float | None]]:
        """Return ``runs`` samples (wall ms, process CPU ms, involuntary switches, wait in ms).

        ``settle`` runs before them are not recorded.
        """
        for _ in range(request["settle"]):
            self._run()
        return [self._sample() for _ in range(request["runs"])]

    def time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of an engine that times itself (a GPU's, see :mod:`latency_db.gpu.protocol`)."""
        times: Callable[[Mapping[str, Any]], dict[str, Any]] = self._run.time  # type: ignore[attr-defined]
        return times(request)

    def _sample(self) -> tuple[float, float, int, float | None]:
        switches, delay = self._scheduling.read()
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        self._run()
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        switches_after, delay_after = self._scheduling.read()
        waited = None if delay is None or delay_after is None else delay_after - delay
        return wall / 1e6, cpu / 1e6, switches_after - switches, waited


def main() -> None:
    """Answer requests from the standard input until it ends."""
    # Ctrl-C reaches the whole process group; the client decides and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints must not get between the answers
    server = TimingServer(sys.argv[1])
    known = (server.load, server.pin, server.warm, server.block, server.time)
    actions: dict[str, Callable[[Mapping[str, Any]], object]] = {action.__name__: action for action in known}
    server.prepare()
    for line in sys.stdin:
        try:
            answers.write(json.dumps(answer(actions, json.loads(line))) + "\n")
            answers.flush()
        except BrokenPipeError:
            return


def answer(actions: Mapping[str, Callable[[Mapping[str, Any]], object]], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one request: ``{"ok": …}`` or ``{"error": "one line"}``."""
    try:
        return {"ok": actions[request["do"]](request)}
    except Exception as error:  # noqa: BLE001 (whatever the engine raises must reach the client as text)
        text = (
            str(error)
            if any(kind.__name__ == "InputError" for kind in type(error).__mro__)
            else f"{type(error).__name__}: {error}"
        )
        return {"error": " ".join(text.split())[:500]}


if __name__ == "__main__":
    main()
