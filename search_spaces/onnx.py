"""An architecture as an ONNX file in milliseconds, straight from the one network definition: for timing, where
weights do not matter.

Every cell is run once on the meta device, in deployed form, while the operators that torch dispatches are written
down as ONNX nodes. These fragments are memoised per (cell, input shapes), as traces are, and a network's file is its
fragments put together with random weights. The export of what was trained goes through torch's exporter
(``nas.export.onnx``); ``tests/search_spaces/test_onnx_graph.py`` holds the two equal, with the same weights, for
every block and head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.detector import Detector, cell, channels
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.heads.base import Head
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.layers import fuse
from search_spaces.onnx_nodes import Array, Fragment, record
from search_spaces.op import Shape

OPSET, IR_VERSION = 17, 8
DECODE = "decode"


@lru_cache(50_000)
def _cell(node: Node, c_in: Layout, inputs: tuple[Shape, ...], batch: int, num_classes: int | None) -> Fragment:
    """A cell at these input shapes (channels, height, width), deployed."""
    with torch.device("meta"):
        module = fuse(cell(node, c_in, num_classes).eval(), full=True)
        images = [torch.empty((batch, *shape)) for shape in inputs]
    return record(module, images, module)


@lru_cache(1_000)
def _decode(
    head: Node, c_in: Layout, levels: tuple[Shape, ...], batch: int, num_classes: int, image_size: ImageSize
) -> Fragment:
    """From a head's maps (per level classes, boxes) to boxes and scores; on the CPU, because the grid's values are
    part of the file."""
    with torch.random.fork_rng(devices=[]):  # a new module consumes random numbers
        module = cell(head, c_in, num_classes).eval()
    assert isinstance(module, Head)
    maps = [torch.zeros((batch, *shape)) for shape in levels]

    def call(*flat: Tensor) -> tuple[Tensor, Tensor]:
        pairs = tuple(zip(flat[0::2], flat[1::2], strict=True))
        return module.decode(module.flatten(pairs, image_size.shape))

    return record(module, maps, call)


def build_onnx(
    graph: Graph, num_classes: int, image_size: AnySize | None = None, batch: int = 1, detector: Detector | None = None
) -> bytes:
    """Write the deployed network as ONNX: ``images`` (batch, 3, H, W) to ``boxes`` (batch, A, 4), xyxy in pixels, and
    ``scores`` (batch, A, classes).

    Args:
        graph: the network.
        num_classes: of the head.
        image_size: H x W in pixels; by default that of the graph.
        batch: images at a time.
        detector: deployed network whose weights are written. By default weights are random, the same at each call, with
            the variance that keeps the size of activations (He et al., arXiv:1502.01852).

    Raises:
        UnknownOperator: a block uses an operator that is not in :data:`search_spaces.onnx_nodes.WRITERS`.
    """
    size = ImageSize.of(image_size or graph.image_size)
    c_in = channels(graph)
    parts = _Parts()
    cells = {} if detector is None else {n.name: detector.cell(n) for n in (*graph.nodes, graph.head)}
    values: dict[str, tuple[str, Shape]] = {IMAGE: ("images", (3, *size))}
    for n in graph.nodes:
        fragment = _cell(_anonymous(n), c_in[n.name], tuple(values[i][1] for i in n.inputs), batch, None)
        (name,) = parts.add(n.name, fragment, [values[i][0] for i in n.inputs], cells.get(n.name))
        values[n.name] = (name, fragment.shapes[0])
    head = graph.head
    shapes = tuple(values[i][1] for i in head.inputs)
    maps = _cell(_anonymous(head), c_in[head.name], shapes, batch, num_classes)
    names = parts.add(head.name, maps, [values[i][0] for i in head.inputs], cells.get(head.name))
    decode = _decode(_anonymous(head), c_in[head.name], maps.shapes, batch, num_classes, size)
    parts.add(DECODE, decode, names, cells.get(head.name), ("boxes", "scores"))
    boxes, scores = decode.shapes
    return parts.model(batch, {"images": (3, *size)}, {"boxes": boxes, "scores": scores})


def _anonymous(n: Node) -> Node:
    """The memo must not depend on names."""
    return Node("", n.kind, tuple("" for _ in n.inputs), n.options)


class _Parts:
    """Fragments put together under the names of their cells. Written into the file's message at once: weights are
    large, and every copy takes time."""

    def __init__(self) -> None:
        import onnx

        self._model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="hw-nas-yolo")
        self._model.opset_import.add(version=OPSET)
        self._model.graph.name = "detector"

    def add(
        self,
        prefix: str,
        fragment: Fragment,
        inputs: Sequence[str],
        module: nn.Module | None = None,
        outputs: Sequence[str] = (),
    ) -> list[str]:
        """The global names of the fragment's outputs: those given, else its own under ``prefix``. Weights are the
        module's, or random."""
        from onnx import helper

        graph = self._model.graph
        names = (
            {f"in{i}": name for i, name in enumerate(inputs)}
            | {"": ""}
            | dict(zip(fragment.outputs, outputs, strict=False))
        )

        def of(name: str) -> str:
            return names.get(name, f"{prefix}/{name}")

        for i, n in enumerate(fragment.nodes):
            attributes = dict(n.attributes)
            graph.node.append(
                helper.make_node(
                    n.kind,
                    [of(x) for x in n.inputs],
                    [of(x) for x in n.outputs],
                    f"{prefix}/{n.kind}_{i}",
                    **attributes,
                )
            )
        for name, values in fragment.constants.items():
            self._tensor(of(name), values)
        own = None if module is None else {name: p.detach().cpu().numpy() for name, p in module.named_parameters()}
        for name, shape in fragment.parameters.items():
            self._tensor(of(name), random_weight(shape, len(graph.initializer)) if own is None else own[name])
        return [of(name) for name in fragment.outputs]

    def _tensor(self, name: str, values: Array) -> None:
        from onnx import helper

        self._model.graph.initializer.add(
            name=name,
            dims=values.shape,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            raw_data=values.tobytes(),
        )

    def model(self, batch: int, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> bytes:
        """The file, float32 in and out; shapes are without the batch."""
        from onnx import TensorProto, helper

        for ends, side in ((self._model.graph.input, inputs), (self._model.graph.output, outputs)):
            ends.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in side.items()
            )
        return bytes(self._model.SerializeToString())


POOL = 1_000_003


@lru_cache(1)
def _normals() -> NDArray[np.float32]:
    once = np.random.default_rng(0).standard_normal(POOL, np.float32)
    return np.concatenate((once, once))


def random_weight(shape: Shape, number: int = 0) -> NDArray[np.float32]:
    """Return a random weight of this shape: normal with the variance that keeps the size of activations.

    A bias is small; a single scale is 1. One million numbers are repeated: drawing 40 million takes longer than all the
    rest, and the time of a runtime does not depend on them. Each ``number`` begins elsewhere among them, as TensorRT
    keeps equal weights once.
    """
    if shape in ((), (1,)):
        return np.ones(shape, np.float32)
    scale = np.float32(0.1 if len(shape) == 1 else np.sqrt(2 / math.prod(shape[1:])))
    start, count = number * 7919 % POOL, math.prod(shape)
    normals = _normals()[start : start + min(count, POOL)]
    return np.multiply(normals if count <= POOL else np.resize(normals, count), scale).reshape(shape)
