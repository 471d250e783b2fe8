"""Name map of YOLOv9 (arXiv:2402.13616), as its authors' MIT-licensed repository (MultimediaTechLab/YOLO) saves it.

Published names are ``<i>.<rest>`` with the number i of a layer. The layers up to the main head correspond to the nodes
with weights, both in order of execution; the layers after it are the auxiliary branch, which only training has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nas.pretrained.families.base import Rules, Tensors, WeightMap, by_layer, renamed
from search_spaces.detector import Detector
from search_spaces.graph import Node

LAYER = re.compile(r"(?:model\.)*(\d+)\.(.+)")
NORM: Rules = ((r"\bbn\b", "norm"),)
KINDS: dict[str, Rules] = {
    "conv": ((r"^", "conv."), *NORM),
    "aconv": NORM,
    "adown": ((r"^conv[12]\.", "conv."), *NORM),
    "elan": (
        (r"^conv2\.", "groups.0.0."),
        (r"^first\.", "conv1."),
        (r"^second\.", "conv2."),
        (r"^conv3\.", "groups.1.0."),
        (r"^conv4\.", "merge."),
        *NORM,
    ),
    "gelan": (
        (r"^conv4\.", "merge."),
        (r"^conv2\.1\.", "convs.0."),
        (r"^conv3\.1\.", "convs.1."),
        (r"^conv2\.0\.", "csps.0."),
        (r"^conv3\.0\.", "csps.1."),
        (r"\bbottleneck\.(\d+)\.conv1\.conv1\.conv\.", r"bottlenecks.\1.rep.conv3."),
        (r"\bbottleneck\.(\d+)\.conv1\.conv1\.bn\.", r"bottlenecks.\1.rep.norm3."),
        (r"\bbottleneck\.(\d+)\.conv1\.conv2\.conv\.", r"bottlenecks.\1.rep.conv1."),
        (r"\bbottleneck\.(\d+)\.conv1\.conv2\.bn\.", r"bottlenecks.\1.rep.norm1."),
        (r"\bbottleneck\.(\d+)\.conv2\.", r"bottlenecks.\1.conv."),
        *NORM,
    ),
    "sppf": ((r"^conv5\.", "conv2."), *NORM),
    "decoupled-grouped": (
        (r"^heads\.(\d)\.anchor_conv\.", r"box.\1."),
        (r"^heads\.(\d)\.class_conv\.", r"label.\1."),
        (r"^(box|label)\.(\d)\.([01])\.", r"\1.\2.convs.\3."),
        (r"^(box|label)\.(\d)\.2\.", r"\1.\2.last."),
        *NORM,
    ),
}
"""Kind of a node -> rules for the rest of a name."""
READERS: dict[str, str] = {
    "gelan": r"conv1\.conv\.weight",
    "decoupled-grouped": r"(box|label)\.{0}\.convs\.0\.conv\.weight",
}
"""Kind of a node -> names of the convolutions that read its inputs; ``{0}``: number of the input."""


class Yolov9(WeightMap):
    """Maps YOLOv9 S, M and C.

    With random weights, the outputs equal those of the repository within the rounding of float32
    (``tests/nas/pretrained``). The repository's T has wider class branches than the published one and does not fit.
    """

    references: ClassVar[tuple[str, ...]] = ("YOLOv9",)
    licence = "MIT (MultimediaTechLab/YOLO)"
    dropped: ClassVar[tuple[str, ...]] = (r".*\banc2vec\..*",)

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the class branch's last convolution has the shape (classes,)."""
        found = [t for n, t in tensors.items() if re.fullmatch(r"(model\.)*\d+\.heads\.0\.class_conv\.2\.bias", n)]
        return len(found[0]) if found else None

    def kept(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return the tensors, shapes unchanged, without constants and without the auxiliary branch."""
        found = super().kept(tensors)
        numbers = {n: int(match[1]) for n in found if (match := LAYER.fullmatch(n))}
        heads = [numbers[n] for n in numbers if ".heads." in n]
        return {n: t for n, t in found.items() if not heads or numbers.get(n, 0) <= min(heads)}

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors layer by layer.

        The two halves of the weights and vectors (out, …) of an ELAN's first convolution become two convolutions. The
        channels that are halved at downsampling (:class:`search_spaces.blocks.gelan.ADown`) are interleaved.
        """
        layers, out = by_layer(tensors, LAYER)
        nodes, halves = _nodes(detector), _halves(layers)
        prefixes = _prefixes(detector)
        for (_, layer), node in zip(halves, nodes, strict=False):
            for rest, tensor in _two_convs(layer).items() if node.kind == "elan" else layer.items():
                out[prefixes[node.name] + renamed(rest, KINDS.get(node.kind, ()))] = tensor
        for number, layer in halves[len(nodes) :]:
            out |= {f"{number}.{rest}": tensor for rest, tensor in layer.items()}
        return _interleaved(out, detector, prefixes)

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Return an explanation for class branches that are wider than those of the published T."""
        if any("label" in n for n in misfits):
            return "the class branches are wider than those of the published YOLOv9-T"
        return ""


def _nodes(detector: Detector) -> list[Node]:
    """Return the nodes with weights in the order of execution."""
    nodes = (*detector.graph.nodes, detector.graph.head)
    return [node for node in nodes if any(True for _ in detector.cell(node).parameters())]


def _prefixes(detector: Detector) -> dict[str, str]:
    """Return the prefix of the tensors of each node."""
    names = {id(module): name for name, module in detector.cells.items()}
    return {n.name: f"cells.{names[id(detector.cell(n))]}." for n in (*detector.graph.nodes, detector.graph.head)}


def _two_convs(layer: Tensors) -> Tensors:
    """Return the layer of an ELAN with its first convolution, whose output is split, as the two ``first`` and
    ``second``."""
    found = {n: t for n, t in layer.items() if not n.startswith("conv1.")}
    for name, tensor in layer.items():
        if name.startswith("conv1."):
            rest = name.removeprefix("conv1.")
            found[f"first.{rest}"], found[f"second.{rest}"] = tensor.chunk(2)
    return found


def _halves(layers: Mapping[int, Tensors]) -> list[tuple[int, Tensors]]:
    """Return the layers in their order, a downsampling of two halves (ADown) as two."""
    found: list[tuple[int, Tensors]] = []
    for number, layer in sorted(layers.items()):
        parts = {name.partition(".")[0] for name in layer}
        if parts == {"conv1", "conv2"}:
            found += [(number, {n: t for n, t in layer.items() if n.startswith(part)}) for part in sorted(parts)]
        else:
            found.append((number, layer))
    return found


def _interleaved(tensors: Tensors, detector: Detector, prefixes: Mapping[str, str]) -> Tensors:
    """Reorder the channels that nodes of kind ``adown`` read: channel j of the first half becomes channel 2 j, channel
    j of the last half 2 j + 1; in the layer that writes them and in all others that read them."""
    out = dict(tensors)
    nodes = (*detector.graph.nodes, detector.graph.head)
    wide = {n.name: int(dict(n.options).get("out", 0)) for n in nodes}  # type: ignore[arg-type]
    for source in {n.inputs[0] for n in nodes if n.kind == "adown"}:
        order = torch.arange(wide[source]).view(2, -1).t().flatten()
        for name in [n for n in out if n.startswith(f"{prefixes[source]}merge.") and len(out[n]) == wide[source]]:
            out[name] = out[name][order]
        for reader in [n for n in nodes if n.kind in READERS and source in n.inputs]:
            at = reader.inputs.index(source)
            start = sum(wide[i] for i in reader.inputs[:at]) if reader.kind == "gelan" else 0
            pattern = re.escape(prefixes[reader.name]) + READERS[reader.kind].replace("{0}", str(at))
            for name in [n for n in out if re.fullmatch(pattern, n) and out[n].shape[1] >= start + len(order)]:
                columns = torch.arange(out[name].shape[1])
                columns[start : start + len(order)] = start + order
                out[name] = out[name][:, columns]
    return out
