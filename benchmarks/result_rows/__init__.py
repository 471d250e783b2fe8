"""Rows of the results table beyond the goals: for each result a title and the figures that have no goal."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.result_rows.form import Theme
from benchmarks.result_rows.latency import LATENCY
from benchmarks.result_rows.quantization import QUANTIZATION
from benchmarks.result_rows.search import QUICKSTART, SEARCH
from benchmarks.result_rows.training import SUPERNET, TRAINING

THEMES: Mapping[str, Theme] = {
    "Quickstart": QUICKSTART,
    "Search": SEARCH,
    "Supernet and training-free scores": SUPERNET,
    "Training": TRAINING,
    "Quantization": QUANTIZATION,
    "Latency": LATENCY,
}
"""Theme -> its results."""
