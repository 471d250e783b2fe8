"""The quickstart's search with our sampler against NSGA-II: how many evaluations until the front is as good?

``python -m benchmarks.search_end_to_end --out runs/end-to-end --seeds 5 --trials 100``

Space, data, supernet and images are the quickstart's. Evaluations are recorded: an architecture is asked once,
whichever search asks it, and all searches get the same answer. Accuracy is the supernet's; latency is the
predictor's, fitted to the table of this project's own measurements of yolo-nano (``--table``), so that it does not
change from one run to the next. Hypervolume is of log latency and mAP, bounded by the worst of everything that was
evaluated. Everything is kept in ``--out``: the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.record import Goal, write
from latency_db.core.profiler import Network
from latency_db.database.table_io import read_table
from latency_db.predictor.database import rows_of_measurements
from latency_db.predictor.features import network_features
from latency_db.predictor.model import Predictor
from nas.core.atomic import atomic_write
from nas.core.console_reporter import ConsoleReporter
from nas.core.estimate import Estimate, Objective
from nas.core.pareto import hypervolume
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context, Estimator
from nas.search.quickstart import RESTRICTED, SUPERNET
from nas.search.study import Study
from nas.supernet.weights import load_supernet
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.train_supernet import train_supernet
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES

TABLE = Path(__file__).resolve().parents[1] / "latency_db" / "tables" / "epyc-zen3-onnxruntime-fp32.csv"
RIVALS = ("nsga2", "guided")
COUNTS = (10, 20, 30, 40, 50, 75, 100)


class TableLatency(Estimator):
    """Predicted from a table."""

    name, unit, direction, cheap = "latency_ms", "ms", "min", True

    def __init__(self, context: Context, table: Path) -> None:
        super().__init__(context)
        self.predictor = Predictor.fit(rows_of_measurements(m for _, m in read_table(table).rows))

    def __call__(self, architecture: Architecture) -> Estimate:
        network = Network(architecture, self.context.num_classes, architecture.image_size)
        return Estimate(
            self.name, self.predictor.predict(network_features(network, 1)).ms, self.unit, source="predicted"
        )


class Recorded(Estimator):
    """Another estimator, asked once per architecture; its answers stay in a file."""

    def __init__(self, estimator: Estimator, path: Path) -> None:
        super().__init__(estimator.context)
        self.name = estimator.name  # type: ignore[misc]
        self.unit = estimator.unit  # type: ignore[misc]
        self.direction = estimator.direction  # type: ignore[misc]
        self.rank = estimator.rank  # type: ignore[misc]
        self.cheap = estimator.cheap  # type: ignore[misc]
        self._estimator, self._path = estimator, path
        self.known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, architecture: Architecture) -> Estimate:
        if architecture.id not in self.known:
            self.known[architecture.id] = self._estimator(architecture).value
            atomic_write(self._path, json.dumps(self.known))
        return Estimate(self.name, self.known[architecture.id], self.unit, source="table")


def searched(
    space: SearchSpace, estimators: Sequence[Estimator], sampler: str, seed: int, trials: int
) -> list[tuple[float, float]]:
    """(log latency, mAP) of the candidates in the order of their evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        objectives = [Objective(e.name, e.direction, e.unit) for e in estimators]
        study = Study(Path(folder) / "study.journal", "run", space, objectives, sampler, seed)
        study.run(estimators, trials)
        return [(float(np.log(c["latency_ms"].value)), c["map"].value) for c in study.candidates]


def quickstart_context(
    folder: Path,
    reporter: Reporter,
    eval_images: int,
    data_set: str = "digits@96",
    image_size: int = 96,
    epochs: int = 3,
) -> Context:
    """The quickstart's space, data and supernet, which is trained into ``folder`` unless it is there."""
    space = SPACES["yolo-nano"]
    space = space.restrict({"image_size": (image_size,), **RESTRICTED})
    data = open_training_data(data_set, None, reporter)
    weights = folder / "supernet.safetensors"
    if not weights.exists():
        recipe = Recipe(**{**SUPERNET, "epochs": epochs})
        train_supernet(space, TrainJob(data, recipe, augment=False), weights, reporter)
    return Context(space, len(data.classes), data, supernet=load_supernet(weights)[0], eval_images=eval_images)


def compared(runs: dict[str, list[list[tuple[float, float]]]], trials: int) -> dict[str, Any]:
    """Hypervolume at several counts, and when ours has what NSGA-II has at the end."""
    everything = [point for of_sampler in runs.values() for run in of_sampler for point in run]
    reference = (max(p[0] for p in everything), min(p[1] for p in everything))
    volumes = {
        s: [[hypervolume(run[: n + 1], reference, ("min", "max")) for n in range(len(run))] for run in rs]
        for s, rs in runs.items()
    }
    figure: dict[str, Any] = {"trials": trials, "reference": reference, "hypervolume": {}}
    for sampler, of_seeds in volumes.items():
        figure["hypervolume"][sampler] = {str(n): [v[n - 1] for v in of_seeds] for n in COUNTS if n <= trials}
    goals = [v[-1] for v in volumes["nsga2"]]
    for name, at in (("each_seed", goals), ("mean", [mean(goals)] * len(goals))):
        reached = [
            next((n for n, v in enumerate(ours, 1) if v >= goal), None)
            for ours, goal in zip(volumes["guided"], at, strict=True)
        ]
        figure[f"evaluations_to_nsga2_at_the_end_{name}"] = reached
        figure[f"median_{name}"] = median(trials if n is None else n for n in reached)
    return figure


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Half of the evaluations of NSGA-II."""
    trials = figure["trials"]
    what = f"evaluations until the guided sampler has the hypervolume of NSGA-II after {trials}, median of seeds"
    return [Goal(what, figure["median_each_seed"], f"<= {trials // 2}", "evaluations")]


def main() -> None:
    """Train the supernet, search, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default="digits@96")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--supernet-epochs", type=int, default=3)
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    reporter, folder = ConsoleReporter(), new_folder(args.out)
    context = quickstart_context(folder, reporter, 150, args.data, args.image_size, args.supernet_epochs)
    space = context.space
    estimators: list[Estimator] = [
        Recorded(TableLatency(context, args.table), folder / "latency.json"),
        Recorded(ESTIMATORS["supernet"](context), folder / "map.json"),
    ]
    runs: dict[str, list[list[tuple[float, float]]]] = {}
    for seed in range(args.seeds):
        for sampler in RIVALS:
            runs.setdefault(sampler, []).append(searched(space, estimators, sampler, seed, args.trials))
            reporter.note(f"{sampler}, seed {seed}: {len(estimators[1].known)} architectures evaluated so far")  # type: ignore[attr-defined]
    figure = compared(runs, args.trials)
    print({k: v for k, v in figure.items() if k.startswith(("median", "evaluations"))})
    write("search_end_to_end", figure, goals_of(figure), seeds=range(args.seeds))


if __name__ == "__main__":
    main()
