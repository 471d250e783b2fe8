"""Which images should give BatchNorm its statistics: those of the training, or images without augmentation?

``python -m benchmarks.batchnorm_statistics --data bccd --weights runs/pretrained/seed0/*.safetensors``

Averaged or shared weights have no statistics of their own: they are computed after the training, from train images.
Per weights file, mAP50-95 on the val split with statistics from 400 train images with the augmentation of the training
(``augmented``) and from the same number without (``plain``). Figure: the mean difference over the files, and its
interval (Student's t, 95 %). The files are the user's own; the result names each by its hash.
``results/batchnorm_statistics_<data>.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Goal, write
from benchmarks.transfer_gain import interval
from nas.core.console_reporter import ConsoleReporter
from nas.data.source import DataPair
from nas.data.transforms import Augmentation
from nas.supernet.weights import digest_of, load_detector
from nas.training.data import as_trained, open_training_data
from nas.training.validation import validate


def compared(path: Path, data: DataPair) -> dict[str, float | str]:
    """mAP50-95 of a weights file with each kind of statistics, 0..1."""
    detector, artifact, record = load_detector(path)
    trained = as_trained(data, record, str(path))
    found: dict[str, float | str] = {"name": f"{path.parent.name}/{path.stem}", "weights": digest_of(path)}
    for name, one in (("plain", trained.augmented(Augmentation.NONE)), ("augmented", trained)):
        found[name] = validate(detector, one, artifact.architecture.image_size).map
    return found


def goals_of(figure: Mapping[str, Any]) -> list[Goal]:
    """The training's own images are no worse."""
    what = f"points of mAP that statistics of augmented images bring, {figure['data_name']}"
    return [Goal(what, figure["gain"]["mean"], ">= 0", "points")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help="trained on this data set")
    args = parser.parse_args(arguments)
    reporter = ConsoleReporter()
    data = open_training_data(args.data, None, reporter)
    rows = []
    for path in args.weights:
        rows.append(compared(path, data))
        reporter.note(f"{rows[-1]['name']}: {rows[-1]['plain']:.4f} plain, {rows[-1]['augmented']:.4f} augmented")
    gains = [100 * (float(row["augmented"]) - float(row["plain"])) for row in rows]
    figure = {"data": data.fingerprint, "data_name": data.name, "gain": interval(gains), "files": rows}
    write(f"batchnorm_statistics_{data.name}", figure, goals_of(figure))


if __name__ == "__main__":
    main()
