"""Name maps of Ultralytics' YOLOv5u, YOLOv8, YOLO11, YOLO12 and YOLO26, and of YOLOv5 with anchors.

Published names are ``model.<i>.<rest>`` with the number i of a layer. The k-th layer with tensors corresponds to the
k-th node with weights of the detector, both in order of execution. The tables below map the rest of the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from nas.data.transforms import LINEAR
from nas.pretrained.families.base import Rules, Tensors, WeightMap, renamed
from search_spaces.detector import Detector
from search_spaces.heads.anchors import PRIORS


def _light(match: re.Match[str]) -> str:
    """Number the convolutions of a light label branch, pairs of a depthwise and a 1x1 convolution, consecutively."""
    branch, level, pair, place, kind = match.groups()
    return f"{branch}.{level}.convs.{2 * int(pair) + int(place)}.{kind}."


MANY_LAYERS = 40
"""YOLOv7 numbers every convolution and has more numbered layers than this; YOLOv5 numbers blocks and has fewer."""
LAYER = re.compile(r"model\.(\d+)\.(.+)")
UNITS: Rules = ((r"\bcv(\d)\b", r"conv\1"), (r"\bbn\b", "norm"))
ATTENTION: Rules = ((r"\battn\b", "attention"), (r"\bproj\b", "project"), (r"\bpe\b", "position"), (r"\bffn\b", "mlp"))
BOTTLENECKS: Rules = (*UNITS, *ATTENTION, (r"\bm\.(\d+)\b", r"bottlenecks.\1"))
BRANCHES: Rules = (
    (r"^(.*)\.(\d)\.2\.(weight|bias)$", r"\1.\2.last.\3"),
    (r"^(.*label)\.(\d)\.([01])\.([01])\.(conv|bn)\.", _light),
    (r"^(.*(?:box|label))\.(\d)\.([01])\.(conv|bn)\.", r"\1.\2.convs.\3.\4."),
    (r"\bbn\b", "norm"),
)
"""Rules for the two branches of a head, ``<branch>.<level>.<place>.…``."""
KINDS: dict[str, Rules] = {
    "conv": ((r"^bn\b", "norm"), (r"^", "conv.")),
    "c2psa": (*UNITS, *ATTENTION, (r"^m\.(\d+)\b", r"attention.\1")),
    "a2c2f": (*UNITS, *ATTENTION, (r"^m\.(\d+)\b", r"units.\1"), (r"^gamma$", "scale.gamma")),
    "r2c2f": (*UNITS, (r"^m\.(\d+)\b", r"units.\1"), (r"\bm\.(\d+)\b", r"bottlenecks.\1"), (r"^gamma$", "scale.gamma")),
    "anchors": ((r"^m\b", "levels"),),
    "decoupled": ((r"^cv2\b", "branches.box"), (r"^cv3\b", "branches.label"), *BRANCHES),
    "dual-light": (
        (r"^one2one_cv2\b", "own.box"),
        (r"^one2one_cv3\b", "own.label"),
        (r"^cv2\b", "helper.box"),
        (r"^cv3\b", "helper.label"),
        *BRANCHES,
    ),
}
"""Kind of a node -> rules for the rest of a name. :data:`BOTTLENECKS` applies to all other kinds."""
SAME = {"a2c2f-large": "a2c2f", "decoupled-light": "decoupled"}
"""Kind of a node -> kind with the same rules."""


class Ultralytics(WeightMap):
    """Maps YOLOv5u, YOLOv8, YOLO11, YOLO12 and YOLO26, whose heads have no anchor boxes.

    With random weights, the outputs of the n sizes equal those of ultralytics 8.4.190 within the rounding of float32
    (``tests/nas/pretrained``). The other sizes are not compared.
    """

    references: ClassVar[tuple[str, ...]] = ("YOLOv5u", "YOLOv8", "YOLO11", "YOLO12", "YOLO26")
    interpolation = LINEAR
    licence = "AGPL-3.0 (Ultralytics, which extends it to fine-tuned weights), or Ultralytics' enterprise licence"
    dropped: ClassVar[tuple[str, ...]] = (r".*\bdfl\.conv\.weight", r".*\banchors", r".*\bstride", r".*\bstrides")

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the label branch's last convolution has the shape (classes,)."""
        found = [t for n, t in tensors.items() if re.fullmatch(r"model\.\d+\.cv3\.0\.2\.bias", n)]
        return len(found[0]) if found else None

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors layer by layer. A 1-D scale ``gamma`` (C,) gets the shape (C, 1, 1)."""
        layers: dict[int, list[tuple[str, str, Tensor]]] = {}
        out: Tensors = {}
        for name, tensor in tensors.items():
            match = LAYER.fullmatch(name)
            if match is None:
                out[name] = tensor
            else:
                layers.setdefault(int(match[1]), []).append((match[2], name, tensor))
        graph = detector.graph
        nodes = [n for n in (*graph.nodes, graph.head) if any(True for _ in detector.cell(n).parameters())]
        names = {id(module): name for name, module in detector.cells.items()}
        for (_, layer), node in zip(sorted(layers.items()), nodes, strict=False):
            rules = KINDS.get(SAME.get(node.kind, node.kind), BOTTLENECKS)
            for rest, _, tensor in layer:
                key = f"cells.{names[id(detector.cell(node))]}.{renamed(rest, rules)}"
                out[key] = tensor[:, None, None] if key.endswith("scale.gamma") and tensor.dim() == 1 else tensor
        for _, layer in sorted(layers.items())[len(nodes) :]:
            out |= {name: tensor for _, name, tensor in layer}
        return out

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Return an explanation for "turbo" weights of the YOLOv12 repository, whose network is not that of YOLO12."""
        if any(".attn.qk." in n for n in unused) or any("stage1_down" in n for n in misfits):
            return "YOLOv12 'turbo' has grouped stem convolutions, which yolo12 has not"
        return ""


