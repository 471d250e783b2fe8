"""Trained detectors against a data set: one, or two on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.evaluation.bootstrap import Difference, compare
from nas.evaluation.report import EvaluationResult, evaluation_of
from nas.inference.detect import detect_all
from nas.inference.model import load


@dataclass(frozen=True)
class EvaluationConfig:
    """How to evaluate: device, images run at once, IoU and score of the confusions (None: where the mean F1 is
    best), resamples and their seed."""

    device: str = "auto"
    batch: int = 8
    iou: float = 0.5
    score: float | None = None
    resamples: int = 1000
    seed: int = 0


def evaluate_file(path: Path, data: DataPair, settings: EvaluationConfig, reporter: Reporter) -> EvaluationResult:
    """Weights (``.safetensors``) or an export (``.onnx``) on the val split (``open_data(spec, val="test")`` puts
    another there)."""
    model = load(path, settings.device)
    known = len(data.val.problems)
    with reporter.progress(f"evaluate {path.name}") as watch:
        found = detect_all(model, data.val, settings.batch, watch=watch)
    for line in data.val.problems.lines() if len(data.val.problems) > known else []:
        reporter.note(f"data: {line}")
    return evaluation_of(
        path.name,
        model.runtime,
        data.val,
        found,
        iou=settings.iou,
        score=settings.score,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def compare_files(
    a: EvaluationResult, other: Path, data: DataPair, settings: EvaluationConfig, reporter: Reporter
) -> tuple[EvaluationResult, Difference]:
    """``a`` against another model on the same images."""
    b = evaluate_file(other, data, settings, reporter)
    return b, compare(a.matches, b.matches, settings.resamples, settings.seed)
