"""Text of an evaluation: tables for terminals, CSV for programs, and sentences."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nas.core.csv_text import csv_text
from nas.core.estimate import Estimate
from nas.core.text_table import TextTable
from nas.core.units import share
from nas.evaluation.bootstrap import Difference
from nas.inference.coco_metrics import Metrics

if TYPE_CHECKING:
    from nas.evaluation.report import ClassRow


def interval_text(estimate: Estimate) -> str:
    """Format a value with its interval: ``0.452 (0.438–0.466)``, a difference as ``+0.012 (-0.003 to +0.027)``."""
    if estimate.name.endswith("difference"):
        return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def difference_text(found: Difference, a: str, b: str) -> str:
    """Describe the comparison of models ``a`` and ``b`` in one sentence."""
    verdict = "the interval leaves out 0" if found.certain else "could be chance: the interval holds 0"
    return (
        f"{a} - {b}: mAP {interval_text(found.difference)}; {verdict}; {a} is ahead in {found.ahead:.0%} of resamples"
    )


def summary(metrics: Metrics, interval: Estimate) -> tuple[str, str]:
    """Return COCO's numbers as two lines of text."""
    m = metrics
    sizes, recalls = (
        "  ".join(f"{name} {share(value)}" for name, value in named)
        for named in (
            (("small", m.map_small), ("medium", m.map_medium), ("large", m.map_large)),
            (("AR1", m.ar1), ("AR10", m.ar10), ("AR100", m.ar100)),
        )
    )
    first = f"  mAP {interval_text(interval)}  mAP50 {m.map50:.3f}  mAP75 {m.map75:.3f}"
    return first, f"  AP {sizes}  {recalls}"


def class_table(rows: tuple[ClassRow, ...], best: bool = False) -> TextTable:
    """Return a table with one line per class.

    With ``best``, it has the best F1 and its score too, which do not fit on a narrow terminal.
    """
    head = (
        "class",
        "AP",
        "AP50",
        "small",
        "medium",
        "large",
        "boxes",
        "images",
        *(("best F1", "at score") if best else ()),
    )
    lines = [
        (r.name, *map(share, (r.ap, r.ap50, r.ap_small, r.ap_medium, r.ap_large)), str(r.boxes), str(r.images))
        + (tuple(map(share, (r.f1, r.best_score))) if best else ())
        for r in rows
    ]
    return TextTable(head, tuple(lines))


def class_csv(rows: tuple[ClassRow, ...]) -> str:
    """Return ``per_class.csv``: every field of :class:`ClassRow` with full precision, empty for None (:func:`csv_text`)."""
    return csv_text(list(asdict(rows[0])), map(asdict, rows))
