"""Selective quantization: which blocks of a trained detector are kept in floating point.

1. Sensitivity: the distortion of the outputs with each block alone in int8.
2. Gain: the latency with each block alone in floating point, or its share of the multiply-accumulates.
3. Path: sets along the greedy path (most distortion removed per millisecond) and the known heuristic are measured.
4. Local search: the neighbour of the front that is predicted to add most hypervolume is measured, ``trials`` times.
5. The front, all int8, the heuristic and the float model are measured again in interleaved rounds; one is chosen.

Every reported point was evaluated and timed in the serving runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
from nas.core.units import change_of_map
from nas.data.source import DataPair
from nas.plotting.frontier import write_frontier
from nas.profiling.interleaved import why_unmeasurable
from nas.quantization.block_selection import (
    BlockCostModel,
    FloatBlocks,
    SelectionPoint,
    choose_point,
    fit_cost_model,
    points_lost,
    propose_blocks,
    selection_front,
    spread_along_path,
)
from nas.quantization.measurements import SelectionMeasurements
from nas.quantization.mixed_precision_plot import SelectionPlot, selective_data
from nas.quantization.model import CalibratedDetector, calibrate_detector
from nas.quantization.ptq import QuantizationRequest, QuantizedFile, evaluate_quantized, replaced_at_end
from nas.quantization.report import QuantizationReport
from search_spaces.errors import InputError

GAINS = ("measured", "predicted")
HEURISTIC = "heads but stems"
INT8 = "all int8"


@dataclass(frozen=True)
class SelectionConfig:
    """How long to search, and which point to choose.

    Attributes:
        along: sets measured along the greedy path.
        trials: sets proposed next to the front.
        gains: latency gain of each block, ``measured`` by keeping it alone in floating point or ``predicted`` from
            its share of the multiply-accumulates; measured sets correct both.
        subset: val images for the distortion, 0 for all.
        max_drop: points of mAP that may be lost (:func:`choose_point`).
        budget_ms: largest latency (:func:`choose_point`).
    """

    along: int = 8
    trials: int = 16
    gains: str = "measured"
    subset: int = 100
    max_drop: float | None = None
    budget_ms: float | None = None

    def __post_init__(self) -> None:
        if self.gains not in GAINS:
            raise InputError(f"gains {self.gains!r}", " or ".join(GAINS))
        if min(self.along, self.trials, self.subset) < 0 or (self.budget_ms is not None and self.budget_ms <= 0):
            raise InputError(
                f"a selection of {self.along} + {self.trials} sets within {self.budget_ms} ms",
                "numbers from 0, a budget above it",
            )


@dataclass(frozen=True)
class SelectionResult:
    """The result of a search.

    Attributes:
        points: all measured sets.
        front: the Pareto front among the finalists, fastest first.
        float_map: mAP50-95 of the float model.
        float_latency: of the float model.
        named: all int8, and the heuristic.
        alone: block -> distortion and mAP on the subset with this block alone in int8.
        model: the fitted costs.
        chosen: the chosen point.
    """

    points: tuple[SelectionPoint, ...]
    front: tuple[SelectionPoint, ...]
    float_map: float
    float_latency: Estimate
    named: Mapping[str, SelectionPoint]
    alone: Mapping[str, tuple[float, float]]
    model: BlockCostModel
    chosen: SelectionPoint | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the content of ``selective.json``."""

        def point(p: SelectionPoint) -> dict[str, Any]:
            return {**p.to_dict(), "drop": points_lost(p, self.float_map)}

        blocks = {
            name: {
                "distortion": self.alone[name][0],
                "map_subset": self.alone[name][1],
                "cost_ms": float(self.model.cost_ms[i]),
            }
            for i, name in enumerate(self.model.blocks)
        }
        return {
            "float": {"map": self.float_map, "latency": self.float_latency.to_dict()},
            "blocks": blocks,
            "named": {name: point(p) for name, p in self.named.items()},
            "front": [point(p) for p in self.front],
            "points": [point(p) for p in self.points],
            "chosen": self.chosen and point(self.chosen),
        }


def quantize_selectively(
    request: QuantizationRequest, search: SelectionConfig, reporter: Reporter
) -> tuple[QuantizationReport, SelectionResult]:
    """Search, choose a point, write its file and its report.

    The folder of the file's name gets the journal, ``selective.json`` and the images of the front. After a kill the
    same command resumes.

    Raises:
        InputError: if the request does not fit, the target cannot be timed here, or no point meets the bounds.
    """
    request.check()
    if reason := why_unmeasurable(request.target):
        raise InputError(
            f"selective quantization for {request.target}: {reason}",
            "a target that can be timed here",
            "a selection weighs accuracy against its latency",
        )
    folder, data, settings = request.folder, request.data, request.settings
    folder.mkdir(parents=True, exist_ok=True)
    detector = calibrate_detector(
        request.weights, data, request.target, settings.calibration, folder, reporter=reporter
    )
    measurements = SelectionMeasurements(detector, data, folder, search.subset)
    found = search_float_blocks(detector, measurements, search, settings.rounds, reporter)
    write_selection(folder, found, detector, data)
    chosen = choose_point(found.front, found.float_map, search.max_drop, search.budget_ms)
    found = replace(found, chosen=chosen)
    written = write_selection(folder, found, detector, data)
    reporter.note("written: " + ", ".join(map(str, written)))
    details = {"search": asdict(search), "front": [points_lost(p, found.float_map) for p in found.front]}
    with replaced_at_end(request) as unfinished:
        lint = detector.write(unfinished.out, chosen.kept_float)
        file = QuantizedFile("selective", lint, chosen.kept_float, details=details)
        return evaluate_quantized(detector, unfinished, file, reporter), found


