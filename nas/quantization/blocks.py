"""What is left float, or not, as one: the blocks of an exported detector. A cell of the network's graph is one, of
the head each part of each level.

The names are those of the exported file's nodes, which have the path of their module in them
(``/detector/stage1_block-qsp/conv1/conv/Conv``).
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
    """Nodes that are quantized together: their names, the convolutions among them that become int8, and the
    multiply-accumulates of those."""

    name: str
    nodes: tuple[str, ...]
    convs: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class QuantizationBlocks:
    """The blocks of a float file by name, in the order of the file; ``feeding``: the blocks that a block reads of;
    ``head``: the first part of its name."""

    by_name: Mapping[str, QuantizationBlock]
    feeding: Mapping[str, frozenset[str]]
    head: str

    @classmethod
    def of(cls, proto: onnx.ModelProto, head: str, quantized: Collection[str]) -> QuantizationBlocks:
        """Of an exported detector whose head's node is called ``head``; ``quantized``: the convolutions that the form
        makes int8."""
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
        """The blocks that have something to quantize: those that a selection chooses of."""
        return tuple(name for name, block in self.by_name.items() if block.convs)

    def nodes(self, kept_float: Collection[str]) -> frozenset[str]:
        """All nodes of these blocks, and of blocks without convolutions that only read of them: int8 there would be
        an island."""
        if unknown := sorted({*kept_float} - {*self.by_name}):
            raise InputError(f"block {unknown[0]!r}", f"one of {', '.join(self.choices)}")
        chosen = {*kept_float}
        for name, block in self.by_name.items():  # in the order of the file: what a block reads of comes before it
            if not block.convs and self.feeding[name] and self.feeding[name] <= chosen:
                chosen.add(name)
        return frozenset(node for name in chosen for node in self.by_name[name].nodes)

    def heads_but_stems(self) -> frozenset[str]:
        """The known heuristic: of the heads everything but the 1x1 stems stays float (a list for YOLO-NAS,
        super-gradients pull request 1965)."""
        return frozenset(
            name for name in self.choices if name.partition("-")[0] == self.head and name.rpartition("/")[2] != STEM
        )


def block_of(node: str, head: str) -> str | None:
    """The block of a node by its name; None for one of no cell. Of the head: the path to the first number and one
    part more (``head-dfl/levels.0/stem``)."""
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
    """``convs`` of ``convs.0``: a chain is one block."""
    head, _, number = part.rpartition(".")
    return head if number.isdigit() else part


def _macs(proto: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of every convolution for one image; 0 where the file does not know the size of its
    output."""
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
