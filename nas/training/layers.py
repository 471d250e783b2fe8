"""Frozen layers and layer-wise learning rates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from search_spaces.detector import Detector
from search_spaces.errors import InputError
from search_spaces.graph import Graph, Node

_BACKBONE = re.compile(r"stem|stage\d+|sppf?|psa")


@dataclass(frozen=True)
class LayerConfig:
    """Layers that keep their weights and BatchNorm statistics (``frozen``), and factors of the learning rate for
    others (``rates``: pattern and factor; of several patterns that match a layer, the last counts).

    A pattern is the name of a node of the network, its group (``stage1``), ``backbone``, ``neck``, ``head``, or
    contains ``*`` (``neck*_block``). A pattern that matches no node is an error.
    """

    frozen: tuple[str, ...] = ()
    rates: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        for pattern, factor in self.rates:
            if not 0 < factor <= 100:
                raise InputError(
                    f"rate {factor} of {pattern!r}",
                    "a factor over 0, at most 100",
                    "to keep weights as they are: --freeze",
                )

    def __str__(self) -> str:
        """Return the text for a checkpoint's identity; empty where nothing is set."""
        frozen = f" frozen {','.join(self.frozen)}" if self.frozen else ""
        return frozen + (f" rates {','.join(f'{p}={f:g}' for p, f in self.rates)}" if self.rates else "")

    def freeze(self, detector: Detector) -> list[nn.Module]:
        """Switch off the gradients of the frozen cells and return these cells, which must be kept in evaluation mode
        while training. Raises InputError if no trainable parameter is left."""
        cells = [detector.cell(node) for node in nodes_of(detector.graph, self.frozen)]
        for cell in cells:
            cell.requires_grad_(False)
        if not any(p.requires_grad for p in detector.parameters()):
            raise InputError(f"everything is frozen ({', '.join(self.frozen)})", "at least one node that learns")
        return cells

    def groups(self, groups: list[dict[str, Any]], detector: Detector, lr: float) -> list[dict[str, Any]]:
        """Divide an optimizer's parameter groups by learning rate; groups at the full rate ``lr`` come first."""
        if not self.rates:
            return groups
        factor = {
            id(p): rate
            for pattern, rate in self.rates
            for n in nodes_of(detector.graph, (pattern,))
            for p in detector.cell(n).parameters()
        }
        divided = []
        for group in groups:
            by_rate: dict[float, list[nn.Parameter]] = {}
            for p in group["params"]:
                by_rate.setdefault(factor.get(id(p), 1.0), []).append(p)
            divided += [{**group, "params": parameters, "lr": lr * rate} for rate, parameters in by_rate.items()]
        return sorted(divided, key=lambda group: group["lr"] != lr)


ALL_LAYERS = LayerConfig()
"""Every layer is trained at the full learning rate."""


def nodes_of(graph: Graph, patterns: Iterable[str]) -> list[Node]:
    """Return the nodes that match any of the patterns (see :class:`LayerConfig`), in the order of the graph. Raises
    InputError for a pattern that matches none."""
    nodes = (*graph.nodes, graph.head)
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            n.name for n in nodes if pattern in (n.name, n.group, _region(n, graph)) or fnmatchcase(n.name, pattern)
        }
        if not found:
            groups = list(dict.fromkeys(n.group for n in graph.nodes))
            raise InputError(
                f"no node {pattern!r}", f"backbone, neck, head, {', '.join(groups)}, a node's name, or a pattern with *"
            )
        chosen |= found
    return [n for n in nodes if n.name in chosen]


def _region(node: Node, graph: Graph) -> str:
    if node is graph.head:
        return "head"
    return "backbone" if _BACKBONE.fullmatch(node.group) else "neck"
