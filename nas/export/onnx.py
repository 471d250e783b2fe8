"""A trained detector as an ONNX file: images in, boxes and scores out, batch free, parity with torch checked at every
export."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.core.atomic import atomic_write
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads import HEADS
from search_spaces.onnx import build_onnx
from search_spaces.onnx_nodes import UnknownOperator
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference allowed between torch and the file: scores absolute, boxes as a part of the image size."""


class _Predict(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector.predict(images)


def write_onnx(
    detector: Detector, path: Path, image_size: int, metadata: Mapping[str, str] | None = None, batch: int | None = None
) -> Path:
    """Write a deployed detector: ``images`` (N, 3, S, S), RGB in 0..1, to ``boxes`` (N, A, 4), xyxy in pixels, and
    ``scores`` (N, A, classes).

    N is free unless ``batch`` fixes it. ``metadata`` goes into the file (classes, architecture), so that prediction
    needs nothing else. Torch's older, tracing exporter is used because a search exports hundreds of candidates: about
    a second each, where the ``dynamo`` one took more than ten for the same 89 convolutions (torch 2.13).
    """
    import onnx

    model = _Predict(detector).eval()
    free = {} if batch else {name: {0: "batch"} for name in ("images", "boxes", "scores")}
    example = torch.zeros(batch or 2, 3, image_size, image_size, device=next(detector.parameters()).device)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _quiet_exporter(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter, remarks on intended constants
        file = Path(folder) / "model.onnx"
        names = {"input_names": ["images"], "output_names": ["boxes", "scores"]}
        torch.onnx.export(model, (example,), str(file), dynamo=False, opset_version=OPSET, dynamic_axes=free, **names)  # type: ignore[arg-type]
        proto = onnx.load(str(file))
    onnx.helper.set_model_props(proto, dict(metadata or {}))
    return atomic_write(path, proto.SerializeToString())


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Only errors of torch's exporter are logged within the block."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def export_onnx(detector: Detector, path: Path, image_size: int, metadata: Mapping[str, str] | None = None) -> float:
    """Write a deployed detector as ONNX and compare it with torch; return the largest difference (:func:`parity`).

    The file takes its name only after the comparison, so that an export that fails leaves an earlier file as it was.

    Raises:
        InputError: A weight is not finite, the file cannot be written, or it differs from torch by more than
            :data:`TOLERANCE`.
    """
    if broken := [
        name for name, t in detector.state_dict().items() if t.is_floating_point() and not t.isfinite().all()
    ]:
        raise InputError(
            f"weights that are not finite ({broken[0]} and {len(broken) - 1} more)",
            "finite numbers",
            "the training diverged or the weights are damaged: train again, or use an earlier checkpoint",
        )
    target = Path(os.path.realpath(path))
    unchecked = target.with_name(f".{target.name}.{os.getpid()}.unchecked")
    try:
        write_onnx(detector, unchecked, image_size, metadata)
        worst = parity(detector, unchecked, image_size)
        if not worst <= TOLERANCE:
            raise InputError(
                f"exported {path.name} differs from torch by {worst:.2g}",
                f"at most {TOLERANCE:g}",
                "please report this with the architecture's JSON",
            )
        os.replace(unchecked, target)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        unchecked.unlink(missing_ok=True)
    return worst


def parity(detector: Detector, path: Path, image_size: int, seed: int = 0) -> float:
    """Return the largest difference between an ONNX file in ONNX Runtime and the detector in torch.

    Scores are compared absolutely, boxes relative to the image size, on random images at batch 1 and 3. Torch computes
    in float64, so that the difference is the file's error and not the sum of two float32 roundings.

    Raises InputError if an output of either is not finite: a comparison with NaN would find no difference.
    """
    import onnxruntime

    reference = copy.deepcopy(detector).cpu().double().eval()
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for batch in (1, 3):
        images = _random_images(batch, image_size, generator)
        found = session.run(["boxes", "scores"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = [t.numpy() for t in reference.predict(images.double())]
        for name, a, b, unit in zip(("boxes", "scores"), found, wanted, (image_size, 1), strict=True):
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                raise InputError(f"{name} of {path.name} or of torch that are not finite", "numbers")
            worst = max(worst, float(np.abs(a - b).max()) / unit)
    return worst


def _random_images(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, 3, size, size) in 0..1, smooth as images are.

    On white noise a network calibrated on images saturates, and float32 rounding alone passed the tolerance for 2
    of 8 correct exports of untrained yolo-nano networks (2e-4; 5e-5 on these). A weight wrong by 1 % shows as 0.06 or
    more.
    """
    coarse = torch.rand(count, 3, max(2, size // 8), max(2, size // 8), generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def metadata_of(architecture: Architecture, classes: tuple[str, ...], image_size: int) -> dict[str, str]:
    """What an exported file says of itself."""
    head = space_of(architecture).graph(architecture).head
    return {
        "architecture": json.dumps(architecture.to_dict()),
        "classes": json.dumps(list(classes)),
        "image_size": str(image_size),
        "preprocessing": "RGB, longest side to image_size, centre pad 114, / 255",
        "suppression": "none" if HEADS[head.kind].end_to_end else "nms",
    }


def skeleton_onnx(
    space: SearchSpace,
    architecture: Architecture,
    num_classes: int,
    path: Path,
    image_size: int | None = None,
    batch: int = 1,
    direct: bool = True,
) -> Path:
    """The deployed network with fresh weights, for timing: how long a network takes does not depend on what it has
    learnt.

    ``direct``: straight from the network definition, in milliseconds; a block with an operator that
    :mod:`search_spaces.onnx_nodes` does not know goes through torch's exporter, about a second.
    """
    if direct:
        with contextlib.suppress(UnknownOperator):
            content = build_onnx(space.graph(space.check(architecture)), num_classes, image_size, batch)
            return atomic_write(path, content, durable=False)
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    detector = space.build(architecture, num_classes)
    torch.random.set_rng_state(generator_state)
    return write_onnx(detector.deploy(), path, image_size or int(architecture["image_size"]), batch=batch)


def draft_onnx(detector: Detector, path: Path, image_size: int, batch: int) -> Path:
    """A deployed detector with its weights at a fixed batch, for one evaluation: not checked and not named as
    :func:`export_onnx` does it, but in milliseconds (a second where a block has an operator that
    :mod:`search_spaces.onnx` does not know)."""
    with contextlib.suppress(UnknownOperator):
        return atomic_write(
            path, build_onnx(detector.graph, detector.num_classes, image_size, batch, detector), durable=False
        )
    return write_onnx(detector, path, image_size, batch=batch)
