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
        "dwconv": "search_spaces.blocks.conv:DepthwiseConv",
        "qarepvgg": "search_spaces.blocks.conv:QARepVGGConv",
        "repvgg": "search_spaces.blocks.conv:RepVGGConv",
        "upsample": "search_spaces.blocks.conv:Upsample",
        "pool": "search_spaces.blocks.conv:MaxPool",
        "qsp": "search_spaces.blocks.csp:QSP",
        "qci": "search_spaces.blocks.csp:QCI",
        "csp": "search_spaces.blocks.csp:CSP",
        "c2f": "search_spaces.blocks.c2f:C2f",
        "c3": "search_spaces.blocks.c3:C3",
        "c3-light": "search_spaces.blocks.c3:C3Light",
        "c3k2": "search_spaces.blocks.c3k2:C3k2",
        "c3k2-deep": "search_spaces.blocks.c3k2:C3k2Deep",
        "c3k2-attention": "search_spaces.blocks.c3k2:C3k2Attention",
        "c2psa": "search_spaces.blocks.c2psa:C2PSA",
        "a2c2f": "search_spaces.blocks.a2c2f:A2C2f",
        "a2c2f-large": "search_spaces.blocks.a2c2f:A2C2fLarge",
        "r2c2f": "search_spaces.blocks.a2c2f:R2C2f",
        "elan": "search_spaces.blocks.elan:ELAN",
        "gelan": "search_spaces.blocks.gelan:GELAN",
        "aconv": "search_spaces.blocks.gelan:AConv",
        "adown": "search_spaces.blocks.gelan:ADown",
        "rep": "search_spaces.blocks.conv:RepStack",
        "bepc3": "search_spaces.blocks.csp:BepC3",
        "spp": "search_spaces.blocks.spp:SPP",
        "sppf": "search_spaces.blocks.spp:SPPF",
        "sppcsp": "search_spaces.blocks.spp:SPPCSP",
        "bifusion": "search_spaces.blocks.bifusion:BiFusion",
    },
)
