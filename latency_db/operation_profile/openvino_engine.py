"""Operations of OpenVINO on the CPU, by its performance counters (``PERF_COUNT``), in whole microseconds.

A counter is the mean m_n over all n runs so far. The mean over the runs a + 1 to b is ``(b m_b - a m_a) / (b - a)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency_db.operation_profile.self_timed import BLOCK, ProfiledRun
from latency_db.runtimes import openvino as runtime

WARM = 2 * BLOCK
"""Runs of the warm-up."""


def prepare() -> None:
    """Import what the engine needs."""
    runtime.prepare()


def engine(request: Mapping[str, Any]) -> tuple[ProfiledRun, dict[str, Any]]:
    """Compile ``request["model"]`` twice, without and with counters.

    Raises:
        InputError: OpenVINO refuses the model, or computes it in another precision.
    """
    return OpenVinoRun(request), {"runtime": "openvino"}


class OpenVinoRun(ProfiledRun):
    """A network in two inference requests of OpenVINO."""

    means = True

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request, self.threads = dict(request), int(request["threads"])
        self._plain, self._counted = (runtime.infer_request(request, profile) for profile in (False, True))
        self._runs = 0
        self._early: dict[tuple[str, str], float] = {}

    def __call__(self) -> object:
        return self._plain.infer(share_outputs=True)

    def profiled(self) -> None:
        """Run the network once."""
        self._counted.infer(share_outputs=True)
        self._runs += 1
        if self._runs == WARM:
            self._early = self._counters()

    def _counters(self) -> dict[tuple[str, str], float]:
        """Return the mean ms of every operation that is run, by name and kind."""
        return {
            (str(o.node_name), str(o.node_type)): o.real_time.total_seconds() * 1e3
            for o in self._counted.profiling_info
            if str(o.status) == "Status.EXECUTED"
        }

    def another(self, model: Path, image_size: int) -> ProfiledRun:
        """Load another model with the same settings, in float32."""
        return OpenVinoRun({**self._request, "model": str(model), "image_size": image_size, "precision": "fp32"})

    def operations(self, skip: int) -> list[dict[str, Any]]:
        """Return the operations, without the first :data:`WARM` runs."""
        late, n = self._counters(), self._runs
        means = {key: (n * ms - WARM * self._early.get(key, ms)) / (n - WARM) for key, ms in late.items()}
        return [{"name": name, "kind": kind, "ms": max(0.0, ms)} for (name, kind), ms in means.items()]
