"""The search spaces by name. A new one is one file and one line here."""

from __future__ import annotations

from search_spaces.architecture import Architecture
from search_spaces.registry import Registry
from search_spaces.space import SearchSpace

SPACES: Registry[SearchSpace] = Registry(
    "nas.spaces",
    {
        "yolo-nano": "search_spaces.yolo_nano:YOLO_NANO",
        "yolo-nas": "search_spaces.yolo_nas:YOLO_NAS",
    },
)


def space_of(architecture: Architecture) -> SearchSpace:
    """The space an architecture names, the architecture checked to be a point of it."""
    space = SPACES[architecture.space]
    space.check(architecture)
    return space
