"""Trained networks behind one call, whatever file they are in: tensors in, boxes and scores out."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

Raw = tuple[NDArray[np.float32], NDArray[np.float32]]
"""boxes [N, A, 4] xyxy in pixels of the canvas and scores [N, A, C] in 0..1, before suppression."""


class Backend(ABC):
    """A network with what its file says: class names in the order of the outputs, side of the canvas in pixels,
    whether it gives one box per object."""

    classes: tuple[str, ...]
    image_size: int
    end_to_end: bool

    @property
    @abstractmethod
    def runtime(self) -> str:
        """What runs it, for people: ``ONNX Runtime 1.20.0, CPU``."""

    @abstractmethod
    def run(self, images: NDArray[np.float32]) -> Raw:
        """float32 [N, 3, S, S], RGB in 0..1, to :data:`Raw`."""


class OnnxBackend(Backend):
    """A file that ``nas export`` wrote, in ONNX Runtime."""

    _NAMES: ClassVar = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA"}

    def __init__(self, path: Path, device: str = "auto") -> None:
        import onnxruntime

        if not path.is_file():
            raise InputError(f"no model {path}", "an ONNX file that nas export wrote")
        providers = _providers(onnxruntime.get_available_providers(), device)
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), providers=providers)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises types of its own for every kind of bad file
            raise InputError(
                f"{path} is no usable ONNX file ({str(error).splitlines()[0]})", "a file that nas export wrote"
            ) from None
        said = self.session.get_modelmeta().custom_metadata_map
        if "classes" not in said or "image_size" not in said:
            raise InputError(f"{path} does not name its classes", "a file that nas export wrote", "export it again")
        self.classes = tuple(json.loads(said["classes"]))
        self.image_size = int(said["image_size"])
        self.end_to_end = said.get("suppression") == "none"
        batch = self.session.get_inputs()[0].shape[0]
        self._batch = batch if isinstance(batch, int) else None
        self._version = onnxruntime.__version__

    @property
    def runtime(self) -> str:
        used = self.session.get_providers()[0]
        return f"ONNX Runtime {self._version}, {self._NAMES.get(used, used)}"

    def run(self, images: NDArray[np.float32]) -> Raw:
        if self._batch in (None, len(images)):
            boxes, scores = self.session.run(["boxes", "scores"], {"images": images})
            return boxes, scores
        parts = [self._padded(images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
        return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([scores for _, scores in parts])

    def _padded(self, images: NDArray[np.float32]) -> Raw:
        """As many as the file wants, filled up with empty ones."""
        assert self._batch is not None
        full = np.zeros((self._batch, *images.shape[1:]), np.float32)
        full[: len(images)] = images
        boxes, scores = self.session.run(["boxes", "scores"], {"images": full})
        return boxes[: len(images)], scores[: len(images)]


def _providers(available: Sequence[str], device: str) -> list[str | tuple[str, dict[str, int]]]:
    """Execution providers for ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; an error where the installed ONNX Runtime
    has none for it."""
    cuda = "CUDAExecutionProvider"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"device {device!r}", "auto, cpu, cuda or cuda:<index>")
    if device.startswith("cuda") and cuda not in available:
        raise InputError(
            f"device {device!r} for an .onnx file",
            "an ONNX Runtime with CUDA",
            "use --device cpu, or install onnxruntime-gpu",
        )
    if device == "cpu" or cuda not in available:
        return ["CPUExecutionProvider"]
    return [(cuda, {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


class TorchBackend(Backend):
    """Trained weights (``.safetensors``), deployed, in torch."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        import torch

        from nas.core.compute import device_of
        from nas.supernet.weights import load_detector

        self._torch, self._device = torch, device_of(device)
        detector, artifact, _ = load_detector(path)
        self.detector = detector.to(self._device).deploy()
        self.classes = artifact.classes
        self.image_size = int(artifact.architecture["image_size"])
        self.end_to_end = detector.head.end_to_end

    @property
    def runtime(self) -> str:
        return f"torch {self._torch.__version__}, {str(self._device).upper()}"

    def run(self, images: NDArray[np.float32]) -> Raw:
        with self._torch.inference_mode():
            boxes, scores = self.detector.predict(self._torch.from_numpy(images).to(self._device))
        return boxes.float().cpu().numpy(), scores.float().cpu().numpy()


BACKENDS: dict[str, type[Backend]] = {".onnx": OnnxBackend, ".safetensors": TorchBackend}


def open_backend(path: Path, device: str = "auto") -> Backend:
    """The network in a file; InputError for any other kind of file. ``device``: auto (a GPU where there is one), cpu,
    cuda."""
    if path.suffix not in BACKENDS:
        raise InputError(
            f"model {path}",
            f"a file ending in {' or '.join(BACKENDS)}",
            "nas train writes weights, nas export ONNX files",
        )
    kind: type[OnnxBackend] | type[TorchBackend] = BACKENDS[path.suffix]  # type: ignore[assignment]
    return kind(path, device)
