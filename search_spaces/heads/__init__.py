"""The detection heads. A new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from search_spaces.heads.base import Head

HEADS: Registry[type[Head]] = Registry(
    "nas.heads",
    {
        "dfl": "search_spaces.heads.dfl:DFLHead",
        "sides": "search_spaces.heads.dfl:SidesHead",
        "decoupled": "search_spaces.heads.decoupled:Decoupled",
        "decoupled-light": "search_spaces.heads.decoupled:DecoupledLight",
        "decoupled-grouped": "search_spaces.heads.grouped:GroupedHead",
        "dual-light": "search_spaces.heads.decoupled:DualLight",
        "sides-objectness": "search_spaces.heads.objectness:ObjectnessHead",
        "sides-objectness-light": "search_spaces.heads.objectness:ObjectnessHeadLight",
        "anchors": "search_spaces.heads.anchors:AnchorHead",
    },
)
