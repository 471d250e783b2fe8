"""Trained networks behind one call, whatever file they are in: tensors in, boxes and scores out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.inference.backend import Backend
from nas.inference.deployed import METADATA, DeployedBackend, deployed_folder
from nas.inference.layouts import OUTPUTS, Raw, to_raw
from search_spaces.errors import InputError
from search_spaces.text import counted

__all__ = ["BACKENDS", "Backend", "OnnxBackend", "Raw", "TorchBackend", "open_backend"]

T = TypeVar("T")

MAX_RUN_S = 600.0
"""Seconds that one run of an ONNX file may take."""
STOP_S = 10.0
"""Seconds that a run has to end after it was asked to."""
MAX_MEMORY = 8 << 30
"""Bytes of the CPU's memory that ONNX files may take when they run."""
_FATAL = 4
"""ONNX Runtime's log level: its errors are raised, printing them too would only repeat them."""


class OnnxBackend(Backend):
    """A file that ``nas export`` wrote, in ONNX Runtime.

    The file is checked before it is run (:mod:`nas.inference.onnx_checks`). A run ends with an error after
    :data:`MAX_RUN_S`, or when it needs more than :data:`MAX_MEMORY` on the CPU.
    """

    _NAMES: ClassVar = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA"}

    def __init__(self, path: Path, device: str = "auto") -> None:
        import onnxruntime

        from nas.inference.onnx_checks import check_onnx

        self._path = path
        file = check_onnx(path)
        providers = _providers(onnxruntime.get_available_providers(), device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        _limit_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self.session = onnxruntime.InferenceSession(file.source, options, providers=providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises types of its own for every kind of bad file
            raise InputError(
                f"{path} is no usable ONNX file ({_first_line(error)})", "a file that nas export wrote"
            ) from None
        self.classes, self.image_size, self.end_to_end = file.classes, file.image_size, file.end_to_end
        self.interpolation = file.interpolation
        self._batch, self._layout, self.inside = file.batch, file.layout, file.inside
        self._version = onnxruntime.__version__

    @property
    def runtime(self) -> str:
        """Return runtime, version and device, for example ``ONNX Runtime 1.20.0, CPU``."""
        used = self.session.get_providers()[0]
        return f"ONNX Runtime {self._version}, {self._NAMES.get(used, used)}"

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Run images float32 [N, 3, H, W] in 0..1, divided into the batches that the file takes."""
        if self._batch in (None, len(images)):
            return self._outputs(images)
        parts = [self._padded(images[i : i + self._batch]) for i in range(0, len(images), self._batch)]
        return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([scores for _, scores in parts])

    def _padded(self, images: NDArray[np.float32]) -> Raw:
        """Run a batch that is shorter than the file's, filled with black images."""
        assert self._batch is not None
        full = np.zeros((self._batch, *images.shape[1:]), np.float32)
        full[: len(images)] = images
        boxes, scores = self._outputs(full)
        return boxes[: len(images)], scores[: len(images)]

    def _outputs(self, images: NDArray[np.float32]) -> Raw:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL

        def run() -> Sequence[NDArray[np.generic]]:
            found: Sequence[NDArray[np.generic]] = self.session.run(
                list(OUTPUTS[self._layout]), {"images": images}, options
            )
            return found

        try:
            arrays = _interruptible(run, MAX_RUN_S, lambda: setattr(options, "terminate", True))
        except Exception as error:  # noqa: BLE001 - as above
            reason = f"it took over {MAX_RUN_S:.0f} s" if options.terminate else _first_line(error)
            count = counted(len(images), "image")
            raise InputError(f"{self._path} cannot be run on {count} ({reason})") from None
        return to_raw(self._layout, arrays, len(self.classes), len(images), str(self._path))


def _interruptible(work: Callable[[], T], seconds: float, stop: Callable[[], object]) -> T:
    """Return ``work()``, computed in a thread of its own: a library that computes lets no signal through.

    ``stop`` is called after ``seconds`` and on Ctrl-C, and asks ``work`` to end, which has :data:`STOP_S` for it. Raises
    TimeoutError after ``seconds``, and what ``work`` raises.
    """
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        if thread.is_alive():
            stop()
            thread.join(STOP_S)
    if not outcome:
        raise TimeoutError
    if isinstance(found := outcome[0], BaseException):
        raise found
    return found


@cache
def _limit_memory() -> None:
    """Bound what sessions with ``session.use_env_allocators`` take of the CPU's memory, all together."""
    import onnxruntime as ort

    kind, place = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    settings = {"arena_extend_strategy": 0, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", kind, 0, place), ort.OrtArenaCfg({"max_mem": MAX_MEMORY, **settings})
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


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
        from nas.supernet.weights import interpolation_in, load_detector

        self._torch, self._device = torch, device_of(device)
        detector, artifact, record = load_detector(path)
        self.interpolation = interpolation_in(record, str(path))
        self.detector = detector.to(self._device).deploy()
        self.classes = artifact.classes
        self.image_size = artifact.architecture.image_size
        self.end_to_end = detector.head.end_to_end

    @property
    def runtime(self) -> str:
        """Return library, version and device, for example ``torch 2.6.0, CPU``."""
        return f"torch {self._torch.__version__}, {str(self._device).upper()}"

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Run images float32 [N, 3, H, W] in 0..1 as one batch."""
        with self._torch.inference_mode():
            boxes, scores = self.detector.predict(self._torch.from_numpy(images).to(self._device))
        return boxes.float().cpu().numpy(), scores.float().cpu().numpy()


BACKENDS: dict[str, type[Backend]] = {".onnx": OnnxBackend, ".safetensors": TorchBackend}


def open_backend(path: Path, device: str = "auto") -> Backend:
    """Return the network in a file, or in a folder that ``nas export --to`` wrote.

    ``device``: auto (a GPU where there is one), cpu, cuda. Raises InputError for any other kind of file.
    """
    if deployed_folder(path) is not None:
        return DeployedBackend(path, device)
    if path.suffix not in BACKENDS:
        raise InputError(
            f"model {path}",
            f"a file ending in {' or '.join(BACKENDS)}, or a folder with {METADATA}",
            "nas train writes weights, nas export ONNX files and folders",
        )
    kind: type[OnnxBackend] | type[TorchBackend] = BACKENDS[path.suffix]  # type: ignore[assignment]
    return kind(path, device)
