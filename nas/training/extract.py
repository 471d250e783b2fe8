"""Extraction of a detector from a supernet, with recalibrated BatchNorm and measured accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nas.core.architecture_file import Artifact
from nas.core.compute import device_of
from nas.core.reporter import Reporter
from nas.data.source import DataPair
from nas.data.transforms import AREA
from nas.inference.coco_metrics import Metrics
from nas.supernet.weights import ancestors_of, digest_of, interpolation_in, load_supernet, save_detector
from nas.training.data import as_trained
from nas.training.output import exclusive_output
from nas.training.validation import calibrate, detect_and_score
from search_spaces.errors import InputError
from search_spaces.text import counted


def extract_detector(
    artifact: Artifact, supernet: Path, data: DataPair, out: Path, reporter: Reporter, device: str = "auto"
) -> Metrics:
    """Write the weights of an architecture in a supernet to a file, and return their metrics on the val split.

    BatchNorm statistics are recalibrated on images of the train split. The detector can be used without further
    training, or be trained further with ``nas train --init``.

    Args:
        artifact: The architecture, a point of the supernet's space.
        supernet: Weights file of the supernet.
        data: Data set with the supernet's classes.
        out: Weights file to write (``.safetensors``). It must not exist.
        reporter: Receives the progress of the evaluation.
        device: Device of the network: auto, cpu, cuda or cuda:1.

    Raises:
        InputError: if ``out`` exists, the classes differ, or the supernet does not contain the architecture.
    """
    if out.exists():
        raise InputError(f"{out} exists", "a new file", "remove it or name another --out")
    shared, classes, record = load_supernet(supernet)
    if classes != data.classes:
        raise InputError(
            f"{supernet} has {counted(len(classes), 'class', 'classes')} ({', '.join(classes[:3])}, …), "
            f"{data.name} has {len(data.classes)}",
            "the data set that the supernet was trained on",
        )
    how = interpolation_in(record, str(supernet))
    data = as_trained(data, record, str(supernet))
    size = artifact.architecture.image_size
    with exclusive_output(out):
        detector = shared.extract(artifact.architecture).to(device_of(device))
        with reporter.progress(f"calibrate BatchNorm of {artifact.name}") as update:
            calibrate(detector, data, size, progress=update)
        with reporter.progress(f"evaluate {artifact.name}") as update:
            metrics = detect_and_score(detector, data, size, update, interval=True)
        found: dict[str, Any] = {
            "metrics": metrics.to_dict(),
            "from": f"supernet {digest_of(supernet)}",
            "supernet": record,
        }
        found |= {"ancestors": ancestors} if (ancestors := ancestors_of(supernet)) else {}
        found |= {} if how == AREA else {"interpolation": how}
        save_detector(out, detector, artifact, found)
    return metrics
