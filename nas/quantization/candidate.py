"""Candidates of a search in int8 or fp16: converted and opened in seconds, for one evaluation.

:mod:`nas.quantization.model` does the same for trained weights, with more images, a linter and a file that stays.
"""

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
from search_spaces.image_size import AnySize

IMAGES = FEW
"""Calibration images: the fewest for which ``nas quantize`` gives no warning."""
BATCH = 8
"""Images per run: calibration takes half as long as one by one (informal measurement, yolo-nano at 96 px). The numbers
do not depend on it."""


@contextmanager
def open_candidate(
    detector: Detector, target: Target, image_size: AnySize, images: Sequence[NDArray[np.uint8]]
) -> Iterator[RuntimeModel]:
    """Open a deployed detector in a target's precision and runtime; int8 is calibrated in its quantization scheme.

    Args:
        detector: deployed.
        target: at int8 or fp16.
        image_size: of the input.
        images: batches (N, 3, H, W) in 0..255, H x W = ``image_size``; the first :data:`IMAGES` images calibrate,
            by their extremes. fp16 needs none.

    Yields:
        The network in the runtime, usable within the context.

    Raises:
        InputError: if the target has no int8, or activations are not finite.
    """
    computing = RUNTIMES[target.runtime].stands_for(target)
    calibration = np.concatenate(list(images))[:IMAGES].astype(np.float32) / np.float32(255)
    with tempfile.TemporaryDirectory() as folder:
        model = draft_onnx(detector.cpu(), Path(folder) / "float.onnx", image_size, BATCH)
        if computing.precision == "int8":
            model = Calibrated.of(model, scheme_of(computing), [calibration]).write(Path(folder) / "int8.onnx")
        yield RuntimeModel(model, replace(computing, image_size=None, batch=BATCH))


def is_lower_precision(target: Target) -> bool:
    """Return whether accuracy on a target is that of its own numbers: int8, and fp16 of runtimes that read ONNX.

    PyTorch's fp16 and every bf16 count as accurate as fp32.
    """
    computing = RUNTIMES[target.runtime].stands_for(target)
    return computing.precision == "int8" or (computing.precision == "fp16" and RUNTIMES[computing.runtime].reads_onnx)
