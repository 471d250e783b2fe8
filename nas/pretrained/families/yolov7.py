"""Name map of YOLOv7 and YOLOv7-tiny (arXiv:2207.02696), as their repository saves them.

Published names are ``model.<i>.<rest>`` with one number i per convolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from nas.pretrained.families.base import Rules, Tensors, WeightMap, by_layer, input_parts, renamed, reordered
from nas.pretrained.families.ultralytics import LAYER, MANY_LAYERS, anchor_head, same_anchors
from search_spaces.detector import Detector
from search_spaces.graph import Node

UNIT: Rules = ((r"^bn\.", "norm."),)
SPPCSP: Rules = (
    (r"^cv1\.", "before.0."),
    (r"^cv3\.", "before.1."),
    (r"^cv4\.", "before.2."),
    (r"^cv5\.", "after.0."),
    (r"^cv6\.", "after.1."),
    (r"^cv2\.", "beside."),
    (r"^cv7\.", "merge."),
    (r"\bbn\.", "norm."),
)
REPCONV: Rules = (
    (r"^rbr_dense\.0\.", "conv3."),
    (r"^rbr_dense\.1\.", "norm3."),
    (r"^rbr_1x1\.0\.", "conv1."),
    (r"^rbr_1x1\.1\.", "norm1."),
)


class Yolov7(WeightMap):
    """Maps YOLOv7 and YOLOv7-tiny. Implicit knowledge (``ia``, ``im``) is folded into the last convolutions."""

    references: ClassVar[tuple[str, ...]] = ("YOLOv7",)
    licence = "GPL-3.0 (WongKinYiu/yolov7)"
    dropped: ClassVar[tuple[str, ...]] = (r".*\banchor_grid", r".*\bstride")
    STRIDES = (8, 16, 32)

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the first level has the shape (3 (5 + classes),), for 3 anchors.

        YOLOv5 has the same names; YOLOv7 has at least 40 numbered layers, YOLOv5 fewer.
        """
        classes, layers = anchor_head(tensors)
        return classes if layers >= MANY_LAYERS else None

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors layer by layer, fold implicit knowledge, and reorder the input channels of weights
        (out, in, h, w) whose inputs are concatenated in another order."""
        layers, out = by_layer(tensors, LAYER)
        places = list(_places(detector))
        numbered = sorted(layers.items())
        for (number, layer), (node, place) in zip(numbered, places, strict=False):
            out |= self._layer(number, layer, node, place, detector)
        for number, layer in numbered[len(places) :]:
            out |= {f"model.{number}.{rest}": tensor for rest, tensor in layer.items()}
        return out

    def _layer(self, number: int, layer: Tensors, node: Node, place: str, detector: Detector) -> Tensors:
        prefix = "cells." + next(n for n, m in detector.cells.items() if m is detector.cell(node)) + "."
        if node is detector.graph.head:
            family = str(dict(node.options).get("priors", "yolov7"))
            return {
                (f"{prefix}levels.{rest[2:]}" if rest.startswith("m.") else f"model.{number}.{rest}"): tensor
                for rest, tensor in _folded(layer, self.STRIDES, family).items()
            }
        rules = SPPCSP if place == "sppcsp" else REPCONV if node.kind == "repvgg" else UNIT
        middle = "" if place == "sppcsp" else "conv." if node.kind in ("conv", "repvgg") else f"{place}."
        found = {f"{prefix}{middle}{renamed(rest, rules)}": tensor for rest, tensor in layer.items()}
        return {name: _in_order(name, tensor, node, place, detector) for name, tensor in found.items()}

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Return an explanation for anchors that were fitted to a data set."""
        return "its anchors are not those of COCO (autoanchor)" if any(n.endswith("anchors") for n in unused) else ""


def _places(detector: Detector) -> Iterator[tuple[Node, str]]:
    """Yield the convolutions of the network as pairs (node, part of its cell), in the order of the published layers."""
    for node in (*detector.graph.nodes, detector.graph.head):
        cell = detector.cell(node)
        if not any(True for _ in cell.parameters()):
            continue
        if node.kind == "elan":
            groups = [n for n, m in cell.named_modules() if re.fullmatch(r"groups\.\d+\.\d+", n)]
            yield from ((node, part) for part in ("conv1", "conv2", *groups, "merge"))
        elif node.kind == "sppcsp" and dict(node.options).get("light"):
            yield from ((node, part) for part in ("beside", "before.0", "after.0", "merge"))
        else:
            yield node, node.kind


def _in_order(name: str, tensor: Tensor, node: Node, place: str, detector: Detector) -> Tensor:
    """Reorder the input channels of a convolution from the published order of parts to that of its layout.

    The published order is reversed in the merge of ELAN and in ``after.0`` of the tiny SPP. In an ELAN after a
    downsampling node, the first two parts are swapped.
    """
    if not name.endswith("conv.weight") or place not in ("conv1", "conv2", "merge", "after.0"):
        return tensor
    parts = input_parts(detector.cell(node).get_submodule(f"{place}.conv"))
    order = list(range(len(parts)))
    if (node.kind == "elan" and place == "merge") or place == "after.0":
        order.reverse()
    elif node.kind == "elan" and place in ("conv1", "conv2") and node.inputs[0].endswith("_down_a"):
        order[:2] = [1, 0]
    else:
        return tensor
    # order[i] is the published part that becomes part i, so that published part order[i] has parts[i] channels
    theirs = [parts[order.index(i)] for i in range(len(parts))]
    return reordered(tensor, theirs, order) if sum(parts) == tensor.shape[1] else tensor


def _folded(layer: Tensors, strides: Sequence[int], family: str) -> Tensors:
    """Fold the implicit knowledge of a detection layer: W' = im W, b' = im (b + W ia).

    ``anchors`` are dropped if they equal those of ``family``.
    """
    out = dict(layer)
    for level in range(len(strides)):
        weight, bias = out.get(f"m.{level}.weight"), out.get(f"m.{level}.bias")
        added, scaled = out.pop(f"ia.{level}.implicit", None), out.pop(f"im.{level}.implicit", None)
        if weight is None or bias is None:
            continue
        if added is not None:
            bias = bias + weight.flatten(1) @ added.flatten()
        if scaled is not None:
            weight, bias = weight * scaled.view(-1, 1, 1, 1), bias * scaled.flatten()
        out[f"m.{level}.weight"], out[f"m.{level}.bias"] = weight, bias
    if "anchors" in out and same_anchors(out["anchors"], strides, family):
        del out["anchors"]
    return out
