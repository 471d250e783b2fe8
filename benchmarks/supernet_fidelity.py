"""Does the supernet rank architectures as training each of them alone does?

``python -m benchmarks.supernet_fidelity --out runs/fidelity``

A supernet is trained; ``--architectures`` of its space, spread evenly over the range of MACs (the nearest of 400
random ones, the smallest and the largest), are evaluated with its weights, and each is trained alone from fresh
weights. Figure: Kendall's tau-b between the two mAP50-95, with the 95 % percentile interval of a bootstrap over
architectures; beside it what ranking by MACs alone and by NWOT reaches. An interrupted run resumes with the same
``--out``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmarks.record import Goal, write
from nas.core.architecture_file import Artifact, DataRecord, StudyRecord
from nas.core.console_reporter import ConsoleReporter
from nas.core.paths import new_folder
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.estimators import ESTIMATORS
from nas.estimators.base import Context
from nas.search.quickstart import CHOSEN, RESTRICTED, SUPERNET
from nas.supernet.weights import load_supernet
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import train_detectors
from nas.training.train_supernet import train_supernet
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace
from search_spaces.spaces import SPACES
from search_spaces.trace import trace

DRAWS = 5000


def spread(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """``count`` different architectures at even steps of MACs, smallest first."""
    rng = random.Random(seed)
    pool = {a.id: a for a in (space.smallest, space.largest, *(space.sample(rng) for _ in range(400)))}
    macs = {id_: trace(space.graph(a), 10).macs for id_, a in pool.items()}
    chosen: list[Architecture] = []
    for wanted in np.linspace(min(macs.values()), max(macs.values()), count):
        nearest = min(macs, key=lambda id_: abs(macs[id_] - wanted))
        chosen.append(pool[nearest])
        del macs[nearest]
    return chosen


def tau(a: Sequence[float], b: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Kendall's tau-b and its bootstrap interval."""
    x, y = np.asarray(a), np.asarray(b)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(x), len(x)) for _ in range(DRAWS)]
    values = np.array([kendalltau(x[i], y[i]).statistic for i in draws])
    low, high = np.nanquantile(values, (0.025, 0.975))
    return {"tau": float(kendalltau(x, y).statistic), "interval": [float(low), float(high)]}


def alone(
    architectures: Sequence[Architecture], data: DataPair, recipe: Recipe, folder: Path, reporter: Reporter
) -> list[float]:
    """mAP50-95 of each, trained from fresh weights."""
    record = DataRecord(data.name, data.fingerprint)
    artifacts = [
        Artifact(
            f"alone{i:02d}", a, (), StudyRecord("fidelity", recipe.seed, i, len(architectures)), data.classes, record
        )
        for i, a in enumerate(architectures)
    ]
    return [m.map for m in train_detectors(artifacts, TrainJob(data, recipe, augment=False), folder, reporter)]


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """Kendall's tau of 0.6."""
    return [
        Goal("Kendall's tau of the supernet's mAP with that of separate training", figure["supernet"]["tau"], ">= 0.6")
    ]


def main() -> None:
    """Train, rank, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--data", default="digits@96")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--architectures", type=int, default=14)
    parser.add_argument("--supernet-epochs", type=int, default=10)
    parser.add_argument("--largest-first", type=float, default=SUPERNET["largest_first"])
    parser.add_argument("--epochs", type=int, default=5, help="of each alone")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    reporter = ConsoleReporter()
    space = SPACES["yolo-nano"]
    space = space.restrict({"image_size": (args.image_size,), **RESTRICTED})
    data = open_training_data(args.data, None, reporter)
    path = new_folder(args.out) / "supernet.safetensors"
    if not path.exists():
        recipe = Recipe(
            **{**SUPERNET, "epochs": args.supernet_epochs, "largest_first": args.largest_first, "seed": args.seed}
        )
        train_supernet(space, TrainJob(data, recipe, augment=False), path, reporter)
    context = Context(space, len(data.classes), data, supernet=load_supernet(path)[0])
    architectures = spread(space, args.architectures, args.seed)
    scores = {
        name: [ESTIMATORS[name](context)(a).value for a in architectures] for name in ("supernet", "macs", "nwot")
    }
    truth = alone(
        architectures, data, Recipe(**{**CHOSEN, "epochs": args.epochs, "seed": args.seed + 1}), args.out, reporter
    )
    figure = {
        **{name: tau(values, truth) for name, values in scores.items()},
        "architectures": [
            {"id": a.id, "alone_map": truth[i], **{name: values[i] for name, values in scores.items()}}
            for i, a in enumerate(architectures)
        ],
        "data": args.data,
        "space": "yolo-nano, restricted as in nas quickstart",
        "supernet_recipe": {**SUPERNET, "epochs": args.supernet_epochs, "largest_first": args.largest_first},
        "alone_recipe": {**CHOSEN, "epochs": args.epochs},
    }
    for name in scores:
        print(
            f"{name}: tau {figure[name]['tau']:.3f} ({figure[name]['interval'][0]:.3f}..{figure[name]['interval'][1]:.3f})"
        )
    write("supernet_fidelity", figure, goals_of(figure), seeds=(args.seed,))


if __name__ == "__main__":
    main()
