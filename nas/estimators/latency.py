"""Latency, measured on the target and kept in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import FINALIST, SEARCHING, Protocol
from latency_db.gpu import nvml
from latency_db.runtimes import open_profiler
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

if TYPE_CHECKING:
    pass


class Latency(Estimator):
    """Median milliseconds of the deployed network on the context's target, non-maximum suppression not included.

    Figures are brought to the machine's usual speed by the anchor measured beside them
    (``Measurement.at_nominal_speed``), so that candidates timed minutes apart can be compared; the database keeps what
    was measured.
    """

    name, unit, direction, rank, called = "latency_ms", "ms", "min", 1, "latency"

    def __init__(self, context: Context, protocol: Protocol = SEARCHING) -> None:
        super().__init__(context)
        needed(context.target, self.called, "target", "name one: --target onnxruntime:fp32")
        needed(context.database, self.called, "latency database", "name one: --latency-db FILE")
        assert context.target is not None
        self.profiler = open_profiler(context.target, protocol)

    def __call__(self, architecture: Architecture) -> Estimate:
        """From the database, else measured now."""
        return self._estimate(self._measure(architecture, fresh=False))

    def again(self, architecture: Architecture) -> Estimate:
        """Measured anew in fresh processes, to the tighter interval asked of what is reported."""
        assert self.context.target is not None
        with open_profiler(self.context.target, FINALIST) as profiler:
            finalist, self.profiler = self.profiler, profiler
            try:
                return self._estimate(self._measure(architecture, fresh=True))
            finally:
                self.profiler = finalist

    def _measure(self, architecture: Architecture, fresh: bool) -> Measurement:
        assert self.context.database is not None
        return self.context.database.measure_cached(self.profiler, self.context.workload(architecture), fresh)

    def _estimate(self, measured: Measurement) -> Estimate:
        return self.figure(self._at_usual_speed(measured))

    def figure(self, m: Measurement) -> Estimate:
        """What is taken from a measurement."""
        return Estimate(self.name, m.median_ms, self.unit, m.low_ms, m.high_ms, m.source, str(m.target))

    def _at_usual_speed(self, measured: Measurement) -> Measurement:
        usual = self._usual_anchor_ms(measured)
        return measured if usual is None or measured.reference_ms is None else measured.at_nominal_speed(usual)

    def _usual_anchor_ms(self, measured: Measurement) -> float | None:
        """Of the target and those beside it: what is on one front is brought to one speed, looked up once."""
        assert self.context.database is not None
        database, shared = self.context.database, self.context.shared
        targets = sorted({self.profiler.target, *self.context.beside}, key=str)
        name = f"usual anchor of {', '.join(map(str, targets))}"
        if shared.get(name) is None:
            own = self.profiler.nominal_reference_ms()
            shared[name] = own or database.nominal_reference_ms(
                *(self.profiler.key(measured.workload, target) for target in targets)
            )
        usual: float | None = shared[name]
        return usual

    def close(self) -> None:
        self.profiler.close()


class TailLatency(Latency):
    """The 99th percentile of the same runs, in ms: what a deadline has to allow for. A sample quantile of some
    hundred runs, given without an interval."""

    name, called = "latency_p99_ms", "latency-p99"

    def figure(self, m: Measurement) -> Estimate:
        return Estimate(self.name, m.p99_ms, self.unit, source=m.source, target=str(m.target))


class Throughput(Latency):
    """Images per second, one batch after the other, at the target's batch (``onnxruntime:fp32@320/b8``)."""

    name, unit, direction, called = "throughput", "img/s", "max", "throughput"

    def figure(self, m: Measurement) -> Estimate:
        low, value, high = (1e3 * m.target.batch / ms for ms in (m.high_ms, m.median_ms, m.low_ms))
        return Estimate(self.name, value, self.unit, low, high, m.source, str(m.target))


class Energy(Latency):
    """Millijoules per image: the GPU's power at the two ends of the timed runs, their mean, times the latency. The
    whole board's, idle power included."""

    name, unit, called = "energy_mj", "mj", "energy"

    @classmethod
    def available(cls) -> str | None:
        return nvml.missing()

    def figure(self, m: Measurement) -> Estimate:
        gpu = m.environment.get("gpu") or {}
        powers = [state["power_w"] for name in ("before", "after") if (state := gpu.get(name)) and state.get("power_w")]
        if not powers:
            raise InputError(
                f"{m.target} does not report its power",
                "a GPU whose power NVML reads",
                "leave energy out, or pip install nvidia-ml-py",
            )
        watts = sum(powers) / len(powers)
        low, value, high = (watts * ms / m.target.batch for ms in (m.low_ms, m.median_ms, m.high_ms))
        return Estimate(self.name, value, self.unit, low, high, m.source, str(m.target))
