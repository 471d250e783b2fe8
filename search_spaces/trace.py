"""Operations, MACs, parameters and activation memory of an architecture without running it.

Every cell is traced once on the meta device, in deployed form, by watching the operators that torch dispatches: a block never describes itself twice.
Traces are memoised per (cell, input shapes), because a search meets far fewer distinct cells than architectures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_spaces.detector import cell, channels
from search_spaces.graph import IMAGE, Graph, Layout, Node
from search_spaces.layers import fuse
from search_spaces.op import Cost, Op, Shape

# Operators that only rename memory: no operation of a runtime, no new buffer.
VIEWS = {"view", "reshape", "split", "chunk", "unsqueeze", "squeeze", "slice", "select", "permute", "transpose", "t", "expand", "detach", "alias", "split_with_sizes"}
# Operators a runtime fuses into the convolution before them.
POINTWISE = {"relu", "relu_", "silu", "silu_", "sigmoid", "hardswish", "hardswish_", "add", "add_", "mul", "mul_"}


class _Recorder(TorchDispatchMode):
    """Collects an :class:`Op` per dispatched operator, with the storages it reads and writes."""

    def __init__(self, parameters: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.parameters = parameters
        self.ops: list[Op] = []
        self.reads: list[set[int]] = []
        self.writes: list[tuple[int, int]] = []  # (storage, elements)
        self.alive: list[Tensor] = []  # keeps storages from being re-used under one key

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        result = next((t for t in tree_leaves(out) if isinstance(t, Tensor)), None)
        if result is None or name in VIEWS:
            return out
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        inputs = [t for t in tensors if id(t) not in self.parameters]
        params = sum(t.numel() for t in tensors if id(t) in self.parameters)
        self._record(name, args, inputs, result, params)
        self.alive += [*inputs, result]
        return out

    def _record(self, name: str, args: tuple[Any, ...], inputs: list[Tensor], result: Tensor, params: int) -> None:
        reads = {_storage(t) for t in inputs}
        if name in POINTWISE and self.ops and self.ops[-1].kind in ("conv", "deconv") and self.writes[-1][0] in reads:
            last = self.ops[-1]
            extra = tuple(_shape(t) for t in inputs if _storage(t) != self.writes[-1][0])
            self.ops[-1] = Op(
                last.kind, last.inputs + extra, last.output, last.kernel, last.stride, last.groups, last.macs, last.params + params, (*last.fused, name.rstrip("_"))
            )
            self.reads[-1] |= reads - {self.writes[-1][0]}
            self.writes[-1] = (_storage(result), self.writes[-1][1])
            return
        self.ops.append(_op(name, args, inputs, result, params))
        self.reads.append(reads)
        self.writes.append((_storage(result), result.numel()))


def _op(name: str, args: tuple[Any, ...], inputs: list[Tensor], result: Tensor, params: int) -> Op:
    shapes = tuple(_shape(t) for t in inputs)
    if name == "convolution":
        weight, stride, transposed, groups = args[1], args[3][0], args[6], args[8]
        macs = (inputs[0] if transposed else result).numel() * weight.numel() // weight.shape[0]
        return Op("deconv" if transposed else "conv", shapes, _shape(result), int(weight.shape[2]), int(stride), int(groups), macs, params)
    if name in ("mm", "bmm", "addmm", "baddbmm"):
        return Op("matmul", shapes, _shape(result), macs=result.numel() * int(inputs[-2 if len(inputs) > 1 else 0].shape[-1]), params=params)
    if "pool" in name:
        return Op("pool", shapes, _shape(result), int(args[1][0]), int(args[2][0]) if len(args) > 2 and args[2] else 1, params=params)
    return Op({"cat": "concat"}.get(name, name.rstrip("_")), shapes, _shape(result), params=params)


def _shape(t: Tensor) -> Shape:
    return tuple(int(n) for n in t.shape[1:])


def _storage(t: Tensor) -> int:
    return id(t.untyped_storage()) if t.device.type != "meta" else t.untyped_storage()._cdata


@lru_cache(50_000)
def trace_cell(node: Node, c_in: Layout, inputs: tuple[Shape, ...], num_classes: int | None = None) -> tuple[Cost, tuple[Shape, ...]]:
    """Cost of one cell at these input shapes (channels, height, width) and the shapes of its outputs (one per tensor)."""
    with torch.device("meta"), torch.no_grad():
        module = fuse(cell(node, c_in, num_classes).eval(), full=True)
        images = [torch.empty((1, *shape)) for shape in inputs]
        parameters = {id(p): p for p in module.parameters()}
        with _Recorder(parameters) as recorder:
            out = module(*images)
    outputs = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    keep = {_storage(t) for t in outputs}
    given = {_storage(t): t.numel() for t in images}
    cost = Cost(
        params=sum(p.numel() for p in module.parameters()),
        macs=sum(op.macs for op in recorder.ops),
        activations=sum(n for _, n in recorder.writes),
        peak_activations=_peak(recorder.reads, recorder.writes, given, keep),
        ops=tuple(recorder.ops),
    )
    return cost, tuple(_shape(t) for t in outputs)


def _peak(reads: list[set[int]], writes: list[tuple[int, int]], given: dict[int, int], keep: set[int]) -> int:
    """Most elements alive at once inside a cell, its inputs counted throughout (others may still read them) and freed by the caller."""
    last = {storage: i for i, storages in enumerate(reads) for storage in storages}
    alive = dict(given)
    peak = sum(alive.values())
    for i, (storage, size) in enumerate(writes):
        alive[storage] = size
        peak = max(peak, sum(alive.values()))
        for dead in [s for s in alive if last.get(s, -1) <= i and s not in keep and s not in given and s != storage]:
            del alive[dead]
    return peak


def trace_groups(graph: Graph, num_classes: int, image_size: int | None = None) -> dict[str, Cost]:
    """Cost of every named group of cells (stem, stage1, …, neck4, one per head level together as ``head``), in order of execution."""
    groups: dict[str, list[Cost]] = {}
    for n, cost in _cells(graph, num_classes, image_size):
        groups.setdefault(n.group, []).append(cost)
    return {name: _sum(costs, max(c.peak_activations for c in costs)) for name, costs in groups.items()}


def _cells(graph: Graph, num_classes: int, image_size: int | None) -> Iterable[tuple[Node, Cost]]:
    size = image_size or graph.image_size
    c_in = channels(graph)
    shapes: dict[str, Shape] = {IMAGE: (3, size, size)}
    for n in (*graph.nodes, graph.head):
        is_head = n is graph.head
        anonymous = Node("", n.kind, tuple("" for _ in n.inputs), n.options)  # the memo must not depend on names
        cost, out = trace_cell(anonymous, c_in[n.name], tuple(shapes[i] for i in n.inputs), num_classes if is_head else None)
        shapes[n.name] = out[0]
        yield n, cost


def _sum(costs: list[Cost], peak: int) -> Cost:
    return Cost(
        sum(c.params for c in costs), sum(c.macs for c in costs), sum(c.activations for c in costs), peak, tuple(op for c in costs for op in c.ops)
    )


def trace(graph: Graph, num_classes: int, image_size: int | None = None) -> Cost:
    """Cost of a whole network at batch 1 and ``image_size`` (its own by default), decoding and non-maximum suppression not included."""
    nodes = (*graph.nodes, graph.head)
    last = {i: step for step, n in enumerate(nodes) for i in n.inputs}
    size = image_size or graph.image_size
    held = {IMAGE: 3 * size * size}
    peak, costs = 0, []
    for step, (n, cost) in enumerate(_cells(graph, num_classes, image_size)):
        costs.append(cost)
        waiting = sum(elements for name, elements in held.items() if name not in n.inputs)
        peak = max(peak, waiting + cost.peak_activations)
        held[n.name] = math.prod(cost.ops[-1].output)
        for name in [name for name in held if last.get(name, -1) <= step]:
            del held[name]
    return _sum(costs, peak)