def search_float_blocks(
    detector: CalibratedDetector,
    measurements: SelectionMeasurements,
    search: SelectionConfig,
    rounds: int,
    reporter: Reporter,
) -> SelectionResult:
    """Search for sets of blocks to keep in floating point (the steps at the head of this module).

    Args:
        detector: whose blocks are selected.
        measurements: of its sets.
        search: how long to search.
        rounds: interleaved rounds of the finalists, 0 for none.
        reporter: receives the progress.
    """
    return _BlockSearch(detector, measurements, search, reporter).run(rounds)


class _BlockSearch:
    """The state of one search: what was measured so far."""

    def __init__(
        self,
        detector: CalibratedDetector,
        measurements: SelectionMeasurements,
        search: SelectionConfig,
        reporter: Reporter,
    ) -> None:
        self.measurements, self.search, self.reporter = measurements, search, reporter
        reporter.note("evaluating and timing the float model")
        self.float_map, self.float_ms = measurements.float_metrics().map, measurements.float_latency().value
        self.blocks = detector.blocks.choices
        self.macs = [float(detector.blocks.by_name[name].macs) for name in self.blocks]
        self.heuristic = detector.blocks.heads_but_stems()
        self.alone: dict[str, tuple[float, float]] = {}
        self.gains: list[SelectionPoint] = []
        self.points: dict[FloatBlocks, SelectionPoint] = {}

    def run(self, rounds: int) -> SelectionResult:
        """All steps."""
        self._measure_sensitivity()
        if self.search.gains == "measured":
            self._measure_gains()
        self._measure_sets()
        return self._compare_finalists(rounds)

    def _model(self) -> BlockCostModel:
        loss = [self.alone[name][0] for name in self.blocks]
        return fit_cost_model(self.blocks, self.macs, loss, [*self.gains, *self.points.values()], self.float_ms)

    def _measure_sensitivity(self) -> None:
        with self.reporter.steps("sensitivity") as update:
            update(0, len(self.blocks), "")
            for i, name in enumerate(self.blocks, 1):
                self.alone[name] = self.measurements.alone(name)
                update(i, len(self.blocks), f"{name}: distortion {self.alone[name][0]:.3f}")

    def _measure_gains(self) -> None:
        """Measure the latency with each block alone in floating point; these points have no accuracy."""
        with self.reporter.steps("gain of each block") as update:
            update(0, len(self.blocks), "")
            for i, name in enumerate(self.blocks, 1):
                blocks = frozenset({name})
                latency = self.measurements.latency(blocks)
                self.gains.append(SelectionPoint(blocks, 0.0, 0.0, latency))
                update(i, len(self.blocks), f"{name} in floating point: {latency.value:.3f} ms")

    def _measure_sets(self) -> None:
        none = frozenset[str]()
        self.points = {p.kept_float: p for p in self.measurements.points()}
        self.points[none] = self.measurements.point(none)
        along = self.search.along
        start = self.measurements.start(along, lambda: [self.heuristic, *spread_along_path(self._model(), along)])
        total = len({none, *start}) + self.search.trials
        with self.reporter.steps("sets of blocks") as update:
            update(0, total, "")
            for blocks in start:
                self.points[blocks] = self.measurements.point(blocks)
                update(len(self.points), max(total, len(self.points)), _row(self.points[blocks], self.float_map))
            while len(self.points) < total:
                blocks_or_none = propose_blocks(self._model(), list(self.points.values()), self.float_ms)
                if blocks_or_none is None:
                    self.reporter.note("no set next to the front is predicted to improve it")
                    break
                self.points[blocks_or_none] = self.measurements.point(blocks_or_none)
                update(len(self.points), total, _row(self.points[blocks_or_none], self.float_map))

    def _compare_finalists(self, rounds: int) -> SelectionResult:
        none, points = frozenset[str](), self.points
        front = selection_front(list(points.values()))
        finalists = list(dict.fromkeys([none, self.heuristic, *(p.kept_float for p in front)]))
        float_latency = self.measurements.float_latency()
        if rounds:
            with self.reporter.steps(f"latency of {len(finalists)} sets and the float model, rounds") as update:
                latencies, float_latency = self.measurements.side_by_side(finalists, rounds, update)
            for blocks, latency in zip(finalists, latencies, strict=True):
                points[blocks] = replace(points[blocks], latency=latency)
        return SelectionResult(
            tuple(points.values()),
            tuple(selection_front([points[blocks] for blocks in finalists], float_latency.value)),
            self.float_map,
            float_latency,
            {INT8: points[none], HEURISTIC: points[self.heuristic]},
            self.alone,
            self._model(),
        )


def _row(point: SelectionPoint, float_map: float) -> str:
    change = change_of_map(points_lost(point, float_map))
    return f"{len(point.kept_float)} blocks in floating point: {point.latency.value:.3f} ms, {change}"


def write_selection(
    folder: Path, found: SelectionResult, detector: CalibratedDetector, data: DataPair
) -> tuple[Path, ...]:
    """Write ``selective.json``, ``frontier.html`` and ``frontier.png``; return their paths."""
    written = atomic_write(folder / "selective.json", json.dumps(found.to_dict(), indent=2) + "\n")
    plot = SelectionPlot(
        detector.artifact.name,
        str(detector.target),
        data.name,
        found.points,
        found.front,
        found.named,
        found.chosen,
        found.float_map,
        found.float_latency,
    )
    return written, *write_frontier(folder, selective_data(plot))
