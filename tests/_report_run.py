"""A finished run without training and measuring: figures from formulas, with known effects of every choice."""

from __future__ import annotations

import math
import random
from pathlib import Path

from nas.core.architecture_file import Artifact, DataRecord, StudyRecord, write_artifact
from nas.core.budgets import parse_budgets
from nas.core.estimate import Estimate, Objective
from nas.core.pareto import Archive
from nas.core.reporter import Reporter
from nas.estimators.function import Function
from nas.search.api import search
from nas.search.report.front_files import Front, write_front
from nas.search.selection import select
from nas.search.settings import SearchSettings
from search_spaces.architecture import Architecture, Value
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

CLASSES = ("cat", "<script>alert('class')</script>", 'a "quoted" & odd class')
FIXED: dict[str, tuple[Value, ...]] = {
    "image_size": (96,),
    "stage1_block": ("qsp",),
    "stage1_depth": (1,),
    "stage3_block": ("qsp",),
    "stage4_block": ("qsp",),
    "stage4_depth": (1,),
    **{f"neck{i}_{part}": (value,) for i in (1, 2, 3, 4) for part, value in (("depth", 1), ("hidden", 24))},
}
TARGET = "onnxruntime:fp32"
BUDGETS = "S=4ms,M=6ms,L=9ms"


def space() -> SearchSpace:
    """The restricted space of the run."""
    return SPACES["yolo-nano"].restrict(FIXED)


def latency_of(a: Architecture) -> float:
    """Latency in ms without noise: a product of one factor per choice, block types included."""
    factors = {"qsp": 1.0, "qci": 1.2, "c2f": 0.9}
    size = sum(float(a[f"stage{i}_hidden"]) * float(a[f"stage{i}_depth"]) for i in (1, 2, 3, 4))
    return 0.6 * float(a["width"]) ** 0.5 * (size / 100) ** 0.4 * float(a["head_width"]) ** 0.3 * (
        factors[str(a["stage2_block"])] * 1.6
    )  # fmt: skip


def accuracy_of(a: Architecture) -> float:
    """mAP without noise: grows with the logarithm of the latency and by a bonus of one block type."""
    bonus = {"qsp": 0.0, "qci": 0.05, "c2f": 0.01}[str(a["stage2_block"])]
    return 0.2 + 0.18 * math.log(latency_of(a)) + bonus


class _Noisy(Function):
    """A function of an architecture with noise and an interval."""

    def __init__(self, name: str, direction: str, unit: str, half: float, relative: bool) -> None:
        super().__init__(name, latency_of if name == "latency_ms" else accuracy_of, direction, unit, rank=1)
        self._half, self._relative = half, relative

    def __call__(self, architecture: Architecture) -> Estimate:
        value = self._function(architecture)
        half = self._half * (value if self._relative else 1.0)
        value += random.Random(architecture.id + self.name).gauss(0, half / 2.5)
        source, target = ("measured", TARGET) if self.unit else ("predicted", None)
        return Estimate(self.name, value, self.unit, value - half, value + half, source, target)


def _cost(part: str, architecture: Architecture) -> float:
    from search_spaces.trace import trace

    return float(getattr(trace(space().graph(architecture), len(CLASSES), 96), part))


def make_run(folder: Path, trials: int = 48, name: str = "made", finished: bool = True) -> Path:
    """Write a run of a search with :data:`CLASSES`; return its folder.

    ``finished``: with S, M and L; else as a search that is under way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = SearchSettings(
        fixed=FIXED, data="digits@96", target=TARGET, trials=trials, budgets=BUDGETS, sampler="random", name=name,
        latency_db=str(folder / "latency.sqlite"),
    )  # fmt: skip
    settings.write(folder)
    latency, accuracy = _Noisy("latency_ms", "min", "ms", 0.01, True), _Noisy("map", "max", "", 0.01, False)
    costs = [Function(part, lambda a, part=part: _cost(part, a), "min") for part in ("params", "macs")]  # type: ignore[misc]
    study = search(
        space(), [latency, accuracy], trials, others=costs, sampler="random", storage=folder / "study.journal",
        name=name, reporter=Reporter(),
    )  # fmt: skip
    if finished:
        finish(folder, study.candidates, study.objectives)
    log = ["step,epoch,cls,iou,dfl,lr", *(f"{i},{i // 10},{2 / (1 + i / 9):.4f},1.1,0.9,0.01" for i in range(1, 41))]
    (folder / "supernet.log.csv").write_text("\n".join(log) + "\n")
    return folder


def finish(folder: Path, candidates: list, objectives: tuple[Objective, ...]) -> None:  # type: ignore[type-arg]
    """Choose S, M and L, and write their files and the front."""
    budgets = parse_budgets(BUDGETS)
    selection = select(candidates, "latency_ms", "map", budgets)
    archive = Archive(objectives)
    for candidate in candidates:
        archive.add(candidate)
    for pick in selection:
        record = StudyRecord("made", 0, pick.candidate.trial, len(candidates))
        data = DataRecord("digits@96", "0123456789abcdef")
        c = pick.candidate
        artifact = Artifact(pick.name, c.architecture, c.estimates, record, CLASSES, data, "fp32")
        write_artifact(folder / f"{pick.name}.json", artifact)
    chosen = tuple((p.name, p.candidate.id) for p in selection)
    notes = {"selection": {"budgets": BUDGETS, "at_least": None}}
    front = Front(objectives, archive.front, chosen, archive.hypervolume, archive.reference, (), notes)
    write_front(folder, front)
