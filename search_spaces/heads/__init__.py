"""The detection heads. A new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from search_spaces.heads.base import Head

HEADS: Registry[type[Head]] = Registry("nas.heads", {"dfl": "search_spaces.heads.dfl:DFLHead"})
