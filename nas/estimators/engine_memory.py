"""Memory of a compiled network, from an ahead-of-time build with TensorRT-RTX.

The build needs no GPU and also checks that the network compiles.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from latency_db.conversion.precision import converted
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.engines.engine_cache import EngineCache, EngineJob
from latency_db.engines.plans import PlanReport, installed, library_version
from latency_db.runtimes.tensorrt import INT8, TensorRtRtx
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

RUNTIME = "tensorrt-rtx"


class _EngineMemory(Estimator):
    """At the target's precision, batch and image size, where TensorRT-RTX has that precision; fp32, batch 1 without a
    target."""

    unit, direction = "mib", "min"
    figure: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if reason := self.available():
            raise InputError(f"estimator {self.name} cannot work here: {reason}", hint="or remove its bound")
        asked = context.target or Target(RUNTIME)
        if asked.precision not in TensorRtRtx.precisions:
            raise InputError(f"{self.name} of {asked}", f"one of the precisions {', '.join(TensorRtRtx.precisions)}")
        self._target = replace(asked, runtime=RUNTIME, device=TensorRtRtx.default_device)
        self._engines = EngineCache()

    @classmethod
    def available(cls) -> str | None:
        """Return why TensorRT-RTX is missing; None if it is installed."""
        return installed(RUNTIME)

    def __call__(self, architecture: Architecture) -> Estimate:
        """Return the figure from the engine cache, else compile (seconds). Raises InputError if that fails."""
        value = self.bytes_of(self._report(self.context.space.check(architecture)))
        if value is None:
            raise InputError(
                f"TensorRT-RTX did not log the {self.figure} of {architecture.id}", hint="another version may"
            )
        return Estimate(self.name, value / 2**20, self.unit, target=str(self._target))

    @abstractmethod
    def bytes_of(self, report: PlanReport) -> int | None:
        """Return the figure in bytes; None if the build did not log it."""

    def _report(self, architecture: Architecture) -> PlanReport:
        target = self._target
        with tempfile.TemporaryDirectory() as scratch:
            workload = replace(self.context, target=target, scratch=Path(scratch)).workload(architecture)
            return self._compiled(workload)

    def _compiled(self, workload: Workload) -> PlanReport:
        target = self._target
        with converted(workload, target.precision, INT8) as ready:
            job = EngineJob(ready.path(), RUNTIME, library_version(RUNTIME), "", target.batch, target.image_size)
            return self._engines.obtain(job).report


class EngineActivations(_EngineMemory):
    """Device memory of one run of the compiled network besides its weights, in MiB."""

    name, figure = "engine_activations_mib", "activation memory"

    def bytes_of(self, report: PlanReport) -> int | None:
        """Return the activation memory in bytes."""
        return report.activation_bytes


class EngineWeights(_EngineMemory):
    """Weights of the compiled network on the device, in MiB."""

    name, figure = "engine_weights_mib", "weights memory"

    def bytes_of(self, report: PlanReport) -> int | None:
        """Return the weights memory in bytes."""
        return report.weights_bytes