class AnchorYolov5(Ultralytics):
    """Maps YOLOv5 6.0 and later with anchor boxes. Anchors other than those of COCO (autoanchor) do not fit."""

    references: ClassVar[tuple[str, ...]] = ("YOLOv5",)
    licence = "AGPL-3.0 (Ultralytics; GPL-3.0 before 2023), or Ultralytics' enterprise licence"
    dropped: ClassVar[tuple[str, ...]] = (r".*\banchor_grid", r".*\bstride")
    STRIDES = (8, 16, 32)

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the first level has the shape (3 (5 + classes),), for 3 anchors."""
        classes, layers = anchor_head(tensors)
        return classes if layers < MANY_LAYERS else None

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors as :class:`Ultralytics`, and drop the anchors (levels, 3, 2) if they equal those of COCO."""
        rest = dict(tensors)
        for name in [n for n in rest if re.search(r"\banchors$", n)]:
            anchors = rest[name]
            if same_anchors(anchors, self.STRIDES, "yolov5"):
                del rest[name]
        return super().renamed(rest, detector)

    def explain(self, unused: Sequence[str], misfits: Sequence[str]) -> str:
        """Return an explanation for anchors that were fitted to a data set."""
        return "its anchors are not those of COCO (autoanchor)" if any(n.endswith("anchors") for n in unused) else ""


def anchor_head(tensors: Mapping[str, Tensor]) -> tuple[int | None, int]:
    """Return the number of classes of a head with three anchors per position (None without one), and the number of
    numbered layers.

    Of each anchor, ``model.<i>.m.0.bias`` (3 (5 + classes),) has four rows for the box, one for the objectness, and
    one per class.
    """
    found = [t for n, t in tensors.items() if re.fullmatch(r"model\.\d+\.m\.0\.bias", n)]
    layers = {m[1] for n in tensors if (m := LAYER.fullmatch(n))}
    return len(found[0]) // 3 - 5 if found else None, len(layers)


def same_anchors(anchors: Tensor, strides: Sequence[int], family: str) -> bool:
    """Return whether anchors (levels, 3, 2) in units of their stride equal those of a family within 1 %.

    ``strides`` are in pixels. Another shape is unequal.
    """
    if tuple(anchors.shape) != (len(strides), 3, 2):
        return False
    pixels = anchors * anchors.new_tensor(strides)[:, None, None]
    return bool(((pixels / anchors.new_tensor(PRIORS[family])) - 1).abs().max() < 0.01)
