"""Detectors straight from a supernet: weights cut out, BatchNorm recalibrated, accuracy measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.core.architecture_file import Artifact
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.inference.coco_metrics import Metrics
from nas.supernet.weights import ancestors_of, digest_of, load_supernet, save_detector
from nas.training.output import exclusive_output
from nas.training.validation import calibrate, detect_and_score
from search_spaces.errors import InputError


def extract_detector(
    artifact: Artifact, supernet: Path, data: DataPair, out: Path, reporter: Reporter, device: str = "auto"
) -> Metrics:
    """Write the weights that an architecture has in a supernet, usable as they are, and return their metrics on val.

    BatchNorm statistics come from images of the train split. ``nas train --init supernet`` improves from there.

    Args:
        artifact: the architecture; a point of the supernet's space.
        supernet: weights of the supernet.
        data: data set with the supernet's classes.
        out: weights file to write (``.safetensors``); an existing one is refused.
        reporter: receives the progress of the evaluation.
        device: where the network runs.

    Raises:
        InputError: ``out`` exists, the classes differ, or the supernet does not hold the architecture.
    """
    if out.exists():
        raise InputError(f"{out} exists", "a new file", "remove it or name another --out")
    shared, classes, record = load_supernet(supernet)
    if classes != data.classes:
        raise InputError(
            f"{supernet} knows {len(classes)} classes ({', '.join(classes[:3])}, …), {data.name} has {len(data.classes)}",
            "the data set that the supernet was trained on",
        )
    size = int(artifact.architecture["image_size"])
    with exclusive_output(out):
        detector = shared.extract(artifact.architecture).to(device_of(device))
        calibrate(detector, data, size)
        with reporter.progress(f"evaluate {artifact.name}") as update:
            metrics = detect_and_score(detector, data, size, update)
        found: dict[str, Any] = {
            "metrics": metrics.to_dict(),
            "from": f"supernet {digest_of(supernet)}",
            "supernet": record,
        }
        found |= {"ancestors": ancestors} if (ancestors := ancestors_of(supernet)) else {}
        save_detector(out, detector, artifact, found)
    return metrics
