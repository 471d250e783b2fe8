"""Checks of an ONNX file before it is run: what it says of itself, its inputs and outputs, its size when it runs.

An ONNX file is a program from outside. Its metadata size buffers, its graph decides about time and memory. A file that
``nas export`` or ``nas quantize`` wrote passes; anything else is refused in one line before a session is opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.transforms import AREA, INTERPOLATIONS
from nas.inference.layouts import OUTPUTS, layout_of
from nas.inference.nms import Suppression
from search_spaces.errors import InputError
from search_spaces.foreign_files import UnreadableFile, read_bytes
from search_spaces.image_size import STRIDE, ImageSize
from search_spaces.json_checks import JsonObject, parse_json
from search_spaces.text import brief

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2 << 30
"""Largest ONNX file (protobuf ends there) and largest file of weights beside it."""
MAX_SIDE = 4096
"""Largest image size in pixels."""
"""Image sizes are multiples of it: the largest stride of a detector."""
MAX_CLASSES = 100_000
MAX_ANCHORS = 1 << 20
"""Most boxes per image before suppression; a network at 1280 px has 33,600."""
MAX_TENSOR_BYTES = 2 << 30
"""Largest tensor of the graph for one image."""
MAX_BATCH = 1024

_EXPECTED = "a file that nas export wrote"
_SUPPRESSIONS = ("nms", "none", "inside")
_SMALL = 1024
"""Elements up to which an initializer may be a shape that other shapes are computed from."""


@dataclass(frozen=True)
class CheckedOnnx:
    """An ONNX file that passed the checks.

    Attributes:
        source: What a session is opened with: the content, or the path where weights lie in a file beside it.
        classes: Class names in the order of the scores.
        image_size: Of the input.
        end_to_end: Whether the network gives one box per object, so that nothing is to be suppressed.
        batch: Number of images of one run; None where it is free.
        layout: Layout of the outputs, one of :data:`nas.inference.layouts.OUTPUTS`.
        inside: Settings of the suppression in the file; None if the outputs are not suppressed.
        interpolation: How images are shrunk, one of :data:`nas.data.transforms.INTERPOLATIONS`.
    """

    source: bytes | str
    classes: tuple[str, ...]
    image_size: ImageSize
    end_to_end: bool
    batch: int | None
    layout: str = "dense"
    inside: Suppression | None = None
    interpolation: str = AREA


def check_onnx(path: Path) -> CheckedOnnx:
    """Read an ONNX file and check everything that running it relies on.

    Raises:
        InputError: The file is missing, no regular file, no ONNX file, or is refused by a check; one line that names it.
    """
    import onnx

    try:
        content = read_bytes(path, MAX_FILE_BYTES, "an ONNX file that nas export wrote")
    except UnreadableFile as error:
        if error.missing:
            raise InputError(f"no model {path}", "an ONNX file that nas export wrote") from None
        raise
    try:
        proto = onnx.load_from_string(content)
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError, whose package has no types
        raise InputError(f"{path} is no usable ONNX file ({error})", _EXPECTED) from None
    try:
        classes, image_size = _metadata(proto, path)
        external = _external_files(proto, path)
        if any(_has_subgraph(node) for node in proto.graph.node) or len(proto.functions):
            raise InputError("the graph has loops, branches or functions", "a plain graph")
        batch, layout = _check_interface(proto.graph, image_size, len(classes))
        _check_sizes(proto, image_size, batch)
        inside = _inside(proto, path) if layout == "detections" else None
        interpolation = _interpolation(proto)
        end_to_end = _suppression(proto) == "none" or layout == "detections"
    except UnreadableFile:
        raise
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}", hint=_HINT) from None
    return CheckedOnnx(
        str(path) if external else content, classes, image_size, end_to_end, batch, layout, inside, interpolation
    )


_HINT = "nas export writes such files; export it again"


def _entry(proto: onnx.ModelProto, key: str) -> str | None:
    return next((_text(entry.value) for entry in proto.metadata_props if entry.key == key), None)


def _interpolation(proto: onnx.ModelProto) -> str:
    found = _entry(proto, "interpolation") or AREA
    if found not in INTERPOLATIONS:
        raise InputError(f"interpolation {brief(found)}", f"one of {', '.join(INTERPOLATIONS)}")
    return found


def _suppression(proto: onnx.ModelProto) -> str:
    """What the file says of suppression: that it follows, that there is nothing to suppress, or that it is in the graph."""
    found = _entry(proto, "suppression") or "nms"
    if found not in _SUPPRESSIONS:
        raise InputError(f"suppression {brief(found)}", f"one of {', '.join(_SUPPRESSIONS)}")
    return found


def _text(value: str | bytes) -> str:
    """A string of a file; protobuf gives the bytes of one that is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _metadata(proto: onnx.ModelProto, path: Path) -> tuple[tuple[str, ...], ImageSize]:
    """Class names and image size."""
    names, size = _entry(proto, "classes"), _entry(proto, "image_size")
    if names is None or size is None:
        raise InputError(f"{path} does not name its classes", _EXPECTED)
    classes = parse_json(names, f"{path}: classes", max_bytes=16 << 20)
    if not isinstance(classes, list) or not 1 <= len(classes) <= MAX_CLASSES:
        raise InputError(f"classes are {brief(classes)}", f"1 to {MAX_CLASSES:,} names")
    if odd := [name for name in classes if not isinstance(name, str) or not name.strip()]:
        raise InputError(f"a class is called {brief(odd[0])}", "names")
    if len(set(classes)) < len(classes):
        raise InputError(f"classes {brief(classes)}", "every name once")
    return tuple(classes), _image_size(size)


