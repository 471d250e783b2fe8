"""Results of an evaluation for tables, files and the HTML report: classes, curves, confusion matrix and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate
from nas.data.dataset import DetectionDataset
from nas.evaluation.bootstrap import Difference, map_interval
from nas.evaluation.matching import AREAS, Matches, match, precisions
from nas.evaluation.report_confusion import Confusion, Verdict, confusion_of, judge
from nas.evaluation.report_curves import Curve, best_threshold, curves_of
from nas.evaluation.report_tables import class_csv
from nas.inference.coco_metrics import Metrics, evaluate
from nas.inference.nms import Detections
from search_spaces.text import json_text


@dataclass(frozen=True)
class ClassRow:
    """Results of one class.

    A share is None if the class has no objects (of the size); the last four values also if it has no detections.

    Args:
        name: Name of the class.
        ap: AP (0..1), mean over IoU 0.50 to 0.95.
        ap50: AP at IoU 0.50.
        ap_small: AP of small objects.
        ap_medium: AP of medium objects.
        ap_large: AP of large objects.
        boxes: Number of objects.
        images: Number of images with objects.
        best_score: Score threshold of the highest F1 at IoU 0.50.
        f1: F1 at that threshold.
        precision: Precision at that threshold.
        recall: Recall at that threshold.
    """

    name: str
    ap: float | None
    ap50: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    boxes: int
    images: int
    best_score: float | None
    f1: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Results of one detector on one data set.

    ``curves`` are those of the classes with objects, and ``mean`` is their mean. ``verdicts`` are in the order of the
    images.
    """

    model: str
    runtime: str
    dataset: DetectionDataset
    detections: Mapping[int, Detections]
    metrics: Metrics
    interval: Estimate
    matches: Matches
    rows: tuple[ClassRow, ...]
    curves: tuple[Curve, ...]
    mean: Curve
    confusion: Confusion
    verdicts: tuple[Verdict, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return model, data set, metrics (with the keys of ``nas train``), interval and classes, JSON-ready."""
        data = self.dataset
        about = {
            "model": self.model,
            "runtime": self.runtime,
            "data": data.name,
            "fingerprint": data.fingerprint,
            "images": len(data),
        }
        more = {"best_score": self.mean.best_score, "classes": [asdict(row) for row in self.rows]}
        return {**about, **self.metrics.to_dict(), "map_interval": [self.interval.low, self.interval.high], **more}


def evaluation_of(
    model: str,
    runtime: str,
    dataset: DetectionDataset,
    detections: Mapping[int, Detections],
    *,
    iou: float = 0.5,
    score: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> EvaluationResult:
    """Evaluate the detections of one model.

    Args:
        model: Name of the model.
        runtime: Name of the runtime that computed the detections.
        dataset: The data set.
        detections: Image id -> detections, boxes in pixels of the image.
        iou: IoU threshold of the confusion matrix.
        score: Score threshold of the confusion matrix; by default the one with the highest mean F1 of the classes.
        resamples: Number of bootstrap resamples for the interval of mAP.
        seed: Seed of the resamples.

    Raises:
        InputError: if no resample has an object.
    """
    metrics = evaluate(dataset, detections)
    matches = match(dataset, detections)
    curves, mean = curves_of(matches)
    score = mean.best_score if score is None else score
    verdicts = tuple(
        judge(sample, detections.get(sample.id, Detections.none()), iou, score) for sample in dataset.samples
    )
    return EvaluationResult(
        model,
        runtime,
        dataset,
        detections,
        metrics,
        map_interval(matches, resamples, seed),
        matches,
        _rows(dataset, detections, matches),
        curves,
        mean,
        confusion_of(dataset, verdicts, iou, score),
        verdicts,
    )


def _rows(dataset: DetectionDataset, detections: Mapping[int, Detections], matches: Matches) -> tuple[ClassRow, ...]:
    tables = {area: precisions(matches if area == "all" else match(dataset, detections, area))[0] for area in AREAS}
    rows = []
    for k, name in enumerate(dataset.classes):
        counts = matches.truths[:, k]
        best = best_threshold(matches, k) if counts.any() else None
        ap = {f"ap_{area}": _defined(table[k].mean()) for area, table in tables.items()}
        rows.append(
            ClassRow(
                name,
                ap=ap.pop("ap_all"),
                ap50=_defined(tables["all"][k, 0]),
                **ap,
                boxes=int(counts.sum()),
                images=int((counts > 0).sum()),
                best_score=best.score if best else None,
                f1=best.f1 if best else None,
                precision=best.precision if best else None,
                recall=best.recall if best else None,
            )
        )
    return tuple(rows)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def against_dict(against: tuple[str, Difference] | None) -> dict[str, Any]:
    """Return the comparison with another model, given by its name, JSON-ready; an empty dict for None."""
    return {"against": {"model": against[0], **against[1].to_dict()}} if against else {}


def write_evaluation(
    folder: Path,
    evaluation: EvaluationResult,
    images: int = 12,
    seed: int = 0,
    against: tuple[str, Difference] | None = None,
) -> list[Path]:
    """Write ``metrics.json``, ``per_class.csv`` and ``report.html``, and return their paths.

    Args:
        folder: Folder of the files.
        evaluation: Results to write.
        images: Number of images with the lowest F1, and of random images, that are written to ``images/``.
        seed: Seed of the random choice.
        against: Name of another model and the difference to it.

    Raises:
        InputError: if a file cannot be written.
    """
    from nas.evaluation.report_html import write_report_html
    from nas.evaluation.report_images import write_images

    content = {**evaluation.to_dict(), "confusion": evaluation.confusion.to_dict(), **against_dict(against)}
    numbers = [  # before the images, which a full disk does not take
        atomic_write(folder / "metrics.json", json_text(content, indent=2, allow_nan=True) + "\n"),
        atomic_write(folder / "per_class.csv", class_csv(evaluation.rows)),
    ]
    shown = write_images(folder, evaluation, images, seed)
    return [*numbers, write_report_html(folder / "report.html", evaluation, shown, against)]
