"""Post-training quantization: trained weights to an int8 file that is linted, evaluated in the runtime that will serve
it, and timed beside the float one."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.core.atomic import atomic_write, naming
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.core.units import change_of_map, share
from nas.data.source import DataPair
from nas.inference.coco_metrics import Metrics
from nas.profiling.interleaved import Files, interleaved, why_unmeasurable
from nas.quantization.lint import LintReport
from nas.quantization.model import CalibratedDetector, CalibrationConfig, calibrate_detector, scheme_of
from nas.quantization.report import SUFFIX, QuantizationReport, map_drop, versions
from nas.quantization.runtime_accuracy import RuntimeModel
from nas.supernet.weights import load_detector
from nas.training.data import check_classes

INT8 = "int8"


@dataclass(frozen=True)
class QuantizationSettings:
    """How to calibrate, and in how many rounds latency is measured (0: not at all)."""

    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    rounds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class QuantizationRequest:
    """What is quantized: trained weights, for a target, into the file ``out``.

    ``data``: its train split calibrates, its val split gives the accuracy.
    """

    weights: Path
    data: DataPair
    target: Target
    out: Path
    settings: QuantizationSettings = field(default_factory=QuantizationSettings)

    @property
    def folder(self) -> Path:
        """Folder of the file's name, for what a selection or a fine-tuning keeps."""
        return self.out.with_suffix("")

    def check(self) -> None:
        """Check the target and the classes before any work.

        Raises:
            InputError: if the target has no int8, or the weights and the data set differ in their classes.
        """
        scheme_of(self.target)
        check_classes(load_detector(self.weights)[1], self.data)


@dataclass(frozen=True)
class QuantizedFile:
    """A quantized file as it was written, and what is compared with it.

    Attributes:
        mode: ptq, selective or qat.
        lint: findings of the linter.
        kept_float: the blocks kept in floating point.
        others: name -> file and target, evaluated and timed beside it.
        details: of the mode, JSON-ready.
    """

    mode: str
    lint: LintReport
    kept_float: Collection[str] = ()
    others: Files = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def quantize_post_training(request: QuantizationRequest, reporter: Reporter) -> QuantizationReport:
    """Quantize by calibration alone: calibrate, write the file, lint, evaluate, time; write the report beside it.

    Raises:
        InputError: if the request does not fit, or the linter finds an error in the file.
    """
    request.check()
    calibration = request.settings.calibration
    with tempfile.TemporaryDirectory() as folder:
        detector = calibrate_detector(
            request.weights, request.data, request.target, calibration, Path(folder), reporter=reporter
        )
        with replaced_at_end(request) as unfinished:
            lint = detector.write(unfinished.out)
            return evaluate_quantized(detector, unfinished, QuantizedFile("ptq", lint), reporter)


@contextmanager
def replaced_at_end(request: QuantizationRequest) -> Iterator[QuantizationRequest]:
    """Give the request with a temporary file, which takes its place with its report when the context ends.

    An interruption or an error leaves the file and the report of an earlier call as they are.

    Raises:
        InputError: if a file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="nas-quantize-") as folder:
        temporary = Path(folder) / request.out.name
        with naming(request.out, temporary):
            yield replace(request, out=temporary)
        for suffix in (temporary.suffix, SUFFIX):
            atomic_write(request.out.with_suffix(suffix), temporary.with_suffix(suffix).read_bytes())


def evaluate_quantized(
    detector: CalibratedDetector, request: QuantizationRequest, written: QuantizedFile, reporter: Reporter
) -> QuantizationReport:
    """Evaluate and time the written file beside the float one and the others; write the report beside it.

    ``request`` is that of :func:`replaced_at_end`.
    """
    settings = request.settings
    files: dict[str, tuple[Path, Target]] = {
        detector.float_target.precision: (detector.model, detector.float_target),
        INT8: (request.out, detector.target),
        **written.others,
    }
    found: list[tuple[str, Path, Metrics]] = []
    where = ""
    with reporter.steps("accuracy") as update:
        for name, (path, target) in files.items():
            update(len(found), len(files), name)
            model = RuntimeModel(path, target)
            metrics, where = detector.accuracy(model), model.where
            found.append((name, path, metrics))
            change = "" if len(found) == 1 else f" ({change_of_map(map_drop(found[0][2], metrics))})"
            update(len(found), len(files), f"{name}: mAP {share(metrics.map)}{change} in {where}")
    reason = why_unmeasurable(detector.target) or ("" if settings.rounds else "not asked for")
    latencies: Mapping[str, Estimate] = {}
    if not reason:
        with reporter.steps(f"latency of {len(files)} files, rounds") as update:
            latencies = interleaved(files, settings.rounds, settings.seed, update)
    before, after, *beside = versions(found, latencies)
    report = QuantizationReport(
        name=detector.artifact.name,
        mode=written.mode,
        target=str(detector.target),
        scheme=detector.scheme,
        calibrator=settings.calibration.calibrator,
        images=min(settings.calibration.images, len(request.data.train)),
        data=request.data.name,
        val_images=len(detector.val),
        evaluated_in=where,
        before=before,
        after=after,
        lint=written.lint,
        kept_float=tuple(sorted(written.kept_float)),
        others=tuple(beside),
        warnings=detector.warnings,
        unmeasured=reason,
        compiled=RUNTIMES[detector.target.runtime].compile_ahead(detector.target, request.out),
        details=written.details,
    )
    report.write(request.out)
    return report
