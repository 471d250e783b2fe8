"""int8 for LiteRT by its own quantizer, ``ai-edge-quantizer``.

The whole body of a network is int8: asymmetric activations per tensor, symmetric weights per channel. The heads' last
convolutions and the box decoding are kept in fp32, as in the other runtimes, and so are inputs and outputs. The range
of an activation is that of its extremes over all images: the quantizer's own moving average over images cut the ranges of
a small detector, which lost 7 points of mAP instead of 0.6.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_db.conversion.tflite_file import SIGNATURE, translate
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from search_spaces.image_size import AnySize

Images = npt.NDArray[np.float32]


def missing() -> str | None:
    """Return None if the quantizer is installed, else what to install."""
    found = find_spec("ai_edge_quantizer")
    return None if found else "ai-edge-quantizer not installed; pip install 'hw-nas-yolo[litert]'"


def quantized(model: Path, calibration: Sequence[Images], batch: int = 1, image_size: AnySize | None = None) -> bytes:
    """Return an ONNX file as TFLite in int8.

    Args:
        model: The float ONNX file with one input of images.
        calibration: Images, arrays (N, 3, H, W) float32 in 0..1.
        batch: Images per run of the target.
        image_size: Size of the target's images; a free height or width takes it.

    Raises:
        InputError: The quantizer is not installed, the file cannot be translated, has more inputs or nothing to
            quantize, or there are no images of its size.
    """
    if reason := missing():
        raise InputError(reason)
    from ai_edge_quantizer import quantizer, recipe

    file = translate(model, batch, image_size)
    if len(file.inputs) != 1 or not file.body:
        raise InputError(f"{model.name} has {len(file.inputs)} inputs and {len(file.body)} layers", "one of images")
    ((name, shape),) = file.inputs.items()
    rules = recipe.static_wi8_ai8()
    rules[0]["regex"] = f"^(?:{'|'.join(map(re.escape, file.body))})(?:/.*)?;?$"
    feeds = [{name: images} for images in _batches(calibration, shape)]
    quiet = io.StringIO()
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its interpreter keeps all tensors, which it warns of
        work = quantizer.Quantizer(file.content, rules)
        ranges = _extremes([work.calibrate({SIGNATURE: [feed]}, num_threads=1) for feed in feeds])
        result = work.quantize(ranges)
    return bytes(result.quantized_model)


def _batches(calibration: Sequence[Images], shape: Sequence[int]) -> list[Images]:
    """The images in batches of the file, channels last; too few are repeated."""
    if not calibration or not sum(len(part) for part in calibration):
        raise InputError("no images to calibrate int8 with", "at least one")
    images = np.concatenate([np.asarray(part, np.float32) for part in calibration]).transpose(0, 2, 3, 1)
    if images.shape[1:] != tuple(shape[1:]):
        raise InputError(f"calibration images of shape {images.shape[1:]}", f"{tuple(shape[1:])}, channels last")
    count = max(1, len(images) // shape[0])
    picked = [np.arange(i * shape[0], (i + 1) * shape[0]) % len(images) for i in range(count)]
    return [np.ascontiguousarray(images[places]) for places in picked]


def _extremes(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The least minimum and the largest maximum of each tensor."""
    merged = {name: dict(values) for name, values in found[0].items()}
    for other in found[1:]:
        for name, values in other.items():
            own = merged.setdefault(name, dict(values))
            for end, pick in (("min", np.minimum), ("max", np.maximum)):
                if end in values:
                    own[end] = pick(own[end], values[end])
    return merged
