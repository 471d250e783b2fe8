"""From trained weights to an int8 file that was checked, evaluated in the runtime that will serve it, and timed
beside the float one."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.profiling.interleaved import Files, interleaved, why_unmeasurable
from nas.quantization.lint import LintReport
from nas.quantization.model import CalibratedDetector, CalibrationConfig, calibrate_detector, scheme_of
from nas.quantization.report import QuantizationReport, map_drop, versions
from nas.quantization.runtime_accuracy import RuntimeModel
from nas.supernet.weights import load_detector
from nas.training.data import check_classes

FLOAT, INT8 = "fp32", "int8"


@dataclass(frozen=True)
class QuantizationSettings:
    """How to calibrate, and in how many rounds latency is measured (0: not at all)."""

    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    rounds: int = 3
    seed: int = 0


def check_request(weights: Path, data: DataPair, target: Target) -> None:
    """Everything that can be wrong before work begins is said now."""
    scheme_of(target)
    check_classes(load_detector(weights)[1], data)


def quantize_post_training(
    weights: Path, data: DataPair, target: Target, out: Path, settings: QuantizationSettings, reporter: Reporter
) -> QuantizationReport:
    """Post-training quantization: calibrate, write ``out``, check, evaluate, time; the report is written beside it."""
    check_request(weights, data, target)
    with tempfile.TemporaryDirectory() as folder:
        reporter.note(f"calibrating on {settings.calibration.images} images ({settings.calibration.calibrator})")
        subject = calibrate_detector(weights, data, target, settings.calibration, Path(folder))
        lint = subject.write(out)
        return evaluate_quantized(subject, data, out, lint, "ptq", settings, reporter)


def evaluate_quantized(
    subject: CalibratedDetector,
    data: DataPair,
    out: Path,
    lint: LintReport,
    mode: str,
    settings: QuantizationSettings,
    reporter: Reporter,
    left_float: Collection[str] = (),
    others: Files | None = None,
    details: Mapping[str, Any] | None = None,
) -> QuantizationReport:
    """Evaluate and time a file that was written, with the float one and ``others`` beside it; the report, written
    beside the file."""
    files: dict[str, tuple[Path, Target]] = {FLOAT: (subject.model, subject.float_target), INT8: (out, subject.target)}
    files |= others or {}
    found = []
    where = ""
    for name, (path, target) in files.items():
        served = RuntimeModel(path, target)
        metrics, where = subject.accuracy(served), served.where
        found.append((name, path, metrics))
        reporter.note(f"{name}: mAP {metrics.map:.4f} ({map_drop(found[0][2], metrics):+.2f} points lost) in {where}")
    reason = why_unmeasurable(subject.target) or ("" if settings.rounds else "not asked for")
    latencies = {} if reason else _timed(files, settings, reporter)
    before, after, *beside = versions(found, latencies)
    report = QuantizationReport(
        name=subject.artifact.name,
        mode=mode,
        target=str(subject.target),
        form=subject.form,
        calibrator=settings.calibration.calibrator,
        images=min(settings.calibration.images, len(data.train)),
        data=data.name,
        val_images=len(subject.val),
        evaluated_in=where,
        before=before,
        after=after,
        lint=lint,
        left_float=tuple(sorted(left_float)),
        others=tuple(beside),
        warnings=subject.warnings,
        unmeasured=reason,
        compiled=RUNTIMES[subject.target.runtime].compile_ahead(subject.target, out),
        details=details or {},
    )
    report.write(out)
    return report


def _timed(files: Files, settings: QuantizationSettings, reporter: Reporter) -> Mapping[str, Any]:
    reporter.note(f"timing {len(files)} files in {settings.rounds} rounds")
    return interleaved(
        files, settings.rounds, settings.seed, lambda done: reporter.note(f"round {done}/{settings.rounds} timed")
    )
