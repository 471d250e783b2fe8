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
        "yolo-universal": "search_spaces.yolo_universal:YOLO_UNIVERSAL",
        "yolo-universal-nano": "search_spaces.yolo_universal:YOLO_UNIVERSAL_NANO",
        "yolov5": "search_spaces.yolov5:YOLOV5",
        "yolov6": "search_spaces.yolov6:YOLOV6",
        "yolov7": "search_spaces.yolov7:YOLOV7",
        "yolov7-tiny": "search_spaces.yolov7:YOLOV7_TINY",
        "yolov8": "search_spaces.yolov8:YOLOV8",
        "yolo11": "search_spaces.yolo11:YOLO11",
        "yolo12": "search_spaces.yolo12:YOLO12",
        "yolo26": "search_spaces.yolo26:YOLO26",
    },
)


def space_of(architecture: Architecture) -> SearchSpace:
    """The space an architecture names, the architecture checked to be a point of it."""
    space = SPACES[architecture.space]
    space.check(architecture)
    return space
