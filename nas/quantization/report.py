"""What quantizing came to, as a value: precision of every layer, accuracy, latency and size before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency_db.core.quantization_scheme import QuantizationScheme
from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate, speed_up
from nas.core.units import quantity
from nas.inference.coco_metrics import Metrics
from nas.quantization.lint import LintReport

SUFFIX = ".quantization.json"


def map_drop(before: Metrics, after: Metrics) -> float:
    """Points of mAP50-95 (hundredths) that were lost; negative where some were won."""
    return 100 * (before.map - after.map)


@dataclass(frozen=True)
class ModelVersion:
    """One file: what it is, its accuracy, its latency where that could be measured, its size in bytes."""

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
    """``before`` is the float model in fp32, ``after`` the file that was written; ``others`` stand beside them (a
    control, plain calibration).

    ``evaluated_in``: the runtime that accuracy was measured in. ``unmeasured``: why there is no latency.
    ``compiled``: what the runtime said when it compiled the file without its device.
    """

    name: str
    mode: str
    target: str
    form: QuantizationScheme
    calibrator: str
    images: int
    data: str
    val_images: int
    evaluated_in: str
    before: ModelVersion
    after: ModelVersion
    lint: LintReport
    left_float: tuple[str, ...] = ()
    others: tuple[ModelVersion, ...] = ()
    warnings: tuple[str, ...] = ()
    unmeasured: str = ""
    compiled: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speed_up(self) -> Estimate | None:
        """How many times as fast the file is as the float model."""
        a, b = self.before.latency, self.after.latency
        return None if a is None or b is None else speed_up("speed_up", a, b)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the content of the file beside the model."""
        ratio = self.speed_up
        plain = (
            "name",
            "mode",
            "target",
            "calibrator",
            "images",
            "data",
            "val_images",
            "evaluated_in",
            "unmeasured",
            "compiled",
            "details",
        )
        return {
            **{name: getattr(self, name) for name in plain},
            "form": asdict(self.form),
            "drop": map_drop(self.before.metrics, self.after.metrics),
            "speed_up": ratio and ratio.to_dict(),
            "float": self.before.to_dict(),
            "quantized": self.after.to_dict(),
            "others": [{**v.to_dict(), "drop": map_drop(self.before.metrics, v.metrics)} for v in self.others],
            "left_float": list(self.left_float),
            "warnings": list(self.warnings),
            **self.lint.to_dict(),
        }

    def lines(self) -> list[str]:
        """For a person."""
        f = self.form
        where = "behind every operator too" if f.outputs else "at the inputs of convolutions"
        kind = f"{f.activation} {'symmetric' if f.symmetric else 'asymmetric'}, nodes {where}, weights {f.weight} of {f.weight_bits} bits"
        said = [
            f"{self.name} for {self.target}: {self.mode}; {kind}; {self.images} images of {self.data}, {self.calibrator}"
        ]
        said += [_row(version, self.before) for version in (self.before, self.after, *self.others)]
        said.append(f"accuracy in {self.evaluated_in}, {self.val_images} val images")
        if ratio := self.speed_up:
            said.append(f"{quantity(ratio)} as fast")
        if self.unmeasured:
            said.append(f"latency not measured: {self.unmeasured}")
        if self.compiled:
            said.append(f"compiled ahead of time: {json.dumps(dict(self.compiled))}")
        if self.left_float:
            said.append(f"left float: {', '.join(self.left_float)}")
        return [*said, *self.lint.lines(), *(f"warning: {w}" for w in self.warnings)]

    def write(self, model: Path) -> Path:
        """Beside the model."""
        return atomic_write(model.with_suffix(SUFFIX), json.dumps(self.to_dict(), indent=2) + "\n")


def _row(version: ModelVersion, before: ModelVersion) -> str:
    lost = "" if version is before else f" (drop {map_drop(before.metrics, version.metrics):+.2f} points)"
    latency = "" if version.latency is None else f", {quantity(version.latency)}"
    return f"  {version.name:<22} mAP {version.metrics.map:.4f}{lost}{latency}, {version.size / 1e6:.2f} MB"


def versions(named: Sequence[tuple[str, Path, Metrics]], latencies: Mapping[str, Estimate]) -> list[ModelVersion]:
    """Of files, their accuracy, and the latencies by name."""
    return [ModelVersion(name, metrics, latencies.get(name), path.stat().st_size) for name, path, metrics in named]
