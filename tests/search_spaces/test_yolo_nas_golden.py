"""YOLO-NAS S, M and L are points of the space: the published networks' parameters and MACs, whole and per module.

The figures were derived from super-gradients' configuration files and agree with the counts it prints (19.02 M with
its unused placeholder convs).
"""

from __future__ import annotations

import pytest
import torch

from search_spaces.detector import channels
from search_spaces.graph import Node
from search_spaces.layers import QARepVGG
from search_spaces.trace import trace, trace_cell, trace_groups
from search_spaces.yolo_nas import YOLO_NAS, yolo_nas

SIZES = ("s", "m", "l")
DEPLOYED = {"s": 12_167_600, "m": 31_894_002, "l": 41_984_984}
TRAINED = {"s": 12_878_304, "m": 33_861_346, "l": 44_529_448}
GMACS = {"s": 15.90, "m": 43.88, "l": 59.92}
REPVGGS = {"s": 37, "m": 39, "l": 45}
# As built by super-gradients, with the placeholder 3x3 conv (weight and bias) in every QARepVGG block.
WITH_PLACEHOLDERS = {
    80: {"s": 19_053_888, "m": 51_182_658, "l": 66_976_392},
    5: {"s": 19_020_063, "m": 51_132_033, "l": 66_908_967},
    1: {"s": 19_018_259, "m": 51_129_333, "l": 66_905_371},
}
# module: parameters in M and GMACs at 640 px of S, M and L
TABLE = {
    "stem": ((0.001, 0.13), (0.001, 0.13), (0.001, 0.13)),
    "stage1": ((0.091, 2.32), (0.226, 5.78), (0.429, 10.97)),
    "stage2": ((0.437, 2.79), (1.224, 7.82), (1.224, 7.82)),
    "stage3": ((1.642, 2.62), (7.450, 11.91), (7.450, 11.91)),
    "stage4": ((4.574, 1.83), (9.146, 3.66), (14.455, 5.78)),
    "spp": ((1.476, 0.59), (1.476, 0.59), (1.476, 0.59)),
    "neck1": ((1.046, 1.49), (2.325, 3.54), (2.128, 3.22)),
    "neck2": ((0.296, 1.80), (0.440, 2.72), (1.424, 9.01)),
    "neck3": ((0.280, 0.45), (1.559, 2.49), (1.362, 2.18)),
    "neck4": ((0.578, 0.23), (4.267, 1.71), (5.447, 2.18)),
}
HEAD = (
    ((0.090, 0.57), (0.190, 1.21), (0.327, 2.09)),
    ((0.339, 0.54), (0.730, 1.17), (1.268, 2.03)),
    ((1.317, 0.53), (2.860, 1.14), (4.993, 2.00)),
)


def rounded(params: int, macs: int) -> tuple[float, float]:
    return round(params / 1e6, 3), round(macs / 1e9, 2)


@pytest.mark.parametrize("size", SIZES)
def test_deployed_parameters_and_macs(size: str) -> None:
    cost = trace(YOLO_NAS.graph(yolo_nas(size)), 80)
    assert cost.params == DEPLOYED[size] and round(cost.macs / 1e9, 2) == GMACS[size]
    assert sum(op.params for op in cost.ops) == cost.params and sum(op.macs for op in cost.ops) == cost.macs


@pytest.mark.parametrize("size", SIZES)
def test_training_form(size: str) -> None:
    for classes, counts in WITH_PLACEHOLDERS.items():
        with torch.device("meta"):
            detector = YOLO_NAS.build(yolo_nas(size), classes)
        params = sum(p.numel() for p in detector.parameters())
        blocks = [m for m in detector.modules() if isinstance(m, QARepVGG)]
        placeholders = sum(b.conv3.weight.numel() + b.conv3.out_channels for b in blocks)
        assert len(blocks) == REPVGGS[size] and params + placeholders == counts[size]
        assert classes != 80 or params == TRAINED[size]
        if classes == 80:
            assert sum(p.numel() for p in detector.deploy().parameters()) == DEPLOYED[size]


@pytest.mark.parametrize("size", SIZES)
def test_every_module(size: str) -> None:
    column = SIZES.index(size)
    groups = trace_groups(YOLO_NAS.graph(yolo_nas(size)), 80)
    assert list(groups) == [*TABLE, "head"]
    assert {name: rounded(groups[name].params, groups[name].macs) for name in TABLE} == {
        name: row[column] for name, row in TABLE.items()
    }
    assert sum(g.params for g in groups.values()) == DEPLOYED[size]


@pytest.mark.parametrize("size", SIZES)
def test_every_head_level(size: str) -> None:
    graph = YOLO_NAS.graph(yolo_nas(size))
    options = dict(graph.head.options)
    widths, levels = options["widths"], channels(graph)[graph.head.name]
    assert isinstance(widths, tuple)
    total = 0
    for row, width, c, side in zip(HEAD, widths, levels, (80, 40, 20), strict=True):
        level = Node("", "dfl", ("",), tuple(sorted((options | {"widths": (width,)}).items())))
        cost, _ = trace_cell(level, (c,), ((c, side, side),), 80)
        assert rounded(cost.params, cost.macs) == row[SIZES.index(size)]
        total += cost.params
    assert total == trace_groups(graph, 80)["head"].params


def test_macs_at_another_size_scale_with_the_area() -> None:
    graph = YOLO_NAS.graph(yolo_nas("s"))
    assert trace(graph, 80, 320).macs * 4 == trace(graph, 80, 640).macs
    assert trace(graph, 80, 320).params == trace(graph, 80, 640).params
