"""ONNX files converted for ncnn by pnnx, ncnn's own converter.

ncnn has no batch dimension and lacks the broadcasts of a box decoding. So a file is converted for one image, and where
it decodes boxes, the decode tail (:func:`latency_db.conversion.onnx_parts.decode_tail`) is cut off: ncnn computes the
network up to the heads' last convolutions, and the tail stays an ONNX model of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_db.conversion.onnx_parts import check_operators, cut, decode_tail, input_shapes, parsed, read, replace
from search_spaces.errors import InputError
from search_spaces.foreign_files import read_text
from search_spaces.image_size import AnySize

if TYPE_CHECKING:
    import onnx

DECODING = {"Reshape", "Transpose", "Slice", "Split", "Gather", "TopK", "MatMul", "ReduceSum"}
"""Operators of a decode tail that ncnn is not asked to compute; a tail without any of them is left in the network."""
TIMEOUT_S = 600.0
"""How long pnnx may take: seconds for a detector."""
MAX_PARAM_BYTES = 64 << 20
PARAM, WEIGHTS, TAIL = "model.ncnn.param", "model.ncnn.bin", "decode.onnx"
"""Names of deployed files: layers, weights, and the box decoding for ONNX Runtime."""


@dataclass(frozen=True)
class NcnnFile:
    """A converted network.

    Attributes:
        param: ncnn's text file of layers.
        weights: ncnn's binary file.
        inputs: Name in the ONNX file -> shape with the batch; in ncnn the inputs are called in0, in1, …
        outputs: Names of the network's outputs in the ONNX file; in ncnn they are called out0, out1, …
        tail: The ONNX model that decodes these outputs; None if nothing was cut off.
    """

    param: Path
    weights: Path
    inputs: dict[str, list[int]]
    outputs: tuple[str, ...]
    tail: onnx.ModelProto | None


def convert(model: Path, folder: Path, batch: int = 1, image_size: AnySize | None = None) -> NcnnFile:
    """Convert an ONNX file for ncnn.

    Args:
        model: The file.
        folder: Folder of the converted files.
        batch: Images per run of the target; a free batch dimension takes it.
        image_size: Of the target; a free height or width takes it.

    Raises:
        InputError: The file cannot be read, its shape is not the target's, or pnnx cannot convert it.
    """
    import onnx

    proto = read(model)
    check_operators(proto)
    inputs = input_shapes(proto, batch, image_size)
    tail_nodes = decode_tail(proto)
    tail = None
    if any(n.op_type in DECODING for n in proto.graph.node if n.name in tail_nodes):
        proto, tail = cut(proto, tail_nodes)
        replace(tail.graph.input, list(proto.graph.output))
    _for_one_image(proto, inputs)
    _without_strides(proto)
    outputs = tuple(item.name for item in proto.graph.output)
    source = folder / "network.onnx"
    onnx.save(proto, str(source))
    _run_pnnx(source, model.name)
    return NcnnFile(folder / "network.ncnn.param", folder / "network.ncnn.bin", inputs, outputs, tail)


def write_files(file: NcnnFile, folder: Path) -> None:
    """Copy a converted network to a folder, as :data:`PARAM`, :data:`WEIGHTS` and, with a decode tail, :data:`TAIL`."""
    shutil.copyfile(file.param, folder / PARAM)
    shutil.copyfile(file.weights, folder / WEIGHTS)
    if file.tail is not None:
        (folder / TAIL).write_bytes(file.tail.SerializeToString())


def read_files(folder: Path) -> NcnnFile:
    """Return the network that :func:`write_files` wrote; without a tail its outputs have ncnn's names.

    Raises:
        InputError: The files are missing, or no network of pnnx.
    """
    tail = parsed(folder / TAIL) if (folder / TAIL).exists() else None
    names = read_text(folder / PARAM, MAX_PARAM_BYTES, "a network that pnnx converted").split()
    outputs = tuple(f"out{i}" for i in range(len({n for n in names if re.fullmatch(r"out[0-9]+", n)})))
    if tail is not None:
        outputs = tuple(item.name for item in tail.graph.input)
    if not outputs:
        raise InputError(f"{folder / PARAM} has no outputs", "a network that pnnx converted")
    return NcnnFile(folder / PARAM, folder / WEIGHTS, {}, outputs, tail)


def _for_one_image(proto: onnx.ModelProto, inputs: dict[str, list[int]]) -> None:
    """Fix the input shapes with a batch of one, also in shapes that the network reshapes to."""
    from onnx import helper, numpy_helper

    batch = next(iter(inputs.values()))[0]
    kinds = {item.name: item.type.tensor_type.elem_type for item in proto.graph.input}
    fixed = [helper.make_tensor_value_info(name, kinds[name], [1, *shape[1:]]) for name, shape in inputs.items()]
    replace(proto.graph.input, fixed)
    replace(proto.graph.value_info, [])
    for item in proto.graph.output:
        item.type.tensor_type.ClearField("shape")
    shapes = {n.input[1] for n in proto.graph.node if n.op_type in ("Reshape", "Expand")}
    for tensor in proto.graph.initializer:
        if tensor.name in shapes and batch > 1:
            values = numpy_helper.to_array(tensor).copy()
            if values.size and values[0] > 0 and values[0] % batch == 0:  # the batch, or a multiple: areas of attention
                values[0] //= batch
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _without_strides(proto: onnx.ModelProto) -> None:
    """Replace slices that take every s-th channel, which ncnn has not, by reshapes and a slice without a stride.

    (1, C, H, W) -> (1, C/s, s, H W) -> (1, C/s, 1, H W) -> (1, C/s, H, W).
    """
    import numpy as np
    from onnx import helper, numpy_helper, shape_inference

    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    if not any(n.op_type == "Slice" and _stride(n, constants) > 1 for n in proto.graph.node):
        return
    inferred = shape_inference.infer_shapes(proto).graph
    sizes = {
        item.name: [d.dim_value for d in item.type.tensor_type.shape.dim]
        for item in (*inferred.input, *inferred.value_info, *inferred.output)
    }

    def constant(name: str, values: Sequence[int]) -> str:
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    nodes: list[onnx.NodeProto] = []
    for n in proto.graph.node:
        step = _stride(n, constants) if n.op_type == "Slice" else 1
        shape_in = sizes.get(n.input[0], []) if step > 1 else []
        # The last channels of a slice that ends early, or of a last group that is not whole, would be wrong.
        if len(shape_in) != 4 or shape_in[1] % step or int(constants[n.input[2]][0]) < shape_in[1]:
            nodes.append(n)
            continue
        first, (_, channels, height, width) = int(constants[n.input[1]][0]), shape_in
        name, own = n.output[0], channels // step
        apart = constant(f"{name}/apart", (1, own, step, height * width))
        nodes.append(helper.make_node("Reshape", [n.input[0], apart], [f"{name}/parts"], f"{name}/parts"))
        part = [constant(f"{name}/{what}", [v]) for what, v in (("first", first), ("last", first + 1), ("axis", 2))]
        nodes.append(helper.make_node("Slice", [f"{name}/parts", *part], [f"{name}/part"], f"{name}/part"))
        shape = constant(f"{name}/shape", (1, own, height, width))
        nodes.append(helper.make_node("Reshape", [f"{name}/part", shape], [name], n.name))
    replace(proto.graph.node, nodes)


def _stride(node: onnx.NodeProto, constants: Mapping[str, Any]) -> int:
    """The stride of a slice of the channels that begins in the first group; 1 for any other slice."""
    if len(node.input) < 5 or any(name not in constants for name in node.input[1:5]):
        return 1
    first, _, axes, steps = (constants[name] for name in node.input[1:5])
    return int(steps[0]) if list(axes) == [1] and 0 <= first[0] < steps[0] else 1


def _run_pnnx(source: Path, name: str) -> None:
    """Run the converter in the folder of ``source``; raise InputError with its last words where it fails."""
    command = [str(converter()), source.name, "fp16=0"]
    try:
        done = subprocess.run(
            command, cwd=source.parent, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"pnnx cannot convert {name}: {error}") from None
    if done.returncode or not source.with_suffix(".ncnn.param").is_file():
        words = _words(done.stderr) or _words(done.stdout)
        raise InputError(f"pnnx cannot convert {name} (status {done.returncode}): {words[:300]}")


def _words(text: str) -> str:
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip() and not line.startswith("####")]
    return " ".join(" ".join(lines[-2:]).split())


def converter() -> Path:
    """Return the pnnx program that the wheel ``pnnx`` brings.

    Raises:
        InputError: It is not installed.
    """
    found = find_spec("pnnx")
    if found is None or not found.submodule_search_locations:
        raise InputError("pnnx not installed", hint="pip install 'hw-nas-yolo[ncnn]'")
    folder = Path(next(iter(found.submodule_search_locations)))
    return next((p for p in (folder / "pnnx", folder / "pnnx.exe") if p.is_file()), folder / "pnnx")
