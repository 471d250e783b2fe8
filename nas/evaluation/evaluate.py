"""Evaluation of a trained detector on a data set, and comparison of two detectors on the same images."""

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
    """Settings of an evaluation.

    Args:
        device: Device of the network: auto, cpu, cuda or cuda:1.
        batch: Number of images per forward pass.
        iou: IoU threshold of the confusion matrix.
        score: Score threshold of the confusion matrix; None for the one with the highest mean F1.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """

    device: str = "auto"
    batch: int = 8
    iou: float = 0.5
    score: float | None = None
    resamples: int = 1000
    seed: int = 0


def evaluate_file(path: Path, data: DataPair, settings: EvaluationConfig, reporter: Reporter) -> EvaluationResult:
    """Evaluate weights (``.safetensors``) or an export (``.onnx``) on the val split of ``data``.

    ``open_data(spec, val="test")`` opens a data set with its test split as the val split. Raises InputError if the file
    cannot be read, or if no resample has an object.
    """
    model = load(path, settings.device)
    if (inside := model.backend.inside) is not None:
        reporter.note(
            f"the suppression is in the file: score {inside.score_threshold:g}, IoU {inside.iou_threshold:g}, "
            f"{inside.max_detections} detections; files without it are evaluated from score 0.01 at IoU 0.7"
        )
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
    """Evaluate another model on the same images, and return its results and the difference of ``a`` to it.

    Raises InputError as :func:`evaluate_file` and :func:`nas.evaluation.bootstrap.compare`.
    """
    b = evaluate_file(other, data, settings, reporter)
    return b, compare(a.matches, b.matches, settings.resamples, settings.seed)
