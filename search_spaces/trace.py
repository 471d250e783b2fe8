"""Operations, MACs, parameters and activation memory of an architecture without running it.

Every cell is traced once on the meta device, in deployed form, by watching the operators that torch dispatches: a
block never describes itself twice. Traces are memoised per (cell, input shapes), because a search meets far fewer
distinct cells than architectures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from search_spaces.detector import cell, channels
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.image_size import AnySize, ImageSize
from search_spaces.layers import fuse
from search_spaces.op import Cost, Op, Shape
from search_spaces.operator_mode import OperatorMode, result_of

# Operators that only rename memory: no operation of a runtime, no new buffer.
VIEWS = {"view", "reshape", "squeeze", "unsqueeze", "expand", "permute", "transpose", "t", "detach", "alias"}
VIEWS |= {"slice", "select", "split", "split_with_sizes", "chunk", "_unsafe_view"}
# Operators a runtime fuses into the convolution before them.
POINTWISE = {"relu", "relu_", "silu", "silu_", "sigmoid", "hardswish", "hardswish_", "add", "add_", "mul", "mul_"}
POINTWISE |= {"leaky_relu", "leaky_relu_"}


NAMES = {"cat": "concat", "clone": "copy", "_softmax": "softmax", "upsample_nearest2d": "upsample"}
"""What operators are called here, where not by torch's name."""


