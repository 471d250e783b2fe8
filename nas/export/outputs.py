"""Outputs of an exported file: boxes and scores of all anchors, one tensor for servers, or suppressed detections.

Each function appends nodes of ONNX to a file with the layout ``dense`` (:mod:`nas.inference.layouts`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.inference.layouts import OUTPUTS
from nas.inference.nms import NEVER, Suppression

if TYPE_CHECKING:
    import onnx

ROUNDS = 32
"""Rounds of suppression with fixed shapes; 1000 crowded random boxes need up to 10 at an IoU threshold of 0.1."""


def to_yolo(proto: onnx.ModelProto) -> None:
    """Replace ``boxes`` and ``scores`` of a file by ``output0`` (N, 4 + C, A) of the layout ``yolo``."""
    nodes = _Nodes(proto, "yolo")
    # No product with a matrix: it would look like a layer with weights, which converters cut and quantize.
    low, high = nodes.many("Split", ["boxes", nodes.constant(np.array([2, 2], np.int64))], 2, axis=2)
    centre = nodes.add("Mul", [nodes.add("Add", [low, high]), nodes.constant(np.float32(0.5))])
    rows = nodes.add("Concat", [centre, nodes.add("Sub", [high, low]), "scores"], axis=2)
    nodes.add("Transpose", [rows], "output0", perm=[0, 2, 1])
    nodes.set_outputs({"output0": (np.float32, ("batch", None, None))})


def to_detections(
    proto: onnx.ModelProto,
    classes: int,
    anchors: int,
    suppression: Suppression,
    end_to_end: bool = False,
    fixed_shapes: bool = False,
) -> None:
    """Append non-maximum suppression to a file: ``boxes``, ``scores``, ``labels`` and ``count`` (``detections``).

    The rule is that of :func:`nas.inference.nms.nms`, with shapes that do not depend on values but inside:

    1. candidates are the best M scores of an image, over all classes with ``multi_label``, else of the best class of
       each anchor; a score that is not over the threshold becomes -1;
    2. ONNX's ``NonMaxSuppression``, each class for itself, marks the kept candidates; a network that gives one box per
       object has no such step;
    3. the best K of the kept are the detections, zeros behind them.

    Args:
        proto: A file with the outputs ``boxes`` (N, A, 4) and ``scores`` (N, A, C).
        classes: Number of classes C.
        anchors: Number of anchors A.
        suppression: Thresholds, M and K.
        end_to_end: Whether the network gives one box per object.
        fixed_shapes: Whether to compute step 2 without ``NonMaxSuppression``, whose output has a shape that depends on
            values: TensorRT-RTX cannot compile it, and no CUDA graph can hold it. See :func:`_suppressed_in_rounds`.
    """
    # The names are the file's outputs before and after: what is read gets other names.
    _rename(proto, {"boxes": "all_boxes", "scores": "all_scores"})
    nodes = _Nodes(proto, "suppression")
    pairs = anchors * classes if suppression.multi_label else anchors
    most = min(suppression.max_candidates, pairs)
    kept = min(suppression.max_detections, most)
    anchor, label, value = _best(nodes, classes, most, suppression.multi_label)
    over = nodes.add("Greater", [value, nodes.constant(np.float32(suppression.score_threshold))])
    value = nodes.add("Where", [over, value, nodes.constant(np.float32(-1))])
    boxes = _rows(nodes, "all_boxes", anchor)
    if not end_to_end and suppression.iou_threshold < NEVER:
        if fixed_shapes:
            value = _suppressed_in_rounds(nodes, boxes, label, value, most, suppression)
        else:
            value = _suppressed(nodes, boxes, label, value, classes, kept, suppression)
    best, place = nodes.many("TopK", [value, nodes.constant(np.array([kept], np.int64))], 2, axis=1, sorted=1)
    found = nodes.add("Greater", [best, nodes.constant(np.float32(0))])
    nodes.add("Where", [found, best, nodes.constant(np.float32(0))], "scores")
    ones = nodes.add("Cast", [found], to=1)
    nodes.add("Mul", [_rows(nodes, boxes, place), nodes.add("Unsqueeze", [ones, nodes.axes(2)])], "boxes")
    of_place = nodes.add("GatherElements", [label, place], axis=1)
    nodes.add("Cast", [of_place], "labels", to=6)
    total = nodes.add("ReduceSum", [ones, nodes.axes(1)], keepdims=0)
    nodes.add("Cast", [total], "count", to=6)
    shapes = {"boxes": ("batch", kept, 4), "scores": ("batch", kept), "labels": ("batch", kept), "count": ("batch",)}
    kinds = {name: np.float32 if name in ("boxes", "scores") else np.int32 for name in shapes}
    nodes.set_outputs({name: (kinds[name], shapes[name]) for name in OUTPUTS["detections"]})
    proto.metadata_props.add(key="suppression_settings", value=json.dumps(vars(suppression)))


def _best(nodes: _Nodes, classes: int, most: int, multi_label: bool) -> tuple[str, str, str]:
    """(anchor, class, score), each (N, M), of the best candidates."""
    count = nodes.constant(np.array([most], np.int64))
    if multi_label:
        flat = nodes.add("Flatten", ["all_scores"], axis=1)
        value, index = nodes.many("TopK", [flat, count], 2, axis=1, sorted=1)
        number = nodes.constant(np.array(classes, np.int64))
        anchor = nodes.add("Div", [index, number])
        return anchor, nodes.add("Sub", [index, nodes.add("Mul", [anchor, number])]), value
    best = nodes.add("ReduceMax", ["all_scores"], axes=[2], keepdims=0)
    label = nodes.add("ArgMax", ["all_scores"], axis=2, keepdims=0)
    value, anchor = nodes.many("TopK", [best, count], 2, axis=1, sorted=1)
    return anchor, nodes.add("GatherElements", [label, anchor], axis=1), value


def _rows(nodes: _Nodes, table: str, index: str) -> str:
    """The rows (N, K, 4) of boxes (N, A, 4) at the indices (N, K)."""
    wide = nodes.add("Unsqueeze", [index, nodes.axes(2)])
    four = nodes.add("Concat", [wide] * 4, axis=2)  # an Expand would need the free batch as a number
    return nodes.add("GatherElements", [table, four], axis=1)


def _suppressed(
    nodes: _Nodes, boxes: str, label: str, value: str, classes: int, kept: int, suppression: Suppression
) -> str:
    """The scores (N, M), -1 where the suppression removes the candidate."""
    numbers = nodes.constant(np.arange(classes, dtype=np.int64)[None, :, None])
    own = nodes.add("Equal", [nodes.add("Unsqueeze", [label, nodes.axes(1)]), numbers])
    wide = nodes.add("Unsqueeze", [value, nodes.axes(1)])
    table = nodes.add("Where", [own, wide, nodes.constant(np.float32(-1))])
    settings = [np.array([kept], np.int64)]
    settings += [np.array([x], np.float32) for x in (suppression.iou_threshold, suppression.score_threshold)]
    selected = nodes.add("NonMaxSuppression", [boxes, table, *map(nodes.constant, settings)])
    places = nodes.add("Gather", [selected, nodes.constant(np.array([0, 2], np.int64))], axis=1)
    first = nodes.add("Gather", [selected, nodes.constant(np.array(0, np.int64))], axis=1)
    zero, one = nodes.constant(np.float32(0)), nodes.constant(np.float32(1))
    ones = nodes.add("Add", [nodes.add("Mul", [nodes.add("Cast", [first], to=1), zero]), one])
    marks = nodes.add("ScatterND", [nodes.add("Mul", [value, zero]), places, ones])
    stays = nodes.add("Greater", [marks, zero])
    return nodes.add("Where", [stays, value, nodes.constant(np.float32(-1))])


def _suppressed_in_rounds(
    nodes: _Nodes, boxes: str, label: str, value: str, most: int, suppression: Suppression
) -> str:
    """The scores (N, M), -1 where the suppression removes the candidate, by tensors of fixed shapes.

    With S_ij = 1 where the better candidate j of the same class overlaps i by more than the threshold, greedy
    suppression keeps k_i = 1 if and only if no kept j has S_ij = 1. From k = 1 the rounds k <- [S k = 0] reach this
    fixed point: a candidate is final one round after all that may suppress it. :data:`ROUNDS` rounds suffice unless a
    longer chain of candidates, each only kept because the one before is not, crosses an image.
    """
    sides = nodes.many("Split", [boxes, nodes.constant(np.array([1] * 4, np.int64))], 4, axis=2)
    x1, y1, x2, y2 = sides
    zero, tiny = nodes.constant(np.float32(0)), nodes.constant(np.finfo(np.float32).tiny)

    def turned(x: str) -> str:
        return nodes.add("Transpose", [x], perm=[0, 2, 1])

    def shared(low: str, high: str) -> str:
        ends = nodes.add("Min", [high, turned(high)]), nodes.add("Max", [low, turned(low)])
        return nodes.add("Max", [nodes.add("Sub", list(ends)), zero])

    own = [nodes.add("Max", [nodes.add("Sub", [high, low]), zero]) for low, high in ((x1, x2), (y1, y2))]
    area = nodes.add("Mul", own)
    inner = nodes.add("Mul", [shared(x1, x2), shared(y1, y2)])
    union = nodes.add("Sub", [nodes.add("Add", [area, turned(area)]), inner])
    iou = nodes.add("Div", [inner, nodes.add("Max", [union, tiny])])
    over = nodes.add("Greater", [iou, nodes.constant(np.float32(suppression.iou_threshold))])
    number = nodes.add("Unsqueeze", [nodes.add("Cast", [label], to=1), nodes.axes(2)])
    same = nodes.add("Equal", [number, turned(number)])
    better = nodes.constant(np.tri(most, k=-1, dtype=bool)[None])
    pairs = nodes.add("And", [nodes.add("And", [over, same]), better])
    suppresses = nodes.add("Cast", [pairs], to=1)
    kept = nodes.add("Cast", [nodes.add("Equal", [number, number])], to=1)
    for _ in range(ROUNDS):
        hits = nodes.add("MatMul", [suppresses, kept])
        kept = nodes.add("Cast", [nodes.add("Not", [nodes.add("Greater", [hits, zero])])], to=1)
    stays = nodes.add("Greater", [nodes.add("Squeeze", [kept, nodes.axes(2)]), zero])
    return nodes.add("Where", [stays, value, nodes.constant(np.float32(-1))])


class _Nodes:
    """Nodes that are appended to a graph, with names under a prefix."""

    def __init__(self, proto: onnx.ModelProto, prefix: str) -> None:
        self._graph = proto.graph
        self._prefix = prefix
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}/{self._count}"

    def constant(self, value: npt.NDArray[np.generic] | np.generic) -> str:
        """Add an initializer and return its name."""
        from onnx import numpy_helper

        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def axes(self, axis: int) -> str:
        """Add one axis as an initializer and return its name."""
        return self.constant(np.array([axis], np.int64))

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self._append(kind, inputs, [output or self._name()], attributes)[0]

    def many(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        return self._append(kind, inputs, [self._name() for _ in range(outputs)], attributes)

    def _append(self, kind: str, inputs: Sequence[str], outputs: list[str], attributes: dict[str, Any]) -> list[str]:
        from onnx import helper

        self._graph.node.append(
            helper.make_node(kind, inputs, outputs, f"{self._prefix}/{kind}_{outputs[0]}", **attributes)
        )
        return outputs

    def set_outputs(self, outputs: dict[str, tuple[Any, tuple[Any, ...]]]) -> None:
        """Replace the graph's outputs: name -> number type and shape."""
        from onnx import helper

        del self._graph.output[:]
        for name, (kind, shape) in outputs.items():
            self._graph.output.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
            )


def _rename(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give tensors of a graph other names; its declared outputs keep theirs."""
    for node in proto.graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = names.get(name, name)
    for value in proto.graph.value_info:
        value.name = names.get(value.name, value.name)
