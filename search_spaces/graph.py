"""A network as a value: the graph of cells that :class:`search_spaces.detector.Detector` builds and runs. No torch
here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from search_spaces.architecture import Value
from search_spaces.image_size import SizeField

IMAGE = "image"
Layout = tuple[int, ...]
"""Channels of each concatenated part of an axis; their sum is the channel count. A part that an architecture lacks
has width 0 if later ones exist."""
Option = Value | Layout


@dataclass(frozen=True)
class Node:
    """One cell of the network: a registered block applied to the outputs of earlier nodes.

    Several inputs are concatenated along the channels unless the block says otherwise (a BiFusion joins three
    resolutions). ``group`` is the row of a per-module table it belongs to (``stage1``, ``neck2``).
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    options: tuple[tuple[str, Option], ...] = ()

    @property
    def group(self) -> str:
        """Return the name of the part of the network that the node belongs to: ``stage1`` of ``stage1_block``."""
        return self.name.split("_")[0]


def node(name: str, kind: str, inputs: str | tuple[str, ...], **options: Option) -> Node:
    """Make a :class:`Node` from its options as keywords, in canonical order."""
    return Node(name, kind, (inputs,) if isinstance(inputs, str) else inputs, tuple(sorted(options.items())))


Cell = tuple[str, Mapping[str, Option]]
"""What a cell is, without its place: kind and options, ``out`` among them."""


def place(name: str, cell: Cell, inputs: str | tuple[str, ...]) -> Node:
    """Place a cell in a network."""
    return node(name, cell[0], inputs, **cell[1])


def backbone(stem: Cell, stages: Sequence[tuple[Cell, Cell]]) -> list[Node]:
    """Return a stem and stages of a downsampling and a block each: ``stem``, ``stage1_down``, ``stage1_block``, …"""
    nodes = [place("stem", stem, IMAGE)]
    for i, (down, block) in enumerate(stages, 1):
        nodes.append(place(f"stage{i}_down", down, nodes[-1].name))
        nodes.append(place(f"stage{i}_block", block, nodes[-1].name))
    return nodes


@dataclass(frozen=True)
class Graph:
    """Cells in order of execution, then one head that reads the named feature maps (finest first)."""

    nodes: tuple[Node, ...]
    head: Node
    image_size: SizeField = SizeField()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)