class _Recorder(OperatorMode):
    """Collects a :class:`_Step` per dispatched operator."""

    def __init__(self, parameters: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.parameters = parameters
        self.steps: list[_Step] = []
        self.alive: list[Tensor] = []  # keeps storages from being re-used under one key

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        out = result_of(func, args, kwargs or {})
        result = next((t for t in tree_leaves(out) if isinstance(t, Tensor)), None)
        if result is None or name in VIEWS:
            return out
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        inputs = [t for t in tensors if id(t) not in self.parameters]
        params = sum(t.numel() for t in tensors if id(t) in self.parameters)
        op = _op(name, args, inputs, result, params)
        self.steps.append(
            _Step(op, tuple(_storage(t) for t in inputs), _storage(result), result.numel(), name in POINTWISE)
        )
        self.alive += [*inputs, result]
        return out


@dataclass(frozen=True)
class _Step:
    """An operation with the storages it reads (one per input) and writes, and the elements it writes."""

    op: Op
    reads: tuple[int, ...]
    write: int
    elements: int
    pointwise: bool


def _fuse_pointwise(steps: list[_Step], keep: set[int]) -> list[_Step]:
    """Pointwise operators joined to the conv before them, unless what the conv alone gives is still read afterwards
    or is an output (``keep``)."""
    last = {storage: i for i, step in enumerate(steps) for storage in step.reads}
    fused: list[_Step] = []
    for i, step in enumerate(steps):
        before = fused[-1] if fused and fused[-1].op.kind in ("conv", "deconv") else None
        if (
            before
            and step.pointwise
            and before.write in step.reads
            and (step.write == before.write or (last[before.write] == i and before.write not in keep))
        ):
            others = [j for j, storage in enumerate(step.reads) if storage != before.write]
            op = replace(
                before.op,
                inputs=before.op.inputs + tuple(step.op.inputs[j] for j in others),
                params=before.op.params + step.op.params,
                fused=(*before.op.fused, step.op.kind),
            )
            fused[-1] = _Step(
                op, before.reads + tuple(step.reads[j] for j in others), step.write, before.elements, False
            )
        else:
            fused.append(step)
    return fused


def _op(name: str, args: tuple[Any, ...], inputs: list[Tensor], result: Tensor, params: int) -> Op:
    shapes = tuple(_shape(t) for t in inputs)
    if name == "convolution":
        weight, stride, transposed, groups = args[1], args[3][0], args[6], args[8]
        macs = (inputs[0] if transposed else result).numel() * weight.numel() // weight.shape[0]
        return Op(
            "deconv" if transposed else "conv",
            shapes,
            _shape(result),
            int(weight.shape[2]),
            int(stride),
            int(groups),
            macs,
            params,
        )
    if name == "bmm":
        return _batched_product(shapes_of(inputs), params)
    if name in ("mm", "addmm"):
        return Op(
            "matmul",
            shapes,
            _shape(result),
            macs=result.numel() * int(inputs[-2 if len(inputs) > 1 else 0].shape[-1]),
            params=params,
        )
    if "pool" in name:
        return Op(
            "pool",
            shapes,
            _shape(result),
            int(args[1][0]),
            int(args[2][0]) if len(args) > 2 and args[2] else 1,
            params=params,
        )
    return Op(NAMES.get(name, name.rstrip("_")), shapes, _shape(result), params=params)


def _batched_product(shapes: tuple[Shape, ...], params: int) -> Op:
    """(G, M, K) by (G, K, N), a batch of 1 merged into G: one product of G groups, channels first, as a grouped 1x1
    conv of M positions would be."""
    (groups, rows, inner), (_, _, columns) = shapes
    inputs = ((groups * inner, rows), (groups * inner, columns))
    return Op(
        "matmul", inputs, (groups * columns, rows), groups=groups, macs=groups * rows * inner * columns, params=params
    )


def shapes_of(tensors: list[Tensor]) -> tuple[Shape, ...]:
    """Return the whole shape of each tensor."""
    return tuple(tuple(int(n) for n in t.shape) for t in tensors)


def _shape(t: Tensor) -> Shape:
    """Without the batch of 1; where heads were merged into it, with them merged into the channels."""
    batch, *rest = (int(n) for n in t.shape)
    return tuple(rest) if batch == 1 or not rest else (batch * rest[0], *rest[1:])


def _storage(t: Tensor) -> int:
    return id(t.untyped_storage()) if t.device.type != "meta" else t.untyped_storage()._cdata


@lru_cache(50_000)
def trace_cell(
    node: Node, c_in: Layout, inputs: tuple[Shape, ...], num_classes: int | None = None
) -> tuple[Cost, tuple[Shape, ...]]:
    """Return the cost of one cell at input shapes (channels, height, width), and the shape of each of its outputs."""
    with torch.device("meta"), torch.no_grad():
        module = fuse(cell(node, c_in, num_classes).eval(), full=True)
        images = [torch.empty((1, *shape)) for shape in inputs]
        parameters = {id(p): p for p in module.parameters()}
        with _Recorder(parameters) as recorder:
            out = module(*images)
    outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    keep = {_storage(t) for t in outputs}
    given = {_storage(t): t.numel() for t in images}
    steps = _fuse_pointwise(recorder.steps, keep)
    cost = Cost(
        params=sum(p.numel() for p in module.parameters()),
        macs=sum(step.op.macs for step in steps),
        activations=sum(step.elements for step in steps),
        peak_activations=_peak(steps, given, keep),
        ops=tuple(step.op for step in steps),
    )
    return cost, tuple(_shape(t) for t in outputs)


def _peak(steps: list[_Step], given: dict[int, int], keep: set[int]) -> int:
    """Most elements alive at once inside a cell, its inputs counted throughout (others may still read them) and freed
    by the caller."""
    last = {storage: i for i, step in enumerate(steps) for storage in step.reads}
    alive = dict(given)
    peak = sum(alive.values())
    for i, step in enumerate(steps):
        alive[step.write] = step.elements
        peak = max(peak, sum(alive.values()))
        for dead in [s for s in alive if last.get(s, -1) <= i and s not in keep and s not in given and s != step.write]:
            del alive[dead]
    return peak


def trace_groups(graph: Graph, num_classes: int, image_size: AnySize | None = None) -> dict[str, Cost]:
    """Return the cost of every named group of cells in order of execution: stem, stage1, …, neck4.

    All levels of the head are one group, ``head``.
    """
    groups: dict[str, list[Cost]] = {}
    for n, cost in _cells(graph, num_classes, image_size):
        groups.setdefault(n.group, []).append(cost)
    return {name: _sum(costs, max(c.peak_activations for c in costs)) for name, costs in groups.items()}


def _cells(graph: Graph, num_classes: int, image_size: AnySize | None) -> Iterable[tuple[Node, Cost]]:
    size = ImageSize.of(image_size or graph.image_size)
    c_in = channels(graph)
    shapes: dict[str, Shape] = {IMAGE: (3, *size)}
    for n in (*graph.nodes, graph.head):
        is_head = n is graph.head
        anonymous = Node("", n.kind, tuple("" for _ in n.inputs), n.options)  # the memo must not depend on names
        cost, out = trace_cell(
            anonymous, c_in[n.name], tuple(shapes[i] for i in n.inputs), num_classes if is_head else None
        )
        shapes[n.name] = out[0]
        yield n, cost


def _sum(costs: list[Cost], peak: int) -> Cost:
    return Cost(
        sum(c.params for c in costs),
        sum(c.macs for c in costs),
        sum(c.activations for c in costs),
        peak,
        tuple(op for c in costs for op in c.ops),
    )


def trace(graph: Graph, num_classes: int, image_size: AnySize | None = None) -> Cost:
    """Return the cost of a whole network at batch 1, without decoding and non-maximum suppression.

    ``image_size``: of the images; by default that of the graph.
    """
    nodes = (*graph.nodes, graph.head)
    last = {i: step for step, n in enumerate(nodes) for i in n.inputs}
    size = ImageSize.of(image_size or graph.image_size)
    held = {IMAGE: 3 * size.area}
    peak, costs = 0, []
    for step, (n, cost) in enumerate(_cells(graph, num_classes, image_size)):
        costs.append(cost)
        waiting = sum(elements for name, elements in held.items() if name not in n.inputs)
        peak = max(peak, waiting + cost.peak_activations)
        held[n.name] = math.prod(cost.ops[-1].output)
        for name in [name for name in held if last.get(name, -1) <= step]:
            del held[name]
    return _sum(costs, peak)
