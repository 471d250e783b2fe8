"""Selective quantization: which blocks of a trained detector stay float, by a search whose every reported point was
measured in the serving runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from latency_db.core.target import Target
from nas.core.atomic import atomic_write
from nas.core.estimate import Estimate
from nas.core.reporter import Reporter
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
from nas.quantization.mixed_precision_plot import selective_data
from nas.quantization.model import CalibratedDetector, calibrate_detector
from nas.quantization.ptq import QuantizationSettings, check_request, evaluate_quantized
from nas.quantization.report import QuantizationReport
from search_spaces.errors import InputError

GAINS = ("measured", "predicted")
HEURISTIC = "heads but stems"
INT8 = "all int8"


@dataclass(frozen=True)
class SelectionConfig:
    """How long to look: ``along`` sets of the greedy path, then ``trials`` proposed next to the front; and what is
    picked.

    ``gains``: every block's latency measured by leaving it alone float, or taken from its share of the
    multiply-accumulates; sets that are measured correct either. ``subset``: val images for the distortion (0: all).
    ``max_drop`` in points of mAP, ``budget_ms``: see :func:`choose_point`.
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
    """What a search found: points as measured, the front among them (the fastest first), the float model, named
    points, and what was picked."""

    points: tuple[SelectionPoint, ...]
    front: tuple[SelectionPoint, ...]
    float_map: float
    float_latency: Estimate
    named: Mapping[str, SelectionPoint]
    alone: Mapping[str, tuple[float, float]]
    model: BlockCostModel
    chosen: SelectionPoint | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, the content of ``selective.json``."""

        def said(p: SelectionPoint) -> dict[str, Any]:
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
            "named": {name: said(p) for name, p in self.named.items()},
            "front": [said(p) for p in self.front],
            "points": [said(p) for p in self.points],
            "chosen": self.chosen and said(self.chosen),
        }


def quantize_selectively(
    weights: Path,
    data: DataPair,
    target: Target,
    out: Path,
    settings: QuantizationSettings,
    search: SelectionConfig,
    reporter: Reporter,
) -> tuple[QuantizationReport, SelectionResult]:
    """Search, pick, write ``out`` and its report; the journal, ``selective.json`` and the front's images go into a
    folder of the file's name.

    Killed, the same command goes on.
    """
    check_request(weights, data, target)
    if reason := why_unmeasurable(target):
        raise InputError(
            f"selective quantization for {target}: {reason}",
            "a target that can be timed here",
            "its latency is what is weighed",
        )
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    subject = calibrate_detector(weights, data, target, settings.calibration, folder)
    found = search_float_blocks(
        subject, SelectionMeasurements(subject, data, folder, search.subset), search, settings.rounds, reporter
    )
    write_selection(folder, found, subject, data)
    chosen = choose_point(found.front, found.float_map, search.max_drop, search.budget_ms)
    found = replace(found, chosen=chosen)
    written = write_selection(folder, found, subject, data)
    reporter.note("written: " + ", ".join(map(str, written)))
    lint = subject.write(out, chosen.left_float)
    details = {"search": asdict(search), "front": [points_lost(p, found.float_map) for p in found.front]}
    return evaluate_quantized(
        subject, data, out, lint, "selective", settings, reporter, chosen.left_float, details=details
    ), found


def search_float_blocks(
    subject: CalibratedDetector, probe: SelectionMeasurements, search: SelectionConfig, rounds: int, reporter: Reporter
) -> SelectionResult:
    """The search itself: sensitivities, the greedy path and the heuristic, proposals next to the front, and the front
    once more, side by side."""
    float_map, float_ms = probe.float_metrics().map, probe.float_latency().value
    blocks = subject.blocks.choices
    with reporter.steps("sensitivity") as said:
        alone = {}
        for i, name in enumerate(blocks, 1):
            alone[name] = probe.alone(name)
            said(i, len(blocks), f"{name}: outputs move by {alone[name][0]:.3f}")
    singles = _singles(probe, blocks, search, reporter)
    macs, loss = [float(subject.blocks.by_name[b].macs) for b in blocks], [alone[b][0] for b in blocks]
    points: dict[FloatBlocks, SelectionPoint] = {}

    def model() -> BlockCostModel:
        return fit_cost_model(blocks, macs, loss, [*singles, *points.values()], float_ms)

    none, heuristic = frozenset[str](), subject.blocks.heads_but_stems()
    points |= {p.left_float: p for p in probe.points()}
    points[none] = probe.point(none)
    start = probe.start(search.along, lambda: [heuristic, *spread_along_path(model(), search.along)])
    total = len({none, *start}) + search.trials
    with reporter.steps("sets of blocks") as said:
        for plan in start:
            points[plan] = probe.point(plan)
            said(len(points), max(total, len(points)), _row(points[plan], float_map))
        while (
            len(points) < total and (proposed := propose_blocks(model(), list(points.values()), float_ms)) is not None
        ):
            points[proposed] = probe.point(proposed)
            said(len(points), total, _row(points[proposed], float_map))
    if len(points) < total:
        reporter.note("no set next to the front is predicted to improve it")
    finalists = list(dict.fromkeys([none, heuristic, *(p.left_float for p in selection_front(list(points.values())))]))
    float_latency = probe.float_latency()
    if rounds:
        reporter.note(f"timing {len(finalists)} sets and the float model side by side, {rounds} rounds")
        latencies, float_latency = probe.side_by_side(finalists, rounds)
        points |= {plan: replace(points[plan], latency=ms) for plan, ms in zip(finalists, latencies, strict=True)}
    final = [points[plan] for plan in finalists]
    named = {INT8: points[none], HEURISTIC: points[heuristic]}
    return SelectionResult(
        tuple(points.values()),
        tuple(selection_front(final, float_latency.value)),
        float_map,
        float_latency,
        named,
        alone,
        model(),
    )


def _singles(
    probe: SelectionMeasurements, blocks: Sequence[str], search: SelectionConfig, reporter: Reporter
) -> list[SelectionPoint]:
    """Latency with each block alone float; points that only say that. Nothing where gains are predicted."""
    if search.gains == "predicted":
        return []
    found = []
    with reporter.steps("gain of each block") as said:
        for i, name in enumerate(blocks, 1):
            plan = frozenset({name})
            latency = probe.latency(plan)
            found.append(SelectionPoint(plan, 0.0, 0.0, latency))
            said(i, len(blocks), f"{name} float: {latency.value:.3f} ms")
    return found


def _row(point: SelectionPoint, float_map: float) -> str:
    return f"{len(point.left_float)} blocks float: {point.latency.value:.3f} ms, {points_lost(point, float_map):+.2f} points lost"


def write_selection(
    folder: Path, found: SelectionResult, subject: CalibratedDetector, data: DataPair
) -> tuple[Path, ...]:
    """``selective.json``, ``frontier.html`` and ``frontier.png``."""
    written = atomic_write(folder / "selective.json", json.dumps(found.to_dict(), indent=2) + "\n")
    whole = (found.float_map, found.float_latency)
    about = (subject.artifact.name, str(subject.target), data.name)
    image = selective_data(*about, found.points, found.front, found.named, found.chosen, whole)
    return written, *write_frontier(folder, image)
