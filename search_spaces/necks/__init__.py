"""The necks a space can use: plain functions that emit the nodes of a graph. A new one is one file and one line
here."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.graph import Node
from search_spaces.registry import Registry

NECKS: Registry[Callable[..., tuple[Node, ...]]] = Registry(
    "nas.necks",
    {
        "pan": "search_spaces.necks.pan:pan",
        "pan-c2": "search_spaces.necks.pan_c2:pan_c2",
        "elan-pan": "search_spaces.necks.elan_pan:elan_pan",
    },
)
