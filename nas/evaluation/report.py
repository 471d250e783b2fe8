"""What an evaluation says beyond one number, worked out once for tables, files and the page: classes, curves,
confusions, images."""

from __future__ import annotations

import json
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


@dataclass(frozen=True)
class ClassRow:
    """A class: AP (0..1) over IoU 0.50:0.95, at 0.50, and of each size; objects marked and images that have any;
    the score threshold of the best F1 at IoU 0.50, with what F1, precision and recall are there. None: nothing to
    find, or nothing found."""

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
    """One detector on one data set. ``curves``: of the classes that have objects; ``mean``: of all of them;
    ``verdicts``: per image, in its order."""

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
        """JSON-ready: the metrics as ``nas train`` keeps them, the interval, the classes and what it was made with."""
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
    """Evaluate ``detections``. ``iou`` and ``score`` are those of the confusions; by default the score at which the
    mean F1 of the classes is best."""
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
    """The comparison with another model, by its name, as a part of the JSON; nothing for None."""
    return {"against": {"model": against[0], **against[1].to_dict()}} if against else {}


def write_evaluation(
    folder: Path,
    evaluation: EvaluationResult,
    images: int = 12,
    seed: int = 0,
    against: tuple[str, Difference] | None = None,
) -> list[Path]:
    """``metrics.json``, ``per_class.csv``, ``report.html`` (gives their paths) and ``images/``: so many of the
    worst and as many at random.

    ``against``: name of another model and the difference to it.
    """
    from nas.evaluation.report_html import write_report_html
    from nas.evaluation.report_images import write_images

    content = {**evaluation.to_dict(), "confusion": evaluation.confusion.to_dict(), **against_dict(against)}
    shown = write_images(folder, evaluation, images, seed)
    return [
        atomic_write(folder / "metrics.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n"),
        atomic_write(folder / "per_class.csv", class_csv(evaluation.rows)),
        write_report_html(folder / "report.html", evaluation, shown, against),
    ]
