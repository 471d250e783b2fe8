"""``nas quickstart``."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
  nas quickstart --out runs/quickstart
  nas quickstart --out runs/mine --data shop/ --image-size 320      (the same steps on a data set of one's own)"""

# What fits ten minutes of two CPU cores.
WIDTHS = "width=16,24"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs/quickstart"), help="folder of the run (default %(default)s); an interrupted one goes on"
    )
    parser.add_argument("--data", default="digits@96", help="data set (default %(default)s)")
    parser.add_argument("--image-size", type=int, default=96, help="default %(default)s")
    parser.add_argument("--trials", type=int, default=64, help="architectures to try (default %(default)s)")
    parser.add_argument("--supernet-epochs", type=int, default=3, help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=5, help="of each chosen architecture, from the supernet's weights (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Data, supernet, search, S/M/L, training, export, one picture, one table."""
    import time

    from nas.cli.options import fixed_values
    from nas.console import Display
    from nas.estimate import Candidate
    from nas.export import export_onnx, metadata_of
    from nas.predict import Predictor, write_drawn
    from nas.report.tables import results_table
    from nas.training.recipe import Recipe
    from nas.weights import load_detector, load_supernet
    from nas.workflow import SearchSettings, final_candidate, open_cached, search, train_detector
    from search_spaces.spaces import SPACES

    start = time.monotonic()
    display = Display()
    folder = args.out
    settings = SearchSettings(
        fixed=fixed_values(SPACES["yolo-nano"], [f"image_size={args.image_size}", WIDTHS]),
        data=args.data,
        trials=args.trials,
        seed=args.seed,
        recipe={"epochs": args.supernet_epochs, "batch_size": 32, "lr": 3e-3},
        augment=False,
        eval_images=200,
    )
    settings.check()
    if (folder / "run.json").exists():
        display.note(f"going on with the run in {folder}")
        settings = SearchSettings.read(folder)

    display.note("1/4  supernet, then a search over candidates that are each measured on this machine")
    result = search(settings, folder, display)

    display.note("2/4  training the chosen, from the supernet's weights")
    data = open_cached(settings.data or args.data, settings.limit, display)
    supernet, _, _ = load_supernet(folder / "supernet.safetensors")
    recipe = Recipe(epochs=args.epochs, batch_size=16, lr=2e-3, seed=args.seed)
    trained: list[tuple[str, Candidate]] = []
    for artifact in result.artifacts:
        metrics = train_detector(artifact, data, recipe, folder / f"{artifact.name}.safetensors", display, supernet, augment=False)
        trained.append((artifact.name, final_candidate(artifact, metrics)))

    display.note("3/4  exporting to ONNX, checked against torch")
    for artifact in result.artifacts:
        detector, _, _ = load_detector(folder / f"{artifact.name}.safetensors")
        size = int(artifact.architecture["image_size"])
        worst = export_onnx(detector.deploy(), folder / f"{artifact.name}.onnx", size, metadata_of(artifact.architecture, artifact.classes, size))
        display.note(f"{artifact.name}.onnx: largest difference to torch {worst:.1e}")

    display.note("4/4  one picture")
    predictor = Predictor(folder / f"{result.artifacts[-1].name}.onnx")
    sample = data.val.samples[0].path
    rgb, found = predictor(sample)
    write_drawn(folder / "prediction.png", rgb, found, predictor.classes)

    table = results_table(trained, ["params", "macs", "latency_ms", "map"])
    display.console.print(table.rich())
    (folder / "results.md").write_text(table.markdown())
    display.note(f"{time.monotonic() - start:.0f} s; see {folder}/frontier.html, frontier.png, prediction.png")
    return 0