def _image_size(text: str) -> ImageSize:
    try:
        size = ImageSize.of(text)
        if max(size.check()) <= MAX_SIDE:
            return size
    except InputError:
        pass
    raise InputError(f"image_size is {brief(text)}", f"a multiple of {STRIDE} from {STRIDE} to {MAX_SIDE}, or HxW")


def _external_files(proto: onnx.ModelProto, path: Path) -> bool:
    """Whether weights lie in files beside the model.

    Raises InputError unless these are regular files of bounded size in the folder of the model.
    """
    folder = path.resolve().parent
    locations = {entry.value for tensor in _tensors(proto) for entry in tensor.external_data if entry.key == "location"}
    for location in sorted(locations):
        if "\0" in location:
            raise InputError(f"weights in {brief(location)}", "the name of a file beside it")
        file = (folder / location).resolve()
        if Path(location).is_absolute() or not file.is_relative_to(folder):
            raise InputError(f"weights in {brief(location)}", "a file in the folder of the model")
        if not os.path.isfile(file) or file.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"weights in {brief(location)}, which is no file of at most 2 GiB", "a file beside it")
    return bool(locations)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All constant tensors of a graph without subgraphs."""
    yield from proto.graph.initializer
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute)


def _inside(proto: onnx.ModelProto, path: Path) -> Suppression:
    """The settings of the suppression in a file."""
    settings = _entry(proto, "suppression_settings") or "null"
    data = JsonObject.of(parse_json(settings, f"{path}: suppression_settings"), f"{path}: suppression_settings")
    return Suppression.from_json(data)


def _check_interface(graph: onnx.GraphProto, image_size: ImageSize, classes: int) -> tuple[int | None, str]:
    """The batch size, None where it is free, and the layout of the outputs.

    Raises InputError unless the graph takes images (N, 3, H, W) and gives the outputs of a layout.
    """
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if [value.name for value in inputs] != ["images"] or not _is_float(inputs[0]):
        raise InputError(f"inputs {_listed(inputs)}", "one input images of float32")
    batch, *sides = _shape(inputs[0]) or [None]
    if len(sides) != 3 or any(given not in (None, want) for given, want in zip(sides, (3, *image_size), strict=False)):
        raise InputError(f"images of shape {_shape(inputs[0])}", f"(batch, 3, {image_size.height}, {image_size.width})")
    if batch is not None and not 1 <= batch <= MAX_BATCH:
        raise InputError(f"a batch of {batch}", f"1 to {MAX_BATCH}, or a free one")
    return batch, _check_outputs(list(graph.output), classes)


def _check_outputs(outputs: list[onnx.ValueInfoProto], classes: int) -> str:
    """The layout of a graph's outputs; raises InputError for other names, types or shapes."""
    layout = layout_of([value.name for value in outputs])
    integers = ("labels", "count")
    floats = [value for value in outputs if value.name not in integers]
    if layout is None or len(outputs) != len(OUTPUTS[layout]) or not all(map(_is_float, floats)):
        raise InputError(f"outputs {_listed(outputs)}", "boxes and scores of float32")
    for value in outputs:
        shape = _shape(value)
        if shape is None:
            continue
        if layout == "dense" and not fits(shape, last := 4 if value.name == "boxes" else classes):
            raise InputError(
                f"{value.name} of shape {shape}", f"(batch, anchors, {last}), at most {MAX_ANCHORS:,} anchors"
            )
        if any(length is not None and length > MAX_ANCHORS for length in shape):
            raise InputError(f"{value.name} of shape {shape}", f"at most {MAX_ANCHORS:,} boxes")
    return layout


def fits(shape: Sequence[int | None], last: int) -> bool:
    """Return whether a shape, None for a free length, can be (batch, anchors, last)."""
    return len(shape) == 3 and (shape[1] is None or shape[1] <= MAX_ANCHORS) and shape[2] in (None, last)


def _shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Lengths, None for a free one; None where the file does not say."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and bool(value.type.tensor_type.elem_type == 1)  # TensorProto.FLOAT


def _listed(values: Sequence[onnx.ValueInfoProto]) -> str:
    return brief([value.name for value in values])


def _check_sizes(proto: onnx.ModelProto, image_size: ImageSize, batch: int | None) -> None:
    """Raise InputError for a tensor that needs over :data:`MAX_TENSOR_BYTES` for one image, as far as shapes follow from
    those of the inputs and of small constants."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(proto) if proto.ByteSize() < _SMALL**2 else _without_weights(proto, light)
    for value in light.graph.input:
        if value.name == "images":
            shape = onnx.helper.make_tensor_value_info("images", 1, [batch or 1, 3, *image_size])
            value.CopyFrom(shape)
    del light.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except (ValueError, RuntimeError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"a graph whose shapes do not fit ({error})", _EXPECTED) from None
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        lengths = [length or 1 for length in _shape(value) or ()]
        if 4 * math.prod(lengths) > MAX_TENSOR_BYTES * (batch or 1):
            raise InputError(
                f"{brief(value.name)} of shape {lengths}", f"tensors of at most {MAX_TENSOR_BYTES >> 30} GiB"
            )


def _without_weights(proto: onnx.ModelProto, light: onnx.ModelProto) -> None:
    """Fill ``light`` with the graph, its large constants declared as inputs: only their shapes matter."""
    import onnx

    light.ir_version = proto.ir_version
    light.opset_import.extend(proto.opset_import)
    light.graph.name = proto.graph.name
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    known = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            light.graph.initializer.append(tensor)
        elif tensor.name not in known:
            shape = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(shape)
