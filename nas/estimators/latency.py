"""Latency and what follows from it (tail latency, throughput, energy), measured on the target and kept in the
database."""

from __future__ import annotations

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import FINALIST, SEARCHING, Profiler, Protocol
from latency_db.gpu import nvml
from latency_db.runtimes import open_profiler
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError


class Latency(Estimator):
    """Median milliseconds of the deployed network on the context's target, non-maximum suppression not included.

    Latencies are scaled to the machine's nominal speed by the reference model measured beside them
    (``Measurement.at_nominal_speed``), so that candidates timed minutes apart are comparable. The database keeps the
    raw measurements.
    """

    name, unit, direction, rank, registry_name = "latency_ms", "ms", "min", 1, "latency"
    role = "device"

    def __init__(self, context: Context, protocol: Protocol = SEARCHING) -> None:
        super().__init__(context)
        needed(context.target, self.registry_name, "target", "name one: --target onnxruntime:fp32")
        needed(context.database, self.registry_name, "latency database", "name one: --latency-db FILE")
        self.profiler = self.open(protocol)

    def open(self, protocol: Protocol) -> Profiler:
        """Return the profiler of the context's target."""
        assert self.context.target is not None
        return open_profiler(self.context.target, protocol)

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the latency from the database, else measure it."""
        return self._estimate(self._measure(architecture, fresh=False))

    def remeasure(self, architecture: Architecture) -> Estimate:
        """Measure again in fresh processes, to the tighter interval of reported latencies."""
        with self.open(FINALIST) as profiler:
            finalist, self.profiler = self.profiler, profiler
            try:
                return self._estimate(self._measure(architecture, fresh=True))
            finally:
                self.profiler = finalist

    def _measure(self, architecture: Architecture, fresh: bool) -> Measurement:
        assert self.context.database is not None
        return self.context.database.measure_cached(self.profiler, self.context.workload(architecture), fresh)

    def _estimate(self, measured: Measurement) -> Estimate:
        return self.figure(self._at_nominal_speed(measured))

    def figure(self, m: Measurement) -> Estimate:
        """Return the estimate that a measurement gives."""
        return Estimate(self.name, m.median_ms, self.unit, m.low_ms, m.high_ms, m.source, str(m.target))

    def _at_nominal_speed(self, measured: Measurement) -> Measurement:
        nominal = self._nominal_ms(measured)
        return measured if nominal is None or measured.reference_ms is None else measured.at_nominal_speed(nominal)

    def _nominal_ms(self, measured: Measurement) -> float | None:
        """Return the reference model's nominal time over the target and those it is compared with: latencies of one
        front are at one speed."""
        database = self.context.database
        assert database is not None
        targets = sorted({self.profiler.target, *self.context.compared_targets}, key=str)
        keys = [self.profiler.key(measured.workload, target) for target in targets]
        own = self.profiler.nominal_reference_ms
        return self.context.shared.nominal_ms(
            tuple(map(str, targets)), lambda: own() or database.nominal_reference_ms(*keys)
        )

    def close(self) -> None:
        """End the profiler's processes."""
        self.profiler.close()


class TailLatency(Latency):
    """99th percentile of the same runs in ms, for deadlines: a sample quantile of some hundred runs, without an
    interval."""

    name, registry_name = "latency_p99_ms", "latency-p99"

    def figure(self, m: Measurement) -> Estimate:
        """Return the 99th percentile of a measurement."""
        return Estimate(self.name, m.p99_ms, self.unit, source=m.source, target=str(m.target))


class Throughput(Latency):
    """Images per second in consecutive batches of the target's size (``onnxruntime:fp32@320/b8``)."""

    name, unit, direction, registry_name = "throughput", "img/s", "max", "throughput"

    def figure(self, m: Measurement) -> Estimate:
        """Return the images per second of a measurement."""
        low, value, high = (1e3 * m.target.batch / ms for ms in (m.high_ms, m.median_ms, m.low_ms))
        return Estimate(self.name, value, self.unit, low, high, m.source, str(m.target))


class Energy(Latency):
    """Energy per image in mJ: mean GPU power at both ends of the timed runs times the latency.

    The power is that of the whole board, idle power included. Raises InputError if the GPU does not report its power.
    """

    name, unit, registry_name = "energy_mj", "mj", "energy"

    @classmethod
    def available(cls) -> str | None:
        """Return why NVML is missing; None if it is there."""
        return nvml.missing()

    def figure(self, m: Measurement) -> Estimate:
        """Return the energy of a measurement. Raises InputError if it has no power."""
        gpu = m.environment.get("gpu") or {}
        powers = [state["power_w"] for name in ("before", "after") if (state := gpu.get(name)) and state.get("power_w")]
        if not powers:
            raise InputError(
                f"{m.target} does not report its power",
                "a GPU whose power NVML reads",
                "remove the objective energy, or: pip install nvidia-ml-py",
            )
        watts = sum(powers) / len(powers)
        low, value, high = (watts * ms / m.target.batch for ms in (m.low_ms, m.median_ms, m.high_ms))
        return Estimate(self.name, value, self.unit, low, high, m.source, str(m.target))
