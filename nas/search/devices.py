"""The devices of a search: a target each, on this machine or on a board.

All latencies are objectives of one study: ``latency_ms`` of the first device, ``latency_ms_2`` and so on of the others.
The Pareto front over all of them contains the front of each device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from latency_db.core.target import Target
from latency_db.remote.profiler import board_opener, measuring_on, open_board
from latency_db.runtimes import RUNTIMES, open_profiler, opened_by
from nas.core.estimate import Estimate, Objective
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.estimators.latency import Latency
from nas.estimators.shared import SharedEvaluators
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

ON = " on "
"""Between target and board in the text of a device."""


@dataclass(frozen=True)
class Device:
    """A device that latency is measured on.

    Args:
        target: The target.
        on: Board (``ssh:user@host``, ``ray:RESOURCE``); None for this machine.
        number: Position among the devices of the search, from 1.
    """

    target: Target
    on: str | None
    number: int

    @classmethod
    def parse(cls, text: str, number: int) -> Device:
        """Parse ``TARGET`` or ``TARGET on BOARD``. Raises InputError for a target that does not parse."""
        target, _, on = text.partition(ON)
        return cls(Target.parse(target), on or None, number)

    def __str__(self) -> str:
        return f"{self.target}{ON}{self.on}" if self.on else str(self.target)

    @property
    def name(self) -> str:
        """Name of the device's folder in a run."""
        return re.sub(r"[^A-Za-z0-9.@-]+", "-", f"{self.number} {self}").strip("-").lower()

    @property
    def estimate(self) -> str:
        """Name of its latency in the study."""
        return Latency.name if self.number == 1 else f"{Latency.name}_{self.number}"

    @property
    def objective(self) -> Objective:
        """Its latency as an objective."""
        return Objective(self.estimate, "min", Latency.unit)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Have profilers measure on this device while the context lasts, whatever the search's other boards are."""
        with opened_by(None) if self.on is None else measuring_on(self.on):
            yield

    def fingerprint(self) -> str:
        """Return the fingerprint of the device, to be called inside :meth:`measured`."""
        with open_profiler(self.target) as profiler:
            return profiler.fingerprint().id


class DeviceLatency(Estimator):
    """The latency on one of several devices, with a name and a role of its own.

    Args:
        latency: The latency on the device.
        device: The device.
    """

    def __init__(self, latency: Estimator, device: Device) -> None:
        super().__init__(latency.context)
        self._latency = latency
        self.name, self.unit, self.direction = device.estimate, latency.unit, "min"  # type: ignore[misc]
        self.rank, self.role = latency.rank, f"{latency.role}-{device.number}"  # type: ignore[misc]

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the latency from the database, else measure it."""
        return replace(self._latency(architecture), name=self.name)

    def close(self) -> None:
        """End the profiler's processes."""
        self._latency.close()


@contextmanager
def open_device_latencies(devices: Sequence[Device], context: Context) -> Iterator[list[Estimator]]:
    """Open the latencies on the devices after the first; each board stays connected while the context lasts."""
    with ExitStack() as stack:
        made: list[Estimator] = []
        for device in devices[1:]:
            own = replace(context, target=device.target, compared_targets=(device.target,), shared=SharedEvaluators())
            opener = None if device.on is None else board_opener(stack.enter_context(open_board(device.on)))
            with opened_by(opener):
                made.append(DeviceLatency(ESTIMATORS[Latency.registry_name](own), device))
            stack.callback(made[-1].close)
        yield made


def check_devices(devices: Sequence[Device]) -> None:
    """Raise InputError for a device that is given twice, or cannot be measured on."""
    if len({str(device) for device in devices}) < len(devices):
        raise InputError(f"devices {', '.join(map(str, devices))}", "each once")
    for device in devices[1:]:
        if not RUNTIMES[device.target.runtime].measures:
            raise InputError(f"{device} as one of several devices", "a runtime that measures")
        with device.measured():
            open_profiler(device.target).close()
