"""Name map of YOLOv6 3.0 (arXiv:2301.05586) N, S, M and L, as its repository saves them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from nas.pretrained.families.base import Rules, Tensors, WeightMap, renamed
from search_spaces.detector import Detector

NODES: Rules = (
    (r"^backbone\.stem\.", "stem-?.conv."),
    (r"^backbone\.ERBlock_(\d)\.0\.", lambda m: f"stage{int(m[1]) - 1}_down-?.conv."),
    (r"^backbone\.ERBlock_(\d)\.1\.", lambda m: f"stage{int(m[1]) - 1}_block-?."),
    (r"^backbone\.ERBlock_5\.2\.", "spp-?."),
    (r"^neck\.reduce_layer([01])\.", lambda m: f"neck{int(m[1]) + 1}_reduce-conv.conv."),
    (r"^neck\.Bifusion([01])\.", lambda m: f"neck{int(m[1]) + 1}_join-bifusion."),
    (r"^neck\.Rep_p4\.", "neck1_block-?."),
    (r"^neck\.Rep_p3\.", "neck2_block-?."),
    (r"^neck\.Rep_n3\.", "neck3_block-?."),
    (r"^neck\.Rep_n4\.", "neck4_block-?."),
    (r"^neck\.downsample2\.", "neck3_down-conv.conv."),
    (r"^neck\.downsample1\.", "neck4_down-conv.conv."),
    (r"^detect\.(stem|cls_conv|reg_conv)s\.(\d)\.", r"head-?.levels.\2.\1."),
    (r"^detect\.(cls|reg)_preds\.(\d)\.", r"head-?.levels.\2.\1."),
)
"""Rules for the node. ``?`` is a placeholder for the block family of the node, which depends on the size."""
PARTS: Rules = (
    (r"\bupsample\.upsample_transpose\.", "up."),
    (r"(bifusion)\.cv1\.", r"\1.same."),
    (r"(bifusion)\.cv2\.", r"\1.fine."),
    (r"(bifusion)\.downsample\.", r"\1.down."),
    (r"(bifusion)\.cv3\.", r"\1.merge."),
    (r"\brbr_dense\.conv\.", "conv3."),
    (r"\brbr_dense\.bn\.", "norm3."),
    (r"\brbr_1x1\.conv\.", "conv1."),
    (r"\brbr_1x1\.bn\.", "norm1."),
    (r"\brbr_identity\.", "norm."),
    (r"\bblock\.(conv|bn)\.", r"\1."),
    (r"\bbn\.", "norm."),
)


def _csp(family: str) -> Rules:
    """Rules for a CSP layer, M's with RepVGG blocks and L's with plain convolutions."""
    return (
        (rf"-{family}\.cv(\d)\.", rf"-{family}.conv\1."),
        (rf"-{family}\.m\.conv1\.", f"-{family}.bottlenecks.0."),
        (rf"-{family}\.m\.block\.(\d+)\.", lambda m: f"-{family}.bottlenecks.{int(m[1]) + 1}."),
        (r"(bottlenecks\.\d+)\.conv(\d)\.", r"\1.unit\2."),
    )


BLOCKS: dict[str, Rules] = {
    "rep": ((r"-rep\.conv1\.", "-rep.first."), (r"-rep\.block\.(\d+)\.", r"-rep.more.\1.")),
    "bepc3": _csp("bepc3"),
    "csp": _csp("csp"),
    "sppf": ((r"-sppf\.(?:sppf\.|cspsppf\.)?cv(\d)\.", r"-sppf.conv\1."),),
    "sppcsp": (
        (r"-sppcsp\.(?:cspsppf\.)?cv1\.", "-sppcsp.before.0."),
        (r"-sppcsp\.(?:cspsppf\.)?cv3\.", "-sppcsp.before.1."),
        (r"-sppcsp\.(?:cspsppf\.)?cv4\.", "-sppcsp.before.2."),
        (r"-sppcsp\.(?:cspsppf\.)?cv5\.", "-sppcsp.after.0."),
        (r"-sppcsp\.(?:cspsppf\.)?cv6\.", "-sppcsp.after.1."),
        (r"-sppcsp\.(?:cspsppf\.)?cv2\.", "-sppcsp.beside."),
        (r"-sppcsp\.(?:cspsppf\.)?cv7\.", "-sppcsp.merge."),
    ),
}
SWAPPED = re.compile(r"(?:bepc3|-csp)\.conv3\.conv\.weight|sppcsp\.merge\.conv\.weight")
"""Weights whose two halves of input channels are in the opposite order."""


class Yolov6(WeightMap):
    """Maps YOLOv6 3.0. The anchor-based branches, which are used in training only, are dropped."""

    references: ClassVar[tuple[str, ...]] = ("YOLOv6",)
    licence = "GPL-3.0 (Meituan)"
    dropped: ClassVar[tuple[str, ...]] = (
        r"detect\.proj",
        r"detect\.proj_conv\..*",
        r"detect\.(cls|reg|obj)_preds_ab\..*",
        r"detect\.reg_preds_lrtb\..*",
        r"detect\.stride",
        r"detect\.anchors_init",
    )

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the first level's classifier has the shape (classes,).

        The classifier has one of two names, depending on the size.
        """
        found = tensors.get("detect.cls_preds.0.bias", tensors.get("detect.cls_preds_af.0.bias"))
        is_own = any(name.startswith("backbone.ERBlock_2.0.") for name in tensors)
        return len(found) if found is not None and is_own else None

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors, and reorder channels where the published network concatenates in another order.

        The halves of the input channels of :data:`SWAPPED` weights (out, in, h, w) are swapped.
        """
        families = {name.rpartition("-")[0]: name.rpartition("-")[2] for name in detector.cells}
        out: Tensors = {}
        for name, tensor in tensors.items():
            key = renamed(name.replace("_preds_af.", "_preds."), NODES)
            if key == name:
                out[name] = tensor
                continue
            node = key.partition("-")[0]
            family = families.get(node, "")
            key = renamed(key.replace("-?.", f"-{family}."), (*BLOCKS.get(family, ()), *PARTS))
            out[f"cells.{key}"] = torch.cat(tensor.chunk(2, 1)[::-1], 1) if SWAPPED.search(key) else tensor
        return _with_joined_parts(out, detector)


def _with_joined_parts(tensors: Tensors, detector: Detector) -> Tensors:
    """Permute the channels of neck3 and neck4 into the order of :class:`search_spaces.layers.RepVGG`.

    In N and S, a block that joins two inputs interleaves their channels; the published network concatenates them. The
    layers of the block are permuted, and the input channels of the layers that read its output.
    """
    graph = detector.graph
    joined = {n.name for n in graph.nodes if len(n.inputs) > 1 and dict(n.options).get("joined")}
    out: Tensors = {}
    for name, tensor in tensors.items():
        node = name.removeprefix("cells.").partition("-")[0]
        rows = node in joined
        if node == "head":
            level = re.search(r"levels\.(\d+)\.stem\.conv\.weight", name)
            columns = level is not None and graph.head.inputs[int(level[1])] in joined
        else:
            inputs = next((n.inputs for n in graph.nodes if n.name == node), ())
            columns = (
                name.endswith("weight") and tensor.dim() == 4 and (".more." in name if rows else inputs[0] in joined)
            )
        for axis, permuted in ((0, rows), (1, columns)):
            if permuted and tensor.shape[axis] % 2 == 0:  # an odd number is of another size, and does not fit
                half = torch.arange(tensor.shape[axis]).reshape(2, -1)
                tensor = tensor.index_select(axis, half.T.flatten().to(tensor.device))
        out[name] = tensor
    return out
