"""Blocks of an exported detector: what is quantized, or kept in floating point, as one.

A block is a cell of the network's graph; in the head it is each part of each level. Blocks are found by the names of
the exported file's nodes, which contain the path of their module (``/detector/stage1_block-qsp/conv1/conv/Conv``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from latency_db.conversion.onnx_parts import decode_tail
from search_spaces.errors import InputError

if TYPE_CHECKING:
    import onnx

ROOT = "detector"
STEM = "stem"


@dataclass(frozen=True)
class QuantizationBlock:
    """Nodes that are quantized together.

    Attributes:
        name: of the block.
        nodes: names of its nodes.
        convs: names of the convolutions among them that become int8.
        macs: multiply-accumulates of these convolutions for one image.
    """

    name: str
    nodes: tuple[str, ...]
    convs: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class QuantizationBlocks:
    """The blocks of a float file.

    Attributes:
        by_name: in the order of the file.
        feeding: name -> the blocks whose outputs it reads.
        head: first part of the names of the head's blocks.
    """

    by_name: Mapping[str, QuantizationBlock]
    feeding: Mapping[str, frozenset[str]]
    head: str

    @classmethod
    def of(cls, proto: onnx.ModelProto, head: str, quantized: Collection[str]) -> QuantizationBlocks:
        """Find the blocks of an exported detector.

        Args:
            proto: the float file.
            head: name of the head's cell.
            quantized: names of the convolutions that the quantization scheme makes int8.

        Raises:
            InputError: if the nodes have no names of blocks.
        """
        import onnx

        tail = decode_tail(proto)
        macs = _macs(onnx.shape_inference.infer_shapes(proto))
        made: dict[str, str] = {}
        nodes: dict[str, list[onnx.NodeProto]] = {}
        feeding: dict[str, set[str]] = {}
        for n in proto.graph.node:
            if n.name in tail or (block := block_of(n.name, head)) is None:
                continue
            nodes.setdefault(block, []).append(n)
            made.update(dict.fromkeys(n.output, block))
            feeding.setdefault(block, set()).update(made[i] for i in n.input if made.get(i, block) != block)
        found = {}
        for name, of_block in nodes.items():
            convs = tuple(n.name for n in of_block if n.name in quantized)
            found[name] = QuantizationBlock(
                name, tuple(n.name for n in of_block), convs, sum(macs.get(c, 0) for c in convs)
            )
        if not found:
            raise InputError("a model without the names of its blocks", "a file that nas export wrote")
        return cls(found, {name: frozenset(others) for name, others in feeding.items()}, head)

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the blocks that have convolutions to quantize."""
        return tuple(name for name, block in self.by_name.items() if block.convs)

    def nodes(self, kept_float: Collection[str]) -> frozenset[str]:
        """Return the nodes of these blocks, and of blocks without convolutions that read only them.

        Raises:
            InputError: for an unknown name.
        """
        if unknown := sorted({*kept_float} - {*self.by_name}):
            raise InputError(f"block {unknown[0]!r}", f"one of {', '.join(self.choices)}")
        chosen = {*kept_float}
        for name, block in self.by_name.items():  # in the order of the file: what a block reads of comes before it
            if not block.convs and self.feeding[name] and self.feeding[name] <= chosen:
                chosen.add(name)
        return frozenset(node for name in chosen for node in self.by_name[name].nodes)

    def heads_but_stems(self) -> frozenset[str]:
        """Return the blocks of a known heuristic: everything in the heads but the 1x1 stems.

        It is the list for YOLO-NAS of super-gradients, pull request 1965.
        """
        return frozenset(
            name for name in self.choices if name.partition("-")[0] == self.head and name.rpartition("/")[2] != STEM
        )


def block_of(node: str, head: str) -> str | None:
    """Return the block of a node by the node's name; None for a node of no cell.

    In the head it is the path to the first number and one part more (``head-dfl/levels.0/stem``).
    """
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:  # the last is the operator
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()  # a list of modules is named twice: convs/convs.0
        parts.append(part)
    if parts[:1] != [ROOT] or len(parts) < 2:
        return None
    cell, *inside = parts[1:]
    if cell.partition("-")[0] != head:
        return cell
    number = next((i for i, part in enumerate(inside) if part.rpartition(".")[2].isdigit()), len(inside))
    return "/".join([cell, *inside[: number + 1], *(_unnumbered(part) for part in inside[number + 1 : number + 2])])


def _unnumbered(part: str) -> str:
    """Return ``convs`` for ``convs.0``: a chain is one block."""
    head, _, number = part.rpartition(".")
    return head if number.isdigit() else part


def _macs(proto: onnx.ModelProto) -> dict[str, int]:
    """Count the multiply-accumulates of every convolution for one image; 0 where the output's size is unknown."""
    sizes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim[2:]]
        for v in (*proto.graph.value_info, *proto.graph.output)
    }
    weights = {t.name: prod(t.dims) for t in proto.graph.initializer}
    return {
        n.name: weights.get(n.input[1], 0) * prod(sizes.get(n.output[0], [0]))
        for n in proto.graph.node
        if n.op_type == "Conv"
    }
