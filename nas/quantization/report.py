"""The report of a quantization: precision of every layer; accuracy, latency and size before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency_db.core.quantization_scheme import QuantizationScheme
from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate, speed_up
from nas.core.units import change_of_map, quantity, share
from nas.inference.coco_metrics import Metrics
from nas.quantization.lint import LintReport
from search_spaces.text import counted

SUFFIX = ".quantization.json"


def map_drop(before: Metrics, after: Metrics) -> float:
    """Return the points of mAP50-95 (hundredths) that are lost; negative for a gain."""
    return 100 * (before.map - after.map)


@dataclass(frozen=True)
class ModelVersion:
    """One version of the network: its name, accuracy, latency where it was measured, and file size in bytes."""

    name: str
    metrics: Metrics
    latency: Estimate | None
    size: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        latency = self.latency and self.latency.to_dict()
        return {"name": self.name, "metrics": self.metrics.to_dict(), "latency": latency, "bytes": self.size}


@dataclass(frozen=True)
class QuantizationReport:
    """The result of one quantization.

    Attributes:
        name: of the network.
        mode: ptq, selective or qat.
        target: at int8, as text.
        scheme: of the target's runtime.
        calibrator: how a range follows from the images.
        images: number of calibration images.
        data: name of the data set.
        val_images: number of images that accuracy is measured on.
        evaluated_in: the runtime that computed the accuracy.
        before: the float model, in the precision of what the scheme does not quantize (fp32, or fp16 on GPUs).
        after: the file that was written.
        lint: precision of every layer, and findings.
        kept_float: blocks kept in floating point.
        others: versions beside them (a control, plain calibration).
        warnings: of the calibration.
        unmeasured: why there is no latency.
        compiled: what the runtime reports from compiling the file without its device.
        details: of the mode, JSON-ready.
    """

    name: str
    mode: str
    target: str
    scheme: QuantizationScheme
    calibrator: str
    images: int
    data: str
    val_images: int
    evaluated_in: str
    before: ModelVersion
    after: ModelVersion
    lint: LintReport
    kept_float: tuple[str, ...] = ()
    others: tuple[ModelVersion, ...] = ()
    warnings: tuple[str, ...] = ()
    unmeasured: str = ""
    compiled: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speed_up(self) -> Estimate | None:
        """How many times as fast the file is as the float model; None without latencies."""
        a, b = self.before.latency, self.after.latency
        return None if a is None or b is None else speed_up("speed_up", a, b)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the content of the file beside the model."""
        ratio = self.speed_up
        names = ("name", "mode", "target", "calibrator", "images", "data", "val_images", "evaluated_in")
        return {
            **{name: getattr(self, name) for name in (*names, "unmeasured", "compiled", "details")},
            "form": self.scheme.to_dict(),
            "drop": map_drop(self.before.metrics, self.after.metrics),
            "speed_up": ratio and ratio.to_dict(),
            "float": self.before.to_dict(),
            "quantized": self.after.to_dict(),
            "others": [{**v.to_dict(), "drop": map_drop(self.before.metrics, v.metrics)} for v in self.others],
            "left_float": list(self.kept_float),
            "warnings": list(self.warnings),
            **self.lint.to_dict(),
        }

    def lines(self) -> list[str]:
        """Lines for a person to read."""
        lines = [
            f"{self.name} for {self.target}: {self.mode}; {_describe(self.scheme)}; "
            f"{counted(self.images, 'image')} of {self.data}, {self.calibrator}",
            *(_row(version, self.before) for version in (self.before, self.after, *self.others)),
            f"accuracy in {self.evaluated_in}, {self.val_images} val images",
        ]
        if ratio := self.speed_up:
            lines.append(f"{quantity(ratio)} as fast")
        if self.unmeasured:
            lines.append(f"latency not measured: {self.unmeasured}")
        if self.compiled:
            lines.append(f"compiled ahead of time: {json.dumps(dict(self.compiled))}")
        if self.kept_float:
            lines.append(f"kept in floating point: {', '.join(self.kept_float)}")
        return [*lines, *self.lint.lines(), *(f"warning: {w}" for w in self.warnings)]

    def write(self, model: Path) -> Path:
        """Write the report beside the model and return its path."""
        return atomic_write(model.with_suffix(SUFFIX), json.dumps(self.to_dict(), indent=2) + "\n")


def _describe(scheme: QuantizationScheme) -> str:
    where = "behind every operator too" if scheme.outputs else "at the inputs of convolutions"
    symmetry = "symmetric" if scheme.symmetric else "asymmetric"
    return f"{scheme.activation} {symmetry}, nodes {where}, weights {scheme.weight} of {scheme.weight_bits} bits"


def _row(version: ModelVersion, before: ModelVersion) -> str:
    change = "" if version is before else f" ({change_of_map(map_drop(before.metrics, version.metrics))})"
    latency = "" if version.latency is None else f", {quantity(version.latency)}"
    return f"  {version.name:<22} mAP {share(version.metrics.map)}{change}{latency}, {version.size / 1e6:.2f} MB"


def versions(named: Sequence[tuple[str, Path, Metrics]], latencies: Mapping[str, Estimate]) -> list[ModelVersion]:
    """Combine files, their accuracy, and the latencies by name."""
    return [ModelVersion(name, metrics, latencies.get(name), path.stat().st_size) for name, path, metrics in named]
