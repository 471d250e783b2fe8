"""What the profilers of runtimes that compute on the CPU alone share."""

from __future__ import annotations

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol, Workload
from latency_db.core.target import Target
from latency_db.timing.cpu_timer import CpuTimer
from search_spaces.errors import InputError


class CpuProfiler(Profiler):
    """Times models by the function ``engine`` of the subclass's module.

    Raises:
        InputError: The target's device is not the CPU.
    """

    def __init__(self, target: Target, protocol: Protocol = SEARCHING) -> None:
        super().__init__(target, protocol)
        if target.device != "cpu":
            raise InputError(f"device {target.device} of {target}", "cpu")
        self._timer = CpuTimer(f"{type(self).__module__}:engine", target, protocol)

    def measure(self, workload: Workload) -> Measurement:
        """Measure the latency of a workload by the CPU protocol.

        Raises:
            InputError: The runtime cannot convert or load the model.
            RuntimeFailure: A run failed.
        """
        return self._timer.measure(workload, self.version(), self.fingerprint())

    def close(self) -> None:
        """End the processes of the timer; may be called twice."""
        self._timer.close()
