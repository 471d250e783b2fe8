"""The parts of a network as values that a diagram is drawn from: blocks, widths, depths, sizes, and their links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nas.core.estimate import Candidate
from nas.search.explain.run_data import RunData
from search_spaces.graph import IMAGE, Graph, Node

COLUMN_BACKBONE, COLUMN_HEAD = "backbone", "head"


@dataclass(frozen=True)
class NetworkPart:
    """A part of a network: one stage, one join of the neck, or the head.

    Args:
        name: Name of the part: ``stem``, ``stage2``, ``neck1``, ``head``.
        kind: Type of its main block.
        depth: Repetitions in the block; 0 where it has none.
        hidden: Inner channels of the block; 0 where it has none.
        channels: Channels of its output.
        size: Height and width of its output in pixels.
        stride: Pixels of the image per pixel of its output.
        inputs: Names of the parts that it reads.
        macs: Multiply-accumulates.
        params: Parameters.
        differs: Which of kind, depth, hidden and channels differ between the chosen networks.
    """

    name: str
    kind: str
    depth: int
    hidden: int
    channels: int
    size: tuple[int, int]
    stride: int
    inputs: tuple[str, ...]
    macs: int
    params: int
    differs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def network_parts(run: RunData, candidate: Candidate) -> tuple[NetworkPart, ...]:
    """Return the parts of a candidate's network, in order of execution."""
    from search_spaces.trace import trace_groups  # imports torch

    graph = run.plan.space.graph(candidate.architecture)
    size = run.plan.target.image_size or candidate.architecture.image_size
    costs = trace_groups(graph, run.num_classes, size)
    found = []
    for name, nodes in _groups(graph).items():
        cost = costs[name]
        channels, height, width = _output(cost.ops[-1].output)
        main = _main(nodes)
        options = dict(main.options)
        inputs = [i for n in nodes for i in n.inputs]
        others = tuple(dict.fromkeys(g for i in inputs if (g := _group_of(graph, i)) != name))
        is_head = main is graph.head
        found.append(
            NetworkPart(
                name,
                main.kind,
                _number(options.get("depth")),
                _number(options.get("hidden")),
                0 if is_head else channels,
                (height, width),
                0 if is_head else size.height // max(1, height),
                others,
                cost.macs,
                cost.params,
            )
        )
    return tuple(found)


def with_differences(networks: Sequence[tuple[NetworkPart, ...]]) -> list[tuple[NetworkPart, ...]]:
    """Return networks with what differs between their parts of one name marked."""
    compared = ("kind", "depth", "hidden", "channels")
    values: dict[tuple[str, str], set[object]] = {}
    for parts in networks:
        for part in parts:
            for field in compared:
                values.setdefault((part.name, field), set()).add(getattr(part, field))
    return [
        tuple(replace(part, differs=tuple(f for f in compared if len(values[part.name, f]) > 1)) for part in parts)
        for parts in networks
    ]


def _groups(graph: Graph) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in (*graph.nodes, graph.head):
        found.setdefault(node.group, []).append(node)
    return found


def _group_of(graph: Graph, name: str) -> str:
    if name == IMAGE:
        return IMAGE
    return next(n.group for n in (*graph.nodes, graph.head) if n.name == name)


def _main(nodes: Sequence[Node]) -> Node:
    """Return the node that names a part: its block, else its last node."""
    return next((n for n in nodes if n.name.endswith("_block")), nodes[-1])


def _output(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return channels, height and width of an output."""
    channels, height, width = (*shape, 1, 1)[:3]
    return int(channels), int(height), int(width)


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def shares_of(parts: Sequence[NetworkPart], times: Mapping[str, float]) -> dict[str, float]:
    """Return the share of the time of each part by name; without times, the share of the multiply-accumulates."""
    weights = {p.name: times.get(p.name, 0.0) if times else float(p.macs) for p in parts}
    total = sum(weights.values()) or 1.0
    return {name: weight / total for name, weight in weights.items()}
