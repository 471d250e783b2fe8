"""A candidate of a search in int8: what :mod:`nas.quantization.model` does for trained weights, in seconds, for one
evaluation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_db.conversion.int8 import Calibrated
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.export.onnx import draft_onnx
from nas.quantization.model import FEW, scheme_of
from nas.quantization.runtime_accuracy import RuntimeModel
from search_spaces.detector import Detector

IMAGES = FEW
"""Images that the ranges of activations are taken from: the fewest of which ``nas quantize`` says nothing."""
BATCH = 8
"""Images at once: half as long to calibrate as one by one (by hand, yolo-nano at 96 px); the numbers are those of
the target's batch."""


@contextmanager
def open_int8_candidate(
    detector: Detector, target: Target, image_size: int, images: Sequence[NDArray[np.uint8]]
) -> Iterator[RuntimeModel]:
    """A deployed detector calibrated in the form of a target's runtime and opened there, for as long as the context
    lasts.

    ``images``: batches (N, 3, ``image_size``, ``image_size``) in 0..255, of which the first :data:`IMAGES` count;
    by their extremes, as ``nas quantize`` does by default.
    """
    computing = RUNTIMES[target.runtime].stands_for(target)
    calibration = np.concatenate(list(images))[:IMAGES].astype(np.float32) / np.float32(255)
    with tempfile.TemporaryDirectory() as folder:
        model = draft_onnx(detector.cpu(), Path(folder) / "float.onnx", image_size, BATCH)
        written = Calibrated.of(model, scheme_of(computing), [calibration]).write(Path(folder) / "int8.onnx")
        yield RuntimeModel(written, replace(computing, image_size=None, batch=BATCH))
