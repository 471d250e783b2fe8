"""Name map of YOLO-NAS S, M and L, as super-gradients saves them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from nas.pretrained.families.base import Rules, Tensors, WeightMap, renamed
from search_spaces.detector import Detector

NODES: Rules = (
    (r"^backbone\.stem\.conv\.", "stem-qarepvgg.conv."),
    (r"^backbone\.stage(\d)\.downsample\.", r"stage\1_down-qarepvgg.conv."),
    (r"^backbone\.stage(\d)\.blocks\.", r"stage\1_block-qcsp."),
    (r"^backbone\.context_module\.cv(\d)\.", r"spp-spp.conv\1."),
    (r"^neck\.neck([12])\.conv\.", r"neck\1_reduce-conv.conv."),
    (r"^neck\.neck([12])\.upsample\.", r"neck\1_join-bifusion.up."),
    (r"^neck\.neck([12])\.reduce_skip1\.", r"neck\1_join-bifusion.same."),
    (r"^neck\.neck([12])\.reduce_skip2\.", r"neck\1_join-bifusion.fine."),
    (r"^neck\.neck([12])\.downsample\.", r"neck\1_join-bifusion.down."),
    (r"^neck\.neck([12])\.reduce_after_concat\.", r"neck\1_join-bifusion.merge."),
    (r"^neck\.neck([12])\.blocks\.", r"neck\1_block-qcsp."),
    (r"^neck\.neck([34])\.conv\.", r"neck\1_down-conv.conv."),
    (r"^neck\.neck([34])\.blocks\.", r"neck\1_block-csp."),
    (r"^heads\.head(\d)\.", lambda m: f"head-dfl.levels.{int(m[1]) - 1}."),
)
PARTS: Rules = (
    (r"\b(stem|cls_convs\.0|reg_convs\.0)\.seq\.", r"\1."),
    (r"\b(cls|reg)_convs\.0\.", r"\1_conv."),
    (r"\b(cls|reg)_pred\.", r"\1."),
    (r"(bottlenecks\.\d+)\.cv(\d)\.", r"\1.unit\2."),
    (r"\bbranch_3x3\.conv\.", "conv3."),
    (r"\bbranch_3x3\.bn\.", "norm3."),
    (r"\bbranch_1x1\.", "conv1."),
    (r"\bpost_bn\.", "norm."),
    (r"\bbn\.", "norm."),
)


class YoloNas(WeightMap):
    """Maps YOLO-NAS, whose weights are under a licence that allows no commercial use and no derivatives."""

    references: ClassVar[tuple[str, ...]] = ("YOLO-NAS",)
    licence = "Deci's YOLO-NAS licence: non-commercial, no derivatives, no distribution"
    restricted = True
    dropped: ClassVar[tuple[str, ...]] = (
        r".*rbr_reparam\..*",
        r".*\bproj_conv(\..*)?",
        r".*\bid_tensor",
        r".*anchor_points",
        r".*stride_tensor",
    )

    def num_classes(self, tensors: Mapping[str, Tensor]) -> int | None:
        """Return the number of classes: the bias of the first level's classifier has the shape (classes,)."""
        found = tensors.get("heads.head1.cls_pred.bias")
        return None if found is None else len(found)

    def renamed(self, tensors: Mapping[str, Tensor], detector: Detector) -> Tensors:
        """Rename tensors, and reorder the input channels of the convolution that merges a CSP layer.

        The published order is [conv1, bottleneck 1 … n, conv2] or [bottleneck n, conv2]. In the detector, conv2 is
        first.
        """
        out: Tensors = {}
        for name, tensor in tensors.items():
            key = renamed(renamed(name, NODES), PARTS)
            if key == name:
                out[name] = tensor
                continue
            if re.search(r"csp\.conv3\.conv\.weight$", key):
                hidden = tensors[name.replace("conv3.conv.weight", "conv2.conv.weight")].shape[0]
                tensor = tensor.roll(hidden, 1)
            out[f"cells.{key}"] = tensor
        return out
