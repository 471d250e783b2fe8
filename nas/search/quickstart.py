"""The quickstart: supernet, search, S, M and L trained and exported, in minutes on a CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core.architecture_file import Artifact
from nas.core.estimate import Candidate
from nas.core.reporter import Reporter
from nas.core.text_table import TextTable
from nas.data.source import DataPair
from nas.export.onnx import export_onnx, metadata_of
from nas.inference.model import load
from nas.search.plan import SearchPlan
from nas.search.report.front_files import results_table
from nas.search.run import search
from nas.search.settings import SearchSettings
from nas.supernet.weights import load_detector
from nas.training.data import open_training_data
from nas.training.job import TrainJob
from nas.training.recipe import Recipe
from nas.training.train_detector import final_candidate, train_detectors
from search_spaces.image_size import SizeField
from search_spaces.spaces import SPACES

RESTRICTED = {
    "stage1_depth": (1,),
    "stage2_depth": (1, 2),
    "stage3_depth": (1, 2),
    "stage4_depth": (1,),
    **{f"neck{i}_depth": (1,) for i in (1, 2, 3, 4)},
}
"""Depths of the quickstart's space: up to 1.7 M parameters and 58 MMACs at 96 px, 4.5e7 architectures."""
SUPERNET: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "cls_weight": 2.0, "largest_first": 0.7}
"""Recipe of the supernet."""
CHOSEN: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "cls_weight": 2.0}
"""Recipe of S, M and L."""


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart.

    Attributes:
        data: data set.
        image_size: of the images.
        trials: architectures to evaluate.
        supernet_epochs: epochs of the supernet.
        epochs: epochs of each chosen architecture, from the supernet's weights.
        seed: seed of everything random.
    """

    data: str = "digits@96"
    image_size: SizeField = SizeField(96)
    trials: int = 40
    supernet_epochs: int = 3
    epochs: int = 4
    seed: int = 0

    def search_settings(self) -> SearchSettings:
        """Return the settings of the search. Raises InputError for an image size that the space lacks."""
        space = SPACES["yolo-nano"].restrict({"image_size": (self.image_size.value,), **RESTRICTED})
        settings = SearchSettings(
            fixed={name: space[name].values for name in ("image_size", *RESTRICTED)},
            data=self.data,
            trials=self.trials,
            seed=self.seed,
            recipe={"epochs": self.supernet_epochs, **SUPERNET},
            augment=False,
            eval_images=150,
        )
        SearchPlan.parse(settings).check()
        return settings


@dataclass(frozen=True)
class QuickstartResult:
    """S, M and L after training, with mAP and latency, and the seconds that the quickstart took."""

    trained: tuple[tuple[str, Candidate], ...]
    table: TextTable
    seconds: float


def quickstart(config: QuickstartConfig, folder: Path, reporter: Reporter) -> QuickstartResult:
    """Run the quickstart in ``folder``, or resume it; writes weights, ONNX files, one image and ``results.md``.

    Raises InputError for settings that do not go together, and Diverged if a training does.
    """
    start = time.monotonic()
    settings = config.search_settings()
    if (folder / "run.json").exists():
        reporter.note(f"resuming the run in {folder}")
        settings = SearchSettings.read(folder)
    reporter.note("1/4  supernet, then a search over candidates that are each measured on this machine")
    result = search(settings, folder, reporter)
    data = open_training_data(settings.data or config.data, settings.limit, reporter)
    reporter.note("2/4  training S, M and L from the supernet's weights")
    trained = _train(config, settings, result.artifacts, data, folder, reporter)
    reporter.note("3/4  exporting to ONNX, checked against torch")
    _export(folder, result.artifacts, reporter)
    reporter.note("4/4  one image")
    load(folder / f"{result.artifacts[-1].name}.onnx").predict(data.val.samples[0].path).save(folder / "prediction.png")
    table = results_table(trained, ["params", "macs", "latency_ms", "map"])
    (folder / "results.md").write_text(table.markdown())
    return QuickstartResult(tuple(trained), table, time.monotonic() - start)


def _train(
    config: QuickstartConfig,
    settings: SearchSettings,
    artifacts: Sequence[Artifact],
    data: DataPair,
    folder: Path,
    reporter: Reporter,
) -> list[tuple[str, Candidate]]:
    recipe = Recipe(epochs=config.epochs, seed=settings.seed, **CHOSEN)
    job = TrainJob(data, recipe, init=folder / "supernet.safetensors", augment=False)
    metrics = train_detectors(artifacts, job, folder, reporter)
    return [(artifact.name, final_candidate(artifact, m)) for artifact, m in zip(artifacts, metrics, strict=True)]


def _export(folder: Path, artifacts: Sequence[Artifact], reporter: Reporter) -> None:
    for artifact in artifacts:
        detector, _, _ = load_detector(folder / f"{artifact.name}.safetensors")
        size = artifact.architecture.image_size
        metadata = metadata_of(artifact.architecture, artifact.classes, size)
        worst = export_onnx(detector.deploy(), folder / f"{artifact.name}.onnx", size, metadata)
        reporter.note(f"{artifact.name}.onnx: largest difference to torch {worst:.1e}")
