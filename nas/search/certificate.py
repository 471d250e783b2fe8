"""The reported latency of a chosen architecture against new measurements in fresh processes, with the time of the steps
around the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from latency_db.core.measurement import Measurement
from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate
from nas.core.text_table import TextTable

TOLERANCE = 0.05
"""Accepted difference between the reported and the measured latency: the half-width that a search's measurements aim
at."""


@dataclass(frozen=True)
class PipelineTimes:
    """Median wall times in ms of the steps around the network, for one image on one CPU thread: reading the file,
    letterboxing, non-maximum suppression."""

    read_ms: float
    prepare_ms: float
    suppress_ms: float
    images: int


@dataclass(frozen=True)
class Certificate:
    """New measurements of one architecture on one target.

    Args:
        name: Name of the pick.
        architecture: Id of the architecture.
        reported: Latency that its file reports.
        measured: New measurements, each in a fresh process.
        parts: Times of the steps around the network; None without an exported model.
    """

    name: str
    architecture: str
    reported: Estimate
    measured: tuple[Measurement, ...]
    parts: PipelineTimes | None = None

    @property
    def median_ms(self) -> float:
        """Median of the medians."""
        return median(m.median_ms for m in self.measured)

    @property
    def spread(self) -> float:
        """Half the range of the medians as a share of their median; 0 for a single measurement."""
        values = [m.median_ms for m in self.measured]
        return (max(values) - min(values)) / 2 / self.median_ms

    @property
    def difference(self) -> float | None:
        """Measured less reported latency as a share of the reported one; None if the targets differ."""
        same = self.reported.target == str(self.measured[0].target)
        return self.median_ms / self.reported.value - 1 if same else None

    @property
    def holds(self) -> bool:
        """Whether the difference, if defined, is within :data:`TOLERANCE` or the spread of the measurements."""
        return self.difference is None or abs(self.difference) <= max(TOLERANCE, self.spread)

    @property
    def verdict(self) -> str:
        """``holds``, ``differs`` or ``new`` (another target), with the problems of the machine while measuring."""
        troubles = sorted({m.verdict for m in self.measured} - {"clean"})
        word = "new" if self.difference is None else "holds" if self.holds else "differs"
        return word + (f" ({', '.join(troubles)})" if troubles else "")

    @property
    def end_to_end_ms(self) -> float | None:
        """Time in ms from the image's file to boxes; None without ``parts``."""
        return (
            None
            if self.parts is None
            else self.parts.read_ms + self.parts.prepare_ms + self.median_ms + self.parts.suppress_ms
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form with all measurements."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "said": self.reported.to_dict(),
            "median_ms": self.median_ms,
            "spread": self.spread,
            "difference": self.difference,
            "verdict": self.verdict,
            "end_to_end_ms": self.end_to_end_ms,
            "parts": None if self.parts is None else vars(self.parts).copy(),
            "measured": [m.to_dict() for m in self.measured],
        }


def write_certificates(path: Path, certificates: Sequence[Certificate]) -> Path:
    """Write ``certificate.json`` atomically."""
    return atomic_write(path, json.dumps([c.to_dict() for c in certificates], indent=2) + "\n")


def certificate_table(certificates: Sequence[Certificate]) -> TextTable:
    """Return the table of reported and measured latency, spread, verdict and the parts, one row each."""
    parts = any(c.parts for c in certificates)
    headers = ["", "architecture", "reported", "measured again", "spread", "difference", "verdict"]
    headers += ["read", "prepare", "network", "suppress", "end to end"] if parts else []
    return TextTable(tuple(headers), tuple(_cells(c, parts) for c in certificates), left=2)


def _cells(c: Certificate, parts: bool) -> tuple[str, ...]:
    how = "" if c.reported.source == "measured" else f" ({c.reported.source})"
    cells = [c.name, c.architecture, f"{c.reported.value:.3f} ms{how}", f"{c.median_ms:.3f} ms", f"± {c.spread:.1%}"]
    cells += ["" if c.difference is None else f"{c.difference:+.1%}", c.verdict]
    if parts and c.parts is None:
        cells += [""] * 5
    elif c.parts is not None:
        times = (c.parts.read_ms, c.parts.prepare_ms, c.median_ms, c.parts.suppress_ms, c.end_to_end_ms or 0.0)
        cells += [f"{ms:.2f} ms" for ms in times]
    return tuple(cells)
