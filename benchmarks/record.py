"""What every benchmark writes: the figure, how it was got, and on what."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from latency_db.core.device import DeviceFingerprint
from latency_db.core.measurement import now
from nas.core.atomic import atomic_write

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("torch", "onnxruntime", "optuna", "numpy", "faster-coco-eval")


@dataclass(frozen=True)
class Goal:
    """A figure and the goal that was set for it before it was measured."""

    what: str
    """What the figure is, readable without its file."""
    value: float
    goal: str
    """``"<= NUMBER"`` or ``">= NUMBER"``, in the unit of ``value``."""
    unit: str = ""
    """What follows the number in a table, such as ``s`` or ``×``; a ``share`` is shown in percent."""

    def __post_init__(self) -> None:
        sign, _, bound = self.goal.partition(" ")
        if sign not in ("<=", ">="):
            raise ValueError(f"goal {self.goal!r} of {self.what}; expected '<= NUMBER' or '>= NUMBER'")
        float(bound)

    @property
    def bound(self) -> float:
        """The number of the goal."""
        return float(self.goal[3:])

    @property
    def met(self) -> bool:
        """Whether the value reaches the goal; a value that is not a number does not."""
        return self.value <= self.bound if self.goal.startswith("<=") else self.value >= self.bound

    def to_dict(self) -> dict[str, Any]:
        """The entry in ``results/*.json``."""
        return {"what": self.what, "value": self.value, "unit": self.unit, "goal": self.goal, "met": self.met}


def write(
    name: str,
    figure: dict[str, Any],
    goals: Sequence[Goal],
    seeds: Sequence[int] = (0,),
    machine: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``results/<name>.json``: figure, goals, command, machine, versions, seeds, date.

    Args:
        name: of the file, without its ending.
        figure: what was measured.
        goals: each with its figure; empty for a benchmark without goals. A benchmark that has goals computes them
            from ``figure`` in a function ``goals_of(figure)``, which a test compares with the file.
        seeds: of the repetitions.
        machine: the one that a bench was measured on (:attr:`nas.bench.results.Bench.machine`), where that may be
            another, or a GPU took part.
    """
    here = DeviceFingerprint.read().to_dict()
    device = dict(machine["device"]) if machine else here
    versions: dict[str, Any] = {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}}
    if machine and {**device, "accelerator": "", "driver": ""} != {**here, "accelerator": "", "driver": ""}:
        versions = {"python": machine["python"], "runtime": machine["runtime"]}
    record = {
        "figure": figure,
        "goals": [goal.to_dict() for goal in goals],
        "command": "python -m " + " ".join([f"benchmarks.{Path(sys.argv[0]).stem}", *map(_shown, sys.argv[1:])]),
        "machine": device,
        "versions": versions,
        "seeds": list(seeds),
        "date": now(),
    }
    path = atomic_write(RESULTS / f"{name}.json", json.dumps(record, indent=2) + "\n")
    print(f"written: {path}")
    return path


def _shown(argument: str) -> str:
    """An argument; of a path that leads out of here, the name."""
    outside = argument.startswith("/") or ".." in Path(argument).parts
    return Path(argument).name if outside else argument


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def median_interval(values: Sequence[float], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval over independent values."""
    rng = np.random.default_rng(seed)
    data = np.asarray(values, dtype=np.float64)
    medians = np.median(rng.choice(data, (draws, len(data))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(np.median(data)), float(low), float(high)
