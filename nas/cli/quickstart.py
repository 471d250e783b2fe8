"""``nas quickstart``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.core.architecture_file import Artifact
    from nas.core.estimate import Candidate
    from nas.core.reporter import Reporter
    from nas.data.source import DataPair
    from nas.search.settings import SearchSettings

EXAMPLES = """\
  nas quickstart --out runs/quickstart
  nas quickstart --out runs/mine --data shop/ --image-size 320      (the same steps on a data set of one's own)"""

# Meant for about ten minutes of two CPU cores: up to 1.7 M parameters and 58 MMACs at 96 px, 4.5e7 architectures.
RESTRICTED = (
    *("stage1_depth=1", "stage2_depth=1,2", "stage3_depth=1,2", "stage4_depth=1"),
    *("neck1_depth=1", "neck2_depth=1", "neck3_depth=1", "neck4_depth=1"),
)
SUPERNET: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "cls_weight": 2.0, "largest_first": 0.7}
CHOSEN: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "cls_weight": 2.0}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/quickstart"),
        help="folder of the run (default %(default)s); an interrupted one goes on",
    )
    parser.add_argument("--data", default="digits@96", help="data set (default %(default)s)")
    parser.add_argument("--image-size", type=int, default=96, help="default %(default)s")
    parser.add_argument("--trials", type=int, default=40, help="architectures to try (default %(default)s)")
    parser.add_argument("--supernet-epochs", type=int, default=3, help="default %(default)s")
    parser.add_argument(
        "--epochs",
        type=int,
        default=4,
        help="of each chosen architecture, from the supernet's weights (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Data, supernet, search, S/M/L, training, export, one image, one table."""
    import time

    from nas.core.console_reporter import ConsoleReporter
    from nas.search.report.front_files import results_table
    from nas.search.run import search
    from nas.search.settings import SearchSettings
    from nas.training.train import open_training_data

    start = time.monotonic()
    reporter = ConsoleReporter()
    folder = args.out
    settings = _settings(args)
    if (folder / "run.json").exists():
        reporter.note(f"going on with the run in {folder}")
        settings = SearchSettings.read(folder)

    reporter.note("1/4  supernet, then a search over candidates that are each measured on this machine")
    result = search(settings, folder, reporter)
    data = open_training_data(settings.data or args.data, settings.limit, reporter)
    reporter.note("2/4  training the chosen, from the supernet's weights")
    trained = _train(args, settings, result.artifacts, data, reporter)
    reporter.note("3/4  exporting to ONNX, checked against torch")
    _export(folder, result.artifacts, reporter)
    reporter.note("4/4  one image")
    _predict(folder, result.artifacts[-1], data)

    table = results_table(trained, ["params", "macs", "latency_ms", "map"])
    reporter.table(table)
    (folder / "results.md").write_text(table.markdown())
    reporter.note(f"{time.monotonic() - start:.0f} s; see {folder}/frontier.html, frontier.png, prediction.png")
    return 0


def _settings(args: argparse.Namespace) -> SearchSettings:
    from nas.cli.options import fixed_values
    from nas.search.settings import SearchSettings
    from search_spaces.spaces import SPACES

    settings = SearchSettings(
        fixed=fixed_values(SPACES["yolo-nano"], [f"image_size={args.image_size}", *RESTRICTED]),
        data=args.data,
        trials=args.trials,
        seed=args.seed,
        recipe={"epochs": args.supernet_epochs, **SUPERNET},
        augment=False,
        eval_images=150,
    )
    settings.check()
    return settings


def _train(
    args: argparse.Namespace,
    settings: SearchSettings,
    artifacts: Sequence[Artifact],
    data: DataPair,
    reporter: Reporter,
) -> list[tuple[str, Candidate]]:
    from nas.training.recipe import Recipe
    from nas.training.train import final_candidate, train_detectors

    recipe = Recipe(epochs=args.epochs, seed=settings.seed, **CHOSEN)
    metrics = train_detectors(
        artifacts, data, recipe, args.out, reporter, args.out / "supernet.safetensors", augment=False
    )
    return [(artifact.name, final_candidate(artifact, m)) for artifact, m in zip(artifacts, metrics, strict=True)]


def _export(folder: Path, artifacts: Sequence[Artifact], reporter: Reporter) -> None:
    from nas.export.onnx import export_onnx, metadata_of
    from nas.supernet.weights import load_detector

    for artifact in artifacts:
        detector, _, _ = load_detector(folder / f"{artifact.name}.safetensors")
        size = int(artifact.architecture["image_size"])
        worst = export_onnx(
            detector.deploy(),
            folder / f"{artifact.name}.onnx",
            size,
            metadata_of(artifact.architecture, artifact.classes, size),
        )
        reporter.note(f"{artifact.name}.onnx: largest difference to torch {worst:.1e}")


def _predict(folder: Path, artifact: Artifact, data: DataPair) -> None:
    from nas.inference.model import load

    load(folder / f"{artifact.name}.onnx").predict(data.val.samples[0].path).save(folder / "prediction.png")
