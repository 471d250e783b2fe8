"""YOLO26 by its multiples; n, s, m, l and x are points of it: YOLO11 with a deeper neck, attention in it, and a head
that needs no suppression.

Repeats and widths as in Ultralytics' documentation of the model.
"""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.graph import Graph
from search_spaces.scaling import BRANCH_CLASSES
from search_spaces.space import SearchSpace
from search_spaces.yolo11 import ATTENTIVE, CHOICES, DEEP, SIZES, network


def _graph(a: Architecture) -> Graph:
    return network(a, (DEEP, DEEP, DEEP, ATTENTIVE), "dual-light", shortcut=True, bare=True)


YOLO26 = SearchSpace(name="yolo26", version=1, choices=CHOICES, graph=_graph, options=(BRANCH_CLASSES,))
REFERENCES = {
    f"yolo26{size}": YOLO26.architecture(c3k=c3k, depth=depth, width=wide, max_channels=most, image_size=640)
    for size, (c3k, depth, wide, most) in SIZES.items()
}
