"""Export of trained detectors to ONNX: from images to boxes and scores, with a free batch size.

Each export is compared with torch.
"""

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

from nas.core.atomic import atomic_write, naming
from nas.data.transforms import AREA
from search_spaces.architecture import Architecture
from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.heads import HEADS
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.onnx import build_onnx
from search_spaces.onnx_nodes import UnknownOperator
from search_spaces.space import SearchSpace
from search_spaces.spaces import space_of

OPSET = 17
TOLERANCE = 1e-4
"""Largest permitted difference between torch and the file: scores absolute, boxes relative to the image size."""


class _Predict(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector.predict(images)


def write_onnx(
    detector: Detector,
    path: Path,
    image_size: AnySize,
    metadata: Mapping[str, str] | None = None,
    batch: int | None = None,
) -> Path:
    """Write a deployed detector as an ONNX file, without a comparison with torch.

    The input is ``images`` (N, 3, H, W), RGB in 0..1. The outputs are ``boxes`` (N, A, 4), xyxy in pixels, and
    ``scores`` (N, A, classes).

    The tracing exporter of torch is used, since a search exports hundreds of candidates. It takes about a second for 89
    convolutions, while the ``dynamo`` exporter took more than ten (torch 2.13).

    Args:
        detector: The deployed detector.
        path: File to write.
        image_size: H x W in pixels.
        metadata: Metadata of the file (classes, architecture), from which prediction reads its settings.
        batch: Fixed N; by default N is free.

    Raises:
        InputError: if the file cannot be written.
    """
    import onnx

    model = _Predict(detector).eval()
    free = {} if batch else {name: {0: "batch"} for name in ("images", "boxes", "scores")}
    example = torch.zeros(batch or 2, 3, *ImageSize.of(image_size), device=next(detector.parameters()).device)
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
    """Suppress log messages of torch's exporter, except errors, within the context."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_finite(detector: Detector) -> None:
    """Raise InputError if a weight of a detector is not finite; it names the first one."""
    if broken := [
        name for name, t in detector.state_dict().items() if t.is_floating_point() and not t.isfinite().all()
    ]:
        raise InputError(
            f"weights that are not finite ({broken[0]} and {len(broken) - 1} more)",
            "finite numbers",
            "the training diverged or the weights are damaged: train again, or use an earlier checkpoint",
        )


def export_onnx(
    detector: Detector, path: Path, image_size: AnySize, metadata: Mapping[str, str] | None = None
) -> float:
    """Write a deployed detector as ONNX and compare it with torch; return the largest difference (:func:`parity`).

    The file is renamed to ``path`` after the comparison, so that a failed export leaves an earlier file unchanged.

    Raises:
        InputError: if a weight is not finite, the file cannot be written, or it differs from torch by more than
            :data:`TOLERANCE`.
    """
    check_finite(detector)
    target = Path(os.path.realpath(path))
    unchecked = target.with_name(f".{target.name}.{os.getpid()}.unchecked")
    try:
        with naming(path, unchecked):
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


def parity(detector: Detector, path: Path, image_size: AnySize, seed: int = 0) -> float:
    """Return the largest difference between an ONNX file in ONNX Runtime and the detector in torch.

    Scores are compared absolutely, boxes relative to the longer side of the image, on random images at batch 1 and 3. Torch computes
    in float64, so that the difference is the file's error and not the sum of two float32 roundings.

    Raises InputError if an output of either is not finite: a comparison with NaN would find no difference.
    """
    import onnxruntime

    reference = copy.deepcopy(detector).cpu().double().eval()
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(seed)
    size, worst = ImageSize.of(image_size), 0.0
    for batch in (1, 3):
        images = _random_images(batch, size, generator)
        found = session.run(["boxes", "scores"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = [t.numpy() for t in reference.predict(images.double())]
        for name, a, b, unit in zip(("boxes", "scores"), found, wanted, (max(size), 1), strict=True):
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                raise InputError(f"{name} of {path.name} or of torch that are not finite", "numbers")
            worst = max(worst, float(np.abs(a - b).max()) / unit)
    return worst


def _random_images(count: int, size: ImageSize, generator: torch.Generator) -> Tensor:
    """Return smooth random images (count, 3, height, width) in 0..1.

    On white noise, a network that was calibrated on images saturates: float32 rounding alone exceeded the tolerance for
    2 of 8 correct exports of untrained yolo-nano networks (2e-4, against 5e-5 on smooth images). A weight with an error
    of 1 % causes a difference of 0.06 or more.
    """
    coarse = torch.rand(count, 3, *(max(2, side // 8) for side in size), generator=generator)
    return nn.functional.interpolate(coarse, size=size.shape, mode="bilinear")


def metadata_of(
    architecture: Architecture, classes: tuple[str, ...], image_size: AnySize, interpolation: str = AREA
) -> dict[str, str]:
    """Return the metadata of an exported file; ``interpolation``: how its images are shrunk."""
    head, size = space_of(architecture).graph(architecture).head, ImageSize.of(image_size)
    fit = "longest side to image_size" if size.is_square else "scaled to fit image_size (height x width)"
    return {
        "architecture": json.dumps(architecture.to_dict()),
        "classes": json.dumps(list(classes)),
        "image_size": str(size),
        "preprocessing": f"RGB, {fit}, centre pad 114, / 255" + ("" if interpolation == AREA else ", shrunk linearly"),
        **({} if interpolation == AREA else {"interpolation": interpolation}),
        "suppression": "none" if HEADS[head.kind].end_to_end else "nms",
    }


def skeleton_onnx(
    space: SearchSpace,
    architecture: Architecture,
    num_classes: int,
    path: Path,
    image_size: AnySize | None = None,
    batch: int = 1,
    direct: bool = True,
) -> Path:
    """Write the deployed network of an architecture with untrained weights, for latency measurements.

    Args:
        space: Search space of the architecture.
        architecture: The architecture.
        num_classes: Number of classes.
        path: File to write.
        image_size: Of the images; by default that of the architecture.
        batch: Batch size.
        direct: Whether to build the file from the network definition, which takes milliseconds. A network with an
            operator that :mod:`search_spaces.onnx_nodes` lacks is exported by torch, which takes about a second.

    Raises:
        InputError: if the architecture is no point of the space, or the file cannot be written.
    """
    if direct:
        with contextlib.suppress(UnknownOperator):
            content = build_onnx(space.graph(space.check(architecture)), num_classes, image_size, batch)
            return atomic_write(path, content, durable=False)
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    detector = space.build(architecture, num_classes)
    torch.random.set_rng_state(generator_state)
    return write_onnx(detector.deploy(), path, image_size or architecture.image_size, batch=batch)


def draft_onnx(detector: Detector, path: Path, image_size: AnySize, batch: int) -> Path:
    """Write a deployed detector with its weights and a fixed batch size, for one evaluation.

    The file has no metadata and is not compared with torch. Writing takes milliseconds, or about a second for a network
    with an operator that :mod:`search_spaces.onnx_nodes` lacks. Raises InputError if the file cannot be written.
    """
    with contextlib.suppress(UnknownOperator):
        return atomic_write(
            path, build_onnx(detector.graph, detector.num_classes, image_size, batch, detector), durable=False
        )
    return write_onnx(detector, path, image_size, batch=batch)
