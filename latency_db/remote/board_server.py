"""The process on a board: opens profilers, measures models that were sent, reports the state of the board.

It is started as ``python -m latency_db.remote.board_server FOLDER`` from the archive of the code and needs numpy and
the runtime only. Requests and answers are JSON lines over its standard input and output; it ends when its input ends.
An answer is ``{"ok": …}``, or ``{"error": "one line", "kind": "InputError" or "RuntimeFailure"}``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from latency_db.core.device import DeviceFingerprint
from latency_db.core.profiler import Network, Profiler, Protocol, RuntimeFailure, Workload
from latency_db.core.runtime_registry import RUNTIMES
from latency_db.core.system_state import read_state
from latency_db.core.target import Target
from latency_db.runtimes import open_profiler
from search_spaces.errors import InputError


class BoardServer:
    """Answers requests; profilers stay open between them, and with them their reference models."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profilers: dict[str, Profiler] = {}

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return fingerprint, state and runtimes of the board; a runtime has a version or a reason why not."""
        state = read_state()
        runtimes = {}
        for name in RUNTIMES:
            try:
                runtime = RUNTIMES[name]
            except ModuleNotFoundError:  # recorded tables need SQLAlchemy, and measure nothing
                continue
            reason = runtime.available() if runtime.measures else None
            if runtime.measures:
                runtimes[name] = {"reason": reason} if reason else {"version": runtime.version()}
        return {
            "fingerprint": DeviceFingerprint.read().to_dict(),
            "state": state.to_dict(),
            "advice": state.advice(),
            "runtimes": runtimes,
            "python": platform.python_version(),
            "free_mib": shutil.disk_usage(self._folder).free >> 20,
        }

    def open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Open the profiler of a target; return its runtime's version and the board's fingerprint.

        Raises:
            InputError: The runtime cannot be used on the board, or lacks the precision or the device.
        """
        profiler = self._profiler(request)
        return {"version": profiler.version(), "fingerprint": profiler.fingerprint().to_dict()}

    def has(self, request: Mapping[str, Any]) -> bool:
        """Return whether a model with this SHA-256 is there; its time of use is renewed.

        Raises:
            InputError: The text is no SHA-256.
        """
        path = self._model(request["sha256"])
        if path.is_file():
            os.utime(path)
        return path.is_file()

    def measure(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Measure a model that was sent, on a target that was opened; return the measurement, JSON-ready.

        Raises:
            InputError: The model is not there, or the runtime refuses it.
            RuntimeFailure: The run failed.
        """
        network = Network.from_dict(request["network"]) if request["network"] else None
        model = self._model(request["sha256"]) if request["sha256"] else Path()
        workload = Workload(request["workload"], model, network, converted=True)
        return self._profiler(request).measure(workload).to_dict()

    def release(self, request: Mapping[str, Any]) -> bool:
        """Close the profiler of a target, and with it the process of its reference model."""
        profiler = self._profilers.pop(_name(request), None)
        if profiler is not None:
            profiler.close()
        return profiler is not None

    def close(self) -> None:
        """Close all profilers."""
        for profiler in self._profilers.values():
            profiler.close()

    def _model(self, sha256: str) -> Path:
        if len(sha256) != 64 or not sha256.isalnum():
            raise InputError(f"model {sha256!r}", "64 hex digits")
        return self._folder / "models" / f"{sha256}.onnx"

    def _profiler(self, request: Mapping[str, Any]) -> Profiler:
        name = _name(request)
        if name not in self._profilers:
            opened = open_profiler(Target.parse(request["target"]), Protocol(**request["protocol"]))
            self._profilers[name] = opened
        return self._profilers[name]


def _name(request: Mapping[str, Any]) -> str:
    return json.dumps([request["target"], request["protocol"]], sort_keys=True)


def main() -> None:
    """Answer requests from the standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints must not get between the answers
    server = BoardServer(Path(sys.argv[1]))
    actions: dict[str, Callable[[Mapping[str, Any]], object]] = {
        action.__name__: action for action in (server.check, server.open, server.has, server.measure, server.release)
    }
    for line in sys.stdin:
        try:
            answers.write(json.dumps(answer(actions, json.loads(line))) + "\n")
            answers.flush()
        except BrokenPipeError:
            break
    server.close()


def answer(actions: Mapping[str, Callable[[Mapping[str, Any]], object]], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one request: ``{"ok": …}``, or ``{"error": "one line", "kind": …}``."""
    try:
        return {"ok": actions[request["do"]](request)}
    except RuntimeFailure as error:
        return {"error": str(error), "kind": "RuntimeFailure"}
    except InputError as error:
        return {"error": str(error), "kind": "InputError"}
    except Exception as error:  # noqa: BLE001 (whatever a runtime raises must reach the client as text)
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:500], "kind": "RuntimeFailure"}


if __name__ == "__main__":
    main()
