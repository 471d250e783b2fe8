"""Measurements of sets of blocks kept in floating point: distortion, mAP and latency in the
serving runtime.

Every figure is written to a journal at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from latency_db.core.measurement import Measurement
from latency_db.core.profiler import Protocol
from latency_db.database.db import nominal_reference_ms
from latency_db.runtimes import RUNTIMES
from nas.core.estimate import Estimate
from nas.core.journal import Journal
from nas.core.reporter import Update
from nas.data.source import DataPair
from nas.data.subsets import first_samples
from nas.inference.coco_metrics import Metrics
from nas.inference.detect import batches
from nas.profiling.interleaved import combine_rounds, estimates, one_round
from nas.quantization.block_selection import FloatBlocks, SelectionPoint
from nas.quantization.model import CalibratedDetector
from nas.quantization.runtime_accuracy import Outputs, RuntimeModel, distortion
from search_spaces.errors import InputError

JOURNAL = "selective.jsonl"
VERSION = 1
KEPT = 8
"""Number of int8 files kept for another measurement."""
QUICK = Protocol(min_rounds=8, max_rounds=60, half_width=0.02, max_s=5.0)
"""Protocol of one measurement among many; the sets on the front are measured again in interleaved rounds."""


class SelectionMeasurements:
    """Measures sets of blocks of one detector, each once.

    What the journal in ``folder`` holds is not measured again.

    Args:
        detector: whose blocks are measured.
        data: name and fingerprint belong to the journal.
        folder: of the journal.
        subset: images of the val split for the distortion (0: all); mAP is of the whole split.
        reference_ms: time of the reference model at the nominal speed, by default the journal's median.

    Raises:
        InputError: if the journal has other settings, or is damaged.
    """

    def __init__(
        self,
        detector: CalibratedDetector,
        data: DataPair,
        folder: Path,
        subset: int = 100,
        reference_ms: float | None = None,
    ) -> None:
        self.detector = detector
        self._reference_ms = reference_ms
        self._folder = folder
        few = first_samples(detector.val, subset)
        self._few = few
        self._images = list(batches(few, detector.image_size))
        self._exact: list[Outputs] | None = None
        self._scratch, self._written = tempfile.TemporaryDirectory(), 0
        self._files: dict[FloatBlocks, Path] = {}
        self._lines = Journal(folder / JOURNAL)
        self._known = self._begin(_settings(detector, data, len(few)))

    def _begin(self, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        lines = self._lines.read()
        if not lines:
            self._lines.start(settings)
            return []
        first, *known = lines
        if different := sorted(name for name in {*settings, *first} if settings.get(name) != first.get(name)):
            hint = "repeat its settings to resume it, or choose another --out"
            raise InputError(f"{self._folder} holds a selection of other settings: {', '.join(different)}", hint=hint)
        return list(known)

    def _find(self, kind: str, **what: Any) -> Mapping[str, Any] | None:
        return next(
            (
                k
                for k in self._known
                if k.get("kind") == kind and all(k.get(name) == value for name, value in what.items())
            ),
            None,
        )

    def _keep(self, kind: str, **what: Any) -> Mapping[str, Any]:
        line = {"kind": kind, **what}
        self._lines.append(line)
        self._known.append(line)
        return line

    def float_metrics(self) -> Metrics:
        """Evaluate the float model in the runtime."""
        if (found := self._find("float")) is None:
            found = self._keep(
                "float",
                metrics=self.detector.accuracy(RuntimeModel(self.detector.model, self.detector.float_target)).to_dict(),
            )
        return Metrics.from_dict(found["metrics"])

    def float_latency(self) -> Estimate:
        """Time the float model on the runtime in fp32, by one measurement."""
        files = {"float": (self.detector.model, self.detector.float_target)}
        found = self._find("float_latency") or self._keep(
            "float_latency", measurement=one_round(files, 0, QUICK)["float"].to_dict()
        )
        return self._at_nominal_speed(Measurement.from_dict(found["measurement"]))

    def alone(self, block: str) -> tuple[float, float]:
        """Return distortion and mAP, both on the subset, with this block alone in int8."""
        if (found := self._find("alone", block=block)) is None:
            served = RuntimeModel(self._file(frozenset(self.detector.blocks.choices) - {block}), self.detector.target)
            metrics = self.detector.accuracy(served, self._few)
            found = self._keep("alone", block=block, distortion=self._distortion(served), map=metrics.map)
        return float(found["distortion"]), float(found["map"])

    def latency(self, plan: FloatBlocks) -> Estimate:
        """Time a set, by one measurement."""
        if (found := self._find("latency", left_float=sorted(plan))) is None:
            measured = one_round({"set": (self._file(plan), self.detector.target)}, len(self._known), QUICK)
            found = self._keep("latency", left_float=sorted(plan), measurement=measured["set"].to_dict())
        return self._at_nominal_speed(Measurement.from_dict(found["measurement"]))

    def point(self, plan: FloatBlocks) -> SelectionPoint:
        """Measure accuracy, distortion and latency of a set."""
        if (found := self._find("accuracy", left_float=sorted(plan))) is None:
            served = RuntimeModel(self._file(plan), self.detector.target)
            metrics = self.detector.accuracy(served)
            found = self._keep(
                "accuracy", left_float=sorted(plan), map=metrics.map, distortion=self._distortion(served)
            )
        return SelectionPoint(plan, float(found["map"]), float(found["distortion"]), self.latency(plan))

    def points(self) -> list[SelectionPoint]:
        """Return all sets whose figures are complete in the journal."""
        timed = [k["left_float"] for k in self._known if k.get("kind") == "latency"]
        return [
            self.point(frozenset(k["left_float"]))
            for k in self._known
            if k.get("kind") == "accuracy" and k["left_float"] in timed
        ]

    def start(self, along: int, plans: Callable[[], list[FloatBlocks]]) -> list[FloatBlocks]:
        """Return the first sets of a search; the journal keeps them, because later measurements would change them."""
        found = self._find("start", along=along) or self._keep(
            "start", along=along, plans=[sorted(plan) for plan in plans()]
        )
        return [frozenset(plan) for plan in found["plans"]]

    def side_by_side(
        self, plans: list[FloatBlocks], rounds: int, update: Update = lambda done, total, text: None
    ) -> tuple[list[Estimate], Estimate]:
        """Time sets and the float model in interleaved ``rounds``; return the latencies of both."""
        names = {f"set{i}": sorted(plan) for i, plan in enumerate(plans)}
        update(0, rounds, "")
        for number in range(rounds):
            if self._find("round", number=number, sets=names) is None:
                files = {
                    name: (self._file(frozenset(plan), len(plans)), self.detector.target)
                    for name, plan in names.items()
                }
                files["float"] = (self.detector.model, self.detector.float_target)
                measured = {name: m.to_dict() for name, m in one_round(files, number).items()}
                self._keep("round", number=number, sets=names, measurements=measured)
            update(number + 1, rounds, "")
        of_rounds = [
            found["measurements"]
            for number in range(rounds)
            if (found := self._find("round", number=number, sets=names))
        ]
        known = estimates({name: [Measurement.from_dict(r[name]) for r in of_rounds] for name in ("float", *names)})
        return [known[name] for name in names], known["float"]

    def _file(self, plan: FloatBlocks, keep: int = KEPT) -> Path:
        """Write the int8 file of a set; the last ``keep`` files stay."""
        path = self._files.pop(plan, None)
        if path is None:
            self._written += 1
            path = Path(self._scratch.name) / f"{self._written}.onnx"
            self.detector.write(path, plan)
        self._files[plan] = path
        while len(self._files) > max(keep, KEPT):
            self._files.pop(next(iter(self._files))).unlink()
        return path

    def _distortion(self, served: RuntimeModel) -> float:
        if self._exact is None:
            exact = RuntimeModel(self.detector.model, self.detector.float_target)
            self._exact = [exact(batch) for batch in self._images]
        moved = [
            distortion(exact, served(batch)) * len(batch)
            for exact, batch in zip(self._exact, self._images, strict=True)
        ]
        return sum(moved) / sum(map(len, self._images))

    @property
    def reference_ms(self) -> float | None:
        """Time of the reference model at the nominal speed, ms; single measurements are scaled to it."""
        return self._reference_ms or nominal_reference_ms(
            Measurement.from_dict(k["measurement"]) for k in self._known if "measurement" in k
        )

    def _at_nominal_speed(self, measured: Measurement) -> Estimate:
        return combine_rounds([measured], self.reference_ms)


def _settings(detector: CalibratedDetector, data: DataPair, subset: int) -> dict[str, Any]:
    """Everything that decides what is measured; the first line of the journal."""
    runtime = RUNTIMES[detector.target.runtime]
    scheme = detector.scheme.to_dict()
    return {
        "selective": VERSION,
        "architecture": detector.artifact.architecture.id,
        "weights": detector.fingerprint,
        "data": data.fingerprint,
        "target": str(replace(detector.target, image_size=detector.image_size)),
        "runtime": runtime.version(),
        "form": {**scheme, "op_types": list(scheme["op_types"])},
        "calibration": asdict(detector.calibration),
        "subset": subset,
    }
