"""The client side of a timing server: starts the process, sends it requests, ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from latency_db.core.profiler import RuntimeFailure
from search_spaces.errors import InputError

TIMEOUT_S = 300.0
# Libraries start threads of their own by default, which would share the CPU of the timed model.
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}


class TimingClient:
    """One timing server: a process with one engine (``module:function``) and one model.

    The process ends with :meth:`close`, with this object, at the exit of this process, and when this process dies,
    since its input then ends. See :mod:`latency_db.timing.timing_server`.
    """

    def __init__(self, engine: str, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # A file, not a pipe: nobody reads it while the server runs, and a full pipe would block the server.
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "latency_db.timing.timing_server", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env={**os.environ, **SINGLE_THREADED, "PYTHONPATH": path},
        )
        self._finalizer = weakref.finalize(self, _stop, self._process, self._messages)

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs; False after :meth:`close` and after its death."""
        return self._finalizer.alive and self._process.poll() is None

    def load(self, model: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """Load a model; return the engine's description of it.

        Raises:
            InputError: The engine refuses the model; the text is the engine's.
            RuntimeFailure: The process died or did not answer in time.
        """
        answer = self._exchange("load", {**request, "model": str(model.resolve())})
        if "error" in answer:
            raise InputError(
                f"cannot load {model.name}: {answer['error']}", hint="export it again, or choose another target"
            )
        return dict(answer["ok"])

    def ask(self, do: str, request: Mapping[str, Any]) -> Any:
        """Return the answer to one request about the loaded model.

        Raises:
            RuntimeFailure: The run failed, the process died, or it did not answer in time.
        """
        answer = self._exchange(do, request)
        if "error" in answer:
            raise RuntimeFailure(f"the run of a model failed: {answer['error']}")
        return answer["ok"]

    def _exchange(self, do: str, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        if process.stdin is None or process.stdout is None or not self.alive:
            raise RuntimeFailure(f"the timing server is not running{self._last_message()}")
        timer = threading.Timer(self._timeout_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line.endswith("\n"):
            status = process.wait()
            why = (
                f"did not answer within {self._timeout_s:g} s"
                if late
                else f"died with status {status} while asked to {do}"
            )
            raise RuntimeFailure(f"the timing server {why}{self._last_message()}")
        return dict(json.loads(line))

    def _last_message(self) -> str:
        if self._messages.closed:
            return ""
        self._messages.seek(0)
        lines = [line for line in self._messages.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; its last message: {lines[-1].strip()[:300]}" if lines else ""

    def close(self) -> None:
        """End the process and wait for it; may be called twice."""
        self._finalizer()

    def __enter__(self) -> TimingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _stop(process: subprocess.Popen[str], messages: IO[bytes]) -> None:
    try:
        if process.stdin is not None:
            process.stdin.close()  # the server leaves its loop
    except BrokenPipeError:
        pass  # it has died before
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
    messages.close()
