"""The parent's end of a measuring process."""

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
# The libraries that a worker imports start threads of their own unless told not to, and these would share its CPU.
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}


class TimingClient:
    """One process with one engine (``module:function``, see :mod:`latency_db.timing.timing_server`) and one model.

    It ends with :meth:`close`, with this object, at the exit of this process and, since its input then ends, with the
    death of this process.
    """

    def __init__(self, engine: str, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        # A file and not a pipe: nobody reads it while the worker runs, and a full pipe would stop it.
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "latency_db.timing.timing_server", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env={**os.environ, **QUIET, "PYTHONPATH": path},
        )
        self._finalizer = weakref.finalize(self, _stop, self._process, self._messages)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once it was closed or has died."""
        return self._finalizer.alive and self._process.poll() is None

    def load(self, model: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """Has the engine load a model; InputError with the engine's own words where it cannot."""
        answer = self._exchange("load", {**request, "model": str(model.resolve())})
        if "error" in answer:
            raise InputError(
                f"cannot load {model.name}: {answer['error']}", hint="export it again, or choose another target"
            )
        return dict(answer["ok"])

    def ask(self, do: str, request: Mapping[str, Any]) -> Any:
        """The answer to one request of the loaded model; RuntimeFailure where it fails, dies or does not answer in
        time."""
        answer = self._exchange(do, request)
        if "error" in answer:
            raise RuntimeFailure(f"the run of a model failed: {answer['error']}")
        return answer["ok"]

    def _exchange(self, do: str, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        if process.stdin is None or process.stdout is None or not self.alive:
            raise RuntimeFailure(f"the measuring process is gone{self._last_words()}")
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
            raise RuntimeFailure(f"the measuring process {why}{self._last_words()}")
        return dict(json.loads(line))

    def _last_words(self) -> str:
        if self._messages.closed:
            return ""
        self._messages.seek(0)
        lines = [line for line in self._messages.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; it last said: {lines[-1].strip()[:300]}" if lines else ""

    def close(self) -> None:
        """Ends the process and waits for it; it may be called twice."""
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
            process.stdin.close()  # the worker leaves its loop
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
