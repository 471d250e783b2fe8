"""The blocks a cell can be. A new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from search_spaces.blocks.base import Block

BLOCKS: Registry[type[Block]] = Registry(
    "nas.blocks",
    {
        "conv": "search_spaces.blocks.conv:Conv",
        "qarepvgg": "search_spaces.blocks.conv:QARepVGGConv",
        "qsp": "search_spaces.blocks.csp:QSP",
        "qci": "search_spaces.blocks.csp:QCI",
        "csp": "search_spaces.blocks.csp:CSP",
        "c2f": "search_spaces.blocks.c2f:C2f",
        "c3": "search_spaces.blocks.c3:C3",
        "spp": "search_spaces.blocks.spp:SPP",
        "bifusion": "search_spaces.blocks.bifusion:BiFusion",
    },
)
