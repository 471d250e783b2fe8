"""A profiler whose measurements are made on a board."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from latency_db.conversion.precision import converted
from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import LatencyKey, Measurement, now
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, RuntimeFailure, Workload, versioned
from latency_db.core.quantization_scheme import QuantizationScheme
from latency_db.core.runtime_registry import RUNTIMES
from latency_db.core.target import Target
from latency_db.remote.board import Board
from latency_db.remote.ray_board import PREFIX, RayBoard
from latency_db.runtimes import opened_by
from search_spaces.errors import InputError
from search_spaces.text import brief


class RemoteProfiler(Profiler):
    """Measures workloads of one target on a board.

    Models are converted (fp16, int8) on this machine, with the quantization scheme for the board's CPU. Keys and
    measurements carry the fingerprint and the runtime's version of the board.

    Raises:
        InputError: The board cannot be used, lacks the runtime, or the runtime does not compute in the precision.
    """

    runtime = "remote"
    precisions = ()

    def __init__(self, board: Board | RayBoard, target: Target, protocol: Protocol = SEARCHING) -> None:
        # Not super().__init__(): it checks this machine; the board checks itself.
        self.target = target
        self.protocol = protocol
        self._board = board
        if not RUNTIMES[target.runtime].measures:
            raise InputError(f"{target} on {board}", "a runtime that measures")
        self._request = {"target": str(target), "protocol": asdict(protocol)}
        opened = board.ask("open", self._request)
        self._version = str(opened["version"])
        self._device = DeviceFingerprint.from_dict(opened["fingerprint"])

    @classmethod
    def available(cls) -> str | None:
        """Return None: the board checks whether a runtime can be used there when a profiler is made."""
        return None

    @classmethod
    def version(cls) -> str:
        """Return ``unknown``, since each board has its own version; :meth:`key` has the board's."""
        return "unknown"

    def fingerprint(self) -> DeviceFingerprint:
        """Return the fingerprint of the board."""
        return self._device

    def key(self, workload: str, beside: Target | None = None) -> LatencyKey:
        """Return the database key of a workload, with the runtime's version and the fingerprint of the board."""
        target = beside or self.target
        return LatencyKey(workload, str(target), versioned(self._version, self._scheme(target)), self._device.id)

    def measure(self, workload: Workload) -> Measurement:
        """Measure one workload on the board; its model is sent if the board lacks it.

        The environment of the measurement holds the address of the board under ``measured_on``.

        Raises:
            InputError: The model cannot be converted, the board refuses it, or the board measured another one.
            RuntimeFailure: The run failed, or the connection stayed lost.
        """
        network = workload.network.to_dict() if workload.network else None
        request = {**self._request, "workload": workload.key, "network": network, "sha256": ""}
        if not RUNTIMES[self.target.runtime].reads_onnx:
            measured = self._ask(request)
        else:
            with converted(workload, self.target.precision, self._scheme(self.target)) as ready:
                request["sha256"] = self._board.send_model(ready.path())
                measured = self._ask(request)
        if (measured.workload, measured.target) != (workload.key, self.target):
            raise InputError(f"{self._board} measured {measured.workload} on {measured.target}", str(self.target))
        return replace(measured, environment={**measured.environment, "measured_on": str(self._board)})

    def _ask(self, request: Mapping[str, Any]) -> Measurement:
        """Return the measurement; the time is this machine's, since boards without a battery have a wrong clock."""
        answer = self._board.ask("measure", request)
        if not isinstance(answer, Mapping):
            raise RuntimeFailure(f"{self._board} gave {brief(answer)}, which is no measurement")
        return Measurement.from_dict({**answer, "time": now()})

    def _scheme(self, target: Target) -> QuantizationScheme | None:
        if target.precision != "int8":
            return None
        return RUNTIMES[target.runtime].quantization_scheme(target, self._device)

    def close(self) -> None:
        """Close the profiler on the board, and with it the process of its reference model; may be called twice."""
        self._board.release(self._request)


@contextmanager
def measuring_on(address: str | None) -> Iterator[Board | RayBoard | None]:
    """Have :func:`latency_db.runtimes.open_profiler` measure on a board while the context lasts; None: on this machine.

    Raises:
        InputError: The address is none of a board, or the board cannot be used.
    """
    if address is None:
        yield None
        return
    with open_board(address) as board, opened_by(board_opener(board)):
        yield board


@contextmanager
def open_board(address: str) -> Iterator[Board | RayBoard]:
    """Open the board at an address (``ssh:…``, ``ray:RESOURCE``).

    Raises:
        InputError: The address is none of a board, or the board cannot be used.
    """
    with RayBoard(address) if address.startswith(PREFIX) else Board(address) as board:
        board.facts()
        yield board


def board_opener(board: Board | RayBoard) -> Callable[[Target, Protocol | None], Profiler]:
    """Return what opens profilers that measure on a board, for :func:`latency_db.runtimes.opened_by`."""
    return lambda target, protocol: RemoteProfiler(board, target, protocol or SEARCHING)
