"""Accuracy of a file in the runtime that will serve it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latency_db.conversion.half import is_half, rounded
from latency_db.conversion.onnx_parts import parsed
from latency_db.conversion.precision import converted
from latency_db.core.profiler import Workload
from latency_db.core.target import Target
from latency_db.runtimes import RUNTIMES
from nas.data.dataset import DetectionDataset
from nas.data.loader import Batch
from nas.inference.boxes import paired_iou
from nas.inference.coco_metrics import Detections, Metrics, evaluate
from nas.inference.detect import batches, sort_out
from search_spaces.errors import InputError
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    from latency_db.core.profiler import InferenceSession

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
SUBSTITUTE = "onnxruntime"


class RuntimeModel:
    """An ONNX file in a target's runtime, with the settings that it is timed with.

    Where the runtime cannot be run on images here (an engine for a GPU), ONNX Runtime on the CPU computes the same
    graph, with the roundings of float16 (:func:`latency_db.conversion.half.rounded`), and the attribute ``where``
    says so. A float32 file is converted first if the target is at fp16.
    """

    def __init__(self, model: Path, target: Target) -> None:
        runtime = RUNTIMES[target.runtime]
        session = None if runtime.available() else runtime.open_session(target, model)
        self.where = f"{target.runtime} {runtime.version()}"
        if session is None:
            runtime = RUNTIMES[SUBSTITUTE]
            session = _substitute(model, target)
            self.where = f"{SUBSTITUTE} {runtime.version()} in the place of {target.runtime}"
        assert session is not None
        self._session = session
        self._batch = target.batch

    def __call__(self, batch: Batch) -> Outputs:
        """Compute boxes (N, A, 4) in pixels of the canvas and scores (N, A, classes) of a batch.

        Raises:
            InputError: if a number is not finite.
        """
        images = batch.images.numpy().astype(np.float32) / np.float32(255)
        parts = []
        for i in range(0, len(images), self._batch):
            part = images[i : i + self._batch]
            missing = self._batch - len(part)  # a compiled model takes its batch and no other
            outputs = self._session(np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part)
            parts.append([np.asarray(o, np.float32)[: len(part)] for o in outputs])
        boxes, scores = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InputError(
                f"outputs in {self.where} that are NaN or infinite",
                "numbers",
                "the network has diverged, or a scale is wrong",
            )
        return boxes, scores


def _substitute(model: Path, target: Target) -> InferenceSession | None:
    """Open a file as a GPU would compute it, in ONNX Runtime on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / model.name
        precision = target.precision if target.precision == "fp16" else ""
        with converted(Workload("", model), precision) as ready:
            proto = parsed(ready.path())
        if is_half(proto):
            file.write_bytes(rounded(proto).SerializeToString())
            model = file
        return RUNTIMES[SUBSTITUTE].open_session(Target(SUBSTITUTE, batch=target.batch, threads=target.threads), model)


def runtime_accuracy(
    served: RuntimeModel, dataset: DetectionDataset, image_size: AnySize, end_to_end: bool = False
) -> Metrics:
    """Compute COCO metrics over a data set, each image once, as for torch."""
    sizes = {sample.id: (sample.width, sample.height) for sample in dataset.samples}
    found: dict[int, Detections] = {}
    for batch in batches(dataset, image_size):
        found |= sort_out(*served(batch), batch, sizes, end_to_end=end_to_end)
    return evaluate(dataset, found)


def distortion(exact: Outputs, found: Outputs) -> float:
    """Compute the distortion of a quantized network's outputs, 0 for equal outputs.

    With scores s, boxes b and w = max over classes of s (0 where it is at most 0.05) of the float network, and s', b' of
    the quantized one, it is ``Σ|s − s'| / Σs + Σ w (1 − IoU(b, b')) / Σw``. It is much less noisy than mAP on few
    images, where single detections decide.

    Args:
        exact: boxes (N, A, 4) and scores (N, A, classes) of the float network.
        found: those of the quantized network.
    """
    (boxes, scores), (other_boxes, other_scores) = exact, found
    total = float(scores.sum())
    if not total:
        return 0.0
    weight = scores.max(-1)
    weight = np.where(weight > 0.05, weight, 0.0)
    seen = float(weight.sum())
    moved = float((weight * (1 - paired_iou(boxes, other_boxes))).sum()) / seen if seen else 0.0
    return float(np.abs(scores - other_scores).sum()) / total + moved
