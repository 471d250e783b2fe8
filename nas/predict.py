"""An exported model on pictures: read, letterbox, run, suppress, draw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.pictures import read_picture
from nas.files import atomic_write
from nas.postprocess import NEVER, Detections, Preprocessor, draw, nms
from search_spaces.errors import InputError


class Predictor:
    """``predictor(path) -> (picture, detections)`` with an ONNX file that ``nas export`` wrote, on the CPU."""

    def __init__(self, model: Path) -> None:
        import onnxruntime

        if not model.is_file():
            raise InputError(f"no model {model}", "an ONNX file that nas export wrote")
        try:
            self.session = onnxruntime.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - onnxruntime raises types of its own for every kind of bad file
            raise InputError(f"{model} is no usable ONNX file ({str(error).splitlines()[0]})", "a file that nas export wrote") from None
        said = self.session.get_modelmeta().custom_metadata_map
        if "classes" not in said or "image_size" not in said:
            raise InputError(f"{model} does not name its classes", "a file that nas export wrote", "export it again")
        self.classes: tuple[str, ...] = tuple(json.loads(said["classes"]))
        self.preprocess = Preprocessor(int(said["image_size"]))
        self._suppressed = said.get("suppression") != "none"

    def __call__(self, path: Path, score_threshold: float = 0.3, iou_threshold: float = 0.6) -> tuple[NDArray[np.uint8], Detections]:
        """The picture (RGB) and what is found in it, in its own pixels."""
        if not path.is_file():
            raise InputError(f"no picture {path}")
        rgb = read_picture(path)
        images, placement = self.preprocess(rgb)
        found = self.suppress(*self.run(images), score_threshold, iou_threshold)
        return rgb, found.to_picture(placement, rgb.shape[1], rgb.shape[0])

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(1, 3, S, S) in 0..1 -> boxes (A, 4) in pixels of the canvas and scores (A, classes)."""
        boxes, scores = self.session.run(["boxes", "scores"], {"images": images})
        return boxes[0], scores[0]

    def suppress(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32], score_threshold: float = 0.3, iou_threshold: float = 0.6
    ) -> Detections:
        """What is worth showing, one class per box; of a model that gives one box per object all that is over the score threshold."""
        iou_threshold = iou_threshold if self._suppressed else NEVER
        return nms(boxes, scores, score_threshold=score_threshold, iou_threshold=iou_threshold, multi_label=False)


def write_drawn(path: Path, rgb: NDArray[np.uint8], found: Detections, classes: Sequence[str]) -> Path:
    """The picture with its boxes as a PNG."""
    import cv2

    drawn = draw(rgb, found.boxes, found.scores, found.labels, classes)
    done, encoded = cv2.imencode(".png", drawn[:, :, ::-1])
    if not done:
        raise InputError(f"{path} cannot be encoded as PNG")
    return atomic_write(path, encoded.tobytes())
