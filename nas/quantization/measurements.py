"""Sets of blocks measured: distortion and mAP in the serving runtime, latency on the target. Every figure goes into a
journal as soon as it is known."""

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
"""Files that are kept for another measurement."""
QUICK = Protocol(min_rounds=8, max_rounds=60, half_width=0.02, max_s=5.0)
"""Of one measurement among many: the sets on the front are measured again, side by side."""


class SelectionMeasurements:
    """Measures sets of blocks of one subject, each once; what a journal in ``folder`` has is not measured again.

    ``subset``: images of the val split for the distortion (0: all); mAP is of all of them. ``usual_ms``: the
    anchor's usual time, by default the median of the journal's.
    """

    def __init__(
        self,
        subject: CalibratedDetector,
        data: DataPair,
        folder: Path,
        subset: int = 100,
        usual_ms: float | None = None,
    ) -> None:
        self.subject = subject
        self._usual_ms = usual_ms
        self._folder = folder
        few = first_samples(subject.val, subset)
        self._few = few
        self._images = list(batches(few, subject.image_size))
        self._exact: list[Outputs] | None = None
        self._scratch, self._written = tempfile.TemporaryDirectory(), 0
        self._files: dict[FloatBlocks, Path] = {}
        self._lines = Journal(folder / JOURNAL)
        self._known = self._begin(_settings(subject, data, len(few)))

    def _begin(self, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        lines = self._lines.read()
        if not lines:
            self._lines.start(settings)
            return []
        first, *known = lines
        if different := sorted(name for name in {*settings, *first} if settings.get(name) != first.get(name)):
            hint = "repeat its settings to go on with it, or take another --out"
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
        """Of the float model in the runtime."""
        if (found := self._find("float")) is None:
            found = self._keep(
                "float",
                metrics=self.subject.accuracy(RuntimeModel(self.subject.model, self.subject.float_target)).to_dict(),
            )
        return Metrics.from_dict(found["metrics"])

    def float_latency(self) -> Estimate:
        """Of the float model on the runtime in fp32, by one measurement."""
        files = {"float": (self.subject.model, self.subject.float_target)}
        found = self._find("float_latency") or self._keep(
            "float_latency", measurement=one_round(files, 0, QUICK)["float"].to_dict()
        )
        return self._at_usual_speed(Measurement.from_dict(found["measurement"]))

    def alone(self, block: str) -> tuple[float, float]:
        """Distortion and mAP, both on the subset, with only this block int8."""
        if (found := self._find("alone", block=block)) is None:
            served = RuntimeModel(self._file(frozenset(self.subject.blocks.choices) - {block}), self.subject.target)
            metrics = self.subject.accuracy(served, self._few)
            found = self._keep("alone", block=block, distortion=self._distortion(served), map=metrics.map)
        return float(found["distortion"]), float(found["map"])

    def latency(self, plan: FloatBlocks) -> Estimate:
        """Of a set, by one measurement."""
        if (found := self._find("latency", left_float=sorted(plan))) is None:
            measured = one_round({"set": (self._file(plan), self.subject.target)}, len(self._known), QUICK)
            found = self._keep("latency", left_float=sorted(plan), measurement=measured["set"].to_dict())
        return self._at_usual_speed(Measurement.from_dict(found["measurement"]))

    def point(self, plan: FloatBlocks) -> SelectionPoint:
        """All that there is to know of a set."""
        if (found := self._find("accuracy", left_float=sorted(plan))) is None:
            served = RuntimeModel(self._file(plan), self.subject.target)
            metrics = self.subject.accuracy(served)
            found = self._keep(
                "accuracy", left_float=sorted(plan), map=metrics.map, distortion=self._distortion(served)
            )
        return SelectionPoint(plan, float(found["map"]), float(found["distortion"]), self.latency(plan))

    def points(self) -> list[SelectionPoint]:
        """All sets of which the journal has everything."""
        timed = [k["left_float"] for k in self._known if k.get("kind") == "latency"]
        return [
            self.point(frozenset(k["left_float"]))
            for k in self._known
            if k.get("kind") == "accuracy" and k["left_float"] in timed
        ]

    def start(self, along: int, plans: Callable[[], list[FloatBlocks]]) -> list[FloatBlocks]:
        """The first sets of a search, as they were when it began: later measurements would draw others."""
        found = self._find("start", along=along) or self._keep(
            "start", along=along, plans=[sorted(plan) for plan in plans()]
        )
        return [frozenset(plan) for plan in found["plans"]]

    def side_by_side(self, plans: list[FloatBlocks], rounds: int) -> tuple[list[Estimate], Estimate]:
        """Latencies of sets and of the float model, measured in the same ``rounds``, each once per round."""
        names = {f"set{i}": sorted(plan) for i, plan in enumerate(plans)}
        for number in range(rounds):
            if self._find("round", number=number, sets=names) is None:
                files = {
                    name: (self._file(frozenset(plan), len(plans)), self.subject.target) for name, plan in names.items()
                }
                files["float"] = (self.subject.model, self.subject.float_target)
                measured = {name: m.to_dict() for name, m in one_round(files, number).items()}
                self._keep("round", number=number, sets=names, measurements=measured)
        of_rounds = [
            found["measurements"]
            for number in range(rounds)
            if (found := self._find("round", number=number, sets=names))
        ]
        known = estimates({name: [Measurement.from_dict(r[name]) for r in of_rounds] for name in ("float", *names)})
        return [known[name] for name in names], known["float"]

    def _file(self, plan: FloatBlocks, keep: int = KEPT) -> Path:
        """The int8 file of a set; the last ``keep`` are there still."""
        path = self._files.pop(plan, None)
        if path is None:
            self._written += 1
            path = Path(self._scratch.name) / f"{self._written}.onnx"
            self.subject.write(path, plan)
        self._files[plan] = path
        while len(self._files) > max(keep, KEPT):
            self._files.pop(next(iter(self._files))).unlink()
        return path

    def _distortion(self, served: RuntimeModel) -> float:
        if self._exact is None:
            exact = RuntimeModel(self.subject.model, self.subject.float_target)
            self._exact = [exact(batch) for batch in self._images]
        moved = [
            distortion(exact, served(batch)) * len(batch)
            for exact, batch in zip(self._exact, self._images, strict=True)
        ]
        return sum(moved) / sum(map(len, self._images))

    @property
    def usual_ms(self) -> float | None:
        """The anchor's usual time, ms: what latencies are brought to, because single measurements are minutes apart
        and a shared machine drifts."""
        return self._usual_ms or nominal_reference_ms(
            Measurement.from_dict(k["measurement"]) for k in self._known if "measurement" in k
        )

    def _at_usual_speed(self, measured: Measurement) -> Estimate:
        return combine_rounds([measured], self.usual_ms)


def _settings(subject: CalibratedDetector, data: DataPair, subset: int) -> dict[str, Any]:
    """All that decides what is measured."""
    runtime = RUNTIMES[subject.target.runtime]
    form = asdict(subject.form)
    return {
        "selective": VERSION,
        "architecture": subject.artifact.architecture.id,
        "weights": subject.fingerprint,
        "data": data.fingerprint,
        "target": str(replace(subject.target, image_size=subject.image_size)),
        "runtime": runtime.version(),
        "form": {**form, "op_types": list(form["op_types"])},
        "calibration": asdict(subject.calibration),
        "subset": subset,
    }
