"""Deployed models: a folder with the files of a runtime and ``metadata.json``, as ``nas export --to`` writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_db.core.target import PRECISIONS, Target
from latency_db.runtimes import RUNTIMES
from nas.data.transforms import AREA, INTERPOLATIONS
from nas.inference.backend import Backend
from nas.inference.layouts import OUTPUTS, Raw, to_raw
from nas.inference.nms import Suppression
from nas.inference.onnx_checks import MAX_BATCH, MAX_CLASSES, MAX_FILE_BYTES, MAX_SIDE
from search_spaces.errors import InputError
from search_spaces.foreign_files import read_bytes
from search_spaces.image_size import STRIDE, ImageSize
from search_spaces.json_checks import JsonObject, read_json
from search_spaces.text import brief, counted, json_text

METADATA = "metadata.json"
VERSION = 1
"""Version of the metadata's fields."""
PREPROCESSING: Mapping[str, object] = {
    "colour": "RGB",
    "type": "float32",
    "divide_by": 255,
    "resize": "keep the aspect ratio, longest side that fits",
    "interpolation": {"smaller": "area", "larger": "bilinear"},
    "place": "centre",
    "pad": 114,
}
"""What turns an image into the input; the values are those of :mod:`nas.data.transforms`."""


@dataclass(frozen=True)
class Deployed:
    """What the metadata of a deployed model says.

    Attributes:
        runtime: Name of the runtime that runs it.
        version: Version of the runtime that converted it.
        precision: Precision of the target.
        classes: Class names in the order of the labels.
        image_size: Of the input.
        batch: Images of one run.
        layout: One of :data:`nas.inference.layouts.OUTPUTS`.
        end_to_end: Whether the network gives one box per object.
        suppression: Settings of the suppression in the file; None if there is none.
        checked: Largest difference to torch in this runtime; None if the runtime could not be run.
        architecture: JSON of the architecture; None if it is unknown.
        interpolation: How images are shrunk, one of :data:`nas.data.transforms.INTERPOLATIONS`.
    """

    runtime: str
    version: str
    precision: str
    classes: tuple[str, ...]
    image_size: ImageSize
    batch: int
    layout: str
    end_to_end: bool
    suppression: Suppression | None
    checked: float | None
    architecture: Any = None
    interpolation: str = AREA

    @property
    def target(self) -> Target:
        """The target that the files were written for, with all CPUs of this process."""
        return Target(self.runtime, self.precision, batch=self.batch, threads=len(os.sched_getaffinity(0)))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``metadata.json``."""
        last = RUNTIMES[self.runtime].channels_last
        inside = None if self.suppression is None else asdict(self.suppression)
        return {
            "format": "hw-nas-yolo deployed model",
            "format_version": VERSION,
            "runtime": self.runtime,
            "runtime_version": self.version,
            "precision": self.precision,
            "classes": list(self.classes),
            "input": {
                "name": "images",
                "shape": [self.batch, *self.image_size, 3] if last else [self.batch, 3, *self.image_size],
            },
            "preprocessing": {
                **PREPROCESSING,
                "tensor": "nhwc" if last else "nchw",
                "interpolation": {"smaller": self.interpolation, "larger": "bilinear"},
            },
            "layout": self.layout,
            "outputs": list(OUTPUTS[self.layout]),
            "one_box_per_object": self.end_to_end,
            "suppression": inside,
            "largest_difference_to_torch": self.checked,
            "architecture": self.architecture,
        }

    @classmethod
    def read(cls, folder: Path) -> Deployed:
        """Read and check ``metadata.json`` of a folder, and that its files are unchanged.

        Raises:
            InputError: The metadata or a file is missing, damaged or of a later version.
        """
        path = folder / METADATA
        data = JsonObject.of(read_json(path, "nas export writes it; export the model again"), str(path))
        data.integer("format_version", 1, VERSION)
        runtime, precision, layout = data.text("runtime"), data.text("precision"), data.text("layout")
        classes = data.texts("classes")
        if runtime not in RUNTIMES or precision not in PRECISIONS or layout not in OUTPUTS:
            raise InputError(
                f"{path}: {runtime}, {precision}, {layout}", "a runtime, precision and layout of this version"
            )
        if not 1 <= len(classes) <= MAX_CLASSES or not all(classes):
            raise InputError(f"{path}: {len(classes)} classes", f"1 to {MAX_CLASSES:,} names")
        interpolation = data.object("preprocessing").object("interpolation").text("smaller")
        if interpolation not in INTERPOLATIONS:
            raise InputError(f"{path}: interpolation {brief(interpolation)}", f"one of {', '.join(INTERPOLATIONS)}")
        batch, image_size = _shape(data.object("input"), RUNTIMES[runtime].channels_last)
        files = {name: data.object("files").text(name) for name in data.object("files").entries}
        for name, digest in files.items():
            if Path(name).name != name or _digest(folder / name) != digest:
                raise InputError(f"{folder / name} is not the file of {path}", "the exported files", "export it again")
        return cls(
            runtime=runtime, version=data.text("runtime_version"), precision=precision, classes=classes,
            image_size=image_size, batch=batch, layout=layout,
            end_to_end=data.boolean("one_box_per_object"),
            suppression=Suppression.from_json(data.object("suppression")) if data.has("suppression") else None,
            checked=data.number("largest_difference_to_torch") if data.has("largest_difference_to_torch") else None,
            architecture=data.entries.get("architecture"), interpolation=interpolation,
        )  # fmt: skip

    def write(self, folder: Path) -> Path:
        """Write ``metadata.json``, with the digests of all files of the folder, and return its path.

        Raises InputError if a file cannot be read.
        """
        files = {p.name: _digest(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != METADATA}
        content = {**self.to_dict(), "files": files}
        (folder / METADATA).write_text(json_text(content, indent=2, allow_nan=True) + "\n", encoding="utf-8")
        return folder / METADATA


def _shape(data: JsonObject, channels_last: bool) -> tuple[int, ImageSize]:
    """Batch and image size of the input."""
    shape = data.array("shape")
    if channels_last and len(shape) == 4:
        shape = [shape[0], shape[3], *shape[1:3]]
    sides = [x for x in shape if isinstance(x, int) and not isinstance(x, bool)]
    if len(shape) != 4 or len(sides) != 4 or not 1 <= sides[0] <= MAX_BATCH or sides[1] != 3:
        raise InputError(f"{data.where}: shape {shape}", "batch, 3, height, width")
    if any(not STRIDE <= side <= MAX_SIDE or side % STRIDE for side in sides[2:]):
        raise InputError(f"{data.where}: shape {shape}", f"sides that are multiples of {STRIDE} up to {MAX_SIDE}")
    return sides[0], ImageSize(*sides[2:])


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path, MAX_FILE_BYTES, "a file that nas export wrote")).hexdigest()


def deployed_folder(path: Path) -> Path | None:
    """Return the folder of a deployed model, given itself or a file in it; None for another path."""
    folder = path if path.is_dir() else path.parent
    of_model = path.is_dir() or path.name == METADATA or path.suffix not in (".onnx", ".safetensors")
    return folder if of_model and (folder / METADATA).is_file() else None


class DeployedBackend(Backend):
    """A folder that ``nas export --to`` wrote, in its runtime."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        folder = deployed_folder(path)
        if folder is None:
            raise InputError(f"no {METADATA} in {path}", "a folder that nas export --to wrote")
        self._path, self._about = folder, Deployed.read(folder)
        runtime = RUNTIMES[self._about.runtime]
        kinds = ("auto", "cpu" if runtime.default_device.lower() == "cpu" else "cuda")
        if device.partition(":")[0] not in kinds:
            raise InputError(f"device {device!r} for {self._about.runtime}", " or ".join(kinds))
        session = runtime.open_files(self._about.target, folder, OUTPUTS[self._about.layout])
        if session is None:
            raise InputError(
                f"{folder} is for {self._about.runtime}, which cannot run here", "a machine with its device"
            )
        self._session = session
        self.classes, self.end_to_end = self._about.classes, self._about.end_to_end
        self.image_size = self._about.image_size
        self.inside, self.interpolation = self._about.suppression, self._about.interpolation

    @property
    def runtime(self) -> str:
        """Return runtime, version and precision, for example ``ncnn 1.0.20261020, fp32``."""
        return f"{self._about.runtime} {RUNTIMES[self._about.runtime].version()}, {self._about.precision}"

    def run(self, images: NDArray[np.float32]) -> Raw:
        """Run images float32 [N, 3, H, W] in 0..1, divided into the batches of the files.

        Raises InputError if the runtime fails, or its outputs have other shapes than the metadata says.
        """
        size, parts = self._about.batch, []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            full = np.zeros((size, *images.shape[1:]), np.float32)
            full[: len(part)] = part
            try:
                arrays = [np.asarray(array)[: len(part)] for array in self._session(full)]
            except InputError as error:
                raise InputError(f"{self._path} cannot be run on {counted(len(images), 'image')} ({error})") from None
            parts.append(to_raw(self._about.layout, arrays, len(self.classes), len(part), str(self._path)))
        return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([scores for _, scores in parts])
