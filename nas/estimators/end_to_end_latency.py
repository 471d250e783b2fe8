"""Latency from a decoded image to detections, measured on the target."""

from __future__ import annotations

from functools import cached_property

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import SEARCHING, Profiler, Protocol
from latency_db.runtimes import is_redirected
from nas.core.estimate import Estimate
from nas.estimators.base import Context, needed
from nas.estimators.latency import Latency
from nas.profiling.end_to_end import BOARDS, EndToEndProfiler
from nas.profiling.scene import Scene
from search_spaces.errors import InputError


class EndToEndLatency(Latency):
    """Median milliseconds of letterboxing, network, box decoding and suppression on images of the data set.

    Suppression gets the boxes that a trained detector has on these images (:mod:`nas.profiling.scene`). The database
    keeps the time of each step with the measurement.
    """

    name, registry_name = "latency_end_to_end_ms", "latency-end-to-end"

    def __init__(self, context: Context, protocol: Protocol = SEARCHING) -> None:
        needed(context.data, self.registry_name, "data set", "give one: --data")
        super().__init__(context, protocol)

    @cached_property
    def _scene(self) -> Scene:
        assert self.context.data is not None
        return Scene.of(self.context.data.val)

    def open(self, protocol: Protocol) -> Profiler:
        """Return the profiler of the whole way on the context's target.

        Raises:
            InputError: The target is on another machine.
        """
        assert self.context.target is not None
        if is_redirected():
            raise InputError(f"{self.registry_name} on another machine", "a target of this one", BOARDS)
        return EndToEndProfiler(self.context.target, self._scene, protocol)

    def figure(self, m: Measurement) -> Estimate:
        """Return the end-to-end latency of a measurement."""
        return Estimate(self.name, m.median_ms, self.unit, m.low_ms, m.high_ms, m.source, str(m.target))
