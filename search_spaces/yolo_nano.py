"""The YOLO-NAS family small enough for CPUs: the same macro with a free overall width, 0.2 to 2.2 M parameters."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Graph
from search_spaces.scaling import image_size
from search_spaces.space import Choice, SearchSpace
from search_spaces.yolo_nas import inner_choices, macro


def _graph(architecture: Architecture) -> Graph:
    width = int(architecture["width"])
    outs = (width, 2 * width, 4 * width, 8 * width)
    return macro(
        architecture, stem=16, outs=outs, neck_outs=(2 * width, width, 2 * width, 4 * width), head=(32, 64, 96)
    )


YOLO_NANO = SearchSpace(
    name="yolo-nano",
    version=1,
    choices=(
        Choice("width", (8, 16, 24, 32)),
        *inner_choices(
            ("qsp", "qci", "c2f"),
            {
                1: ((1, 2), (8, 16, 24)),
                2: ((1, 2, 3), (16, 24, 32)),
                3: ((1, 2, 3, 4), (24, 32, 48, 64)),
                4: ((1, 2), (32, 48, 64, 96)),
            },
            {
                1: ((1, 2), (16, 24, 32)),
                2: ((1, 2), (16, 24, 32)),
                3: ((1, 2), (16, 24, 32)),
                4: ((1, 2), (24, 32, 48)),
            },
        ),
        Choice("head_width", (0.5, 0.75, 1.0)),
        image_size((96, 128, 160, 192, 256, 320, 416, 512, 640)),
    ),
    graph=_graph,
)
