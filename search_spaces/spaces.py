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
        "yolov9": "search_spaces.yolov9:YOLOV9",
        "yolov9-m": "search_spaces.yolov9:YOLOV9_M",
        "yolov9-c": "search_spaces.yolov9:YOLOV9_C",
        "yolox": "search_spaces.yolox:YOLOX",
        "yolo11": "search_spaces.yolo11:YOLO11",
        "yolo12": "search_spaces.yolo12:YOLO12",
        "yolo26": "search_spaces.yolo26:YOLO26",
    },
)


def space_of(architecture: Architecture) -> SearchSpace:
    """Return the space that an architecture names, at the version that it names.

    Raises:
        InputError: there is no such space or version, or the architecture is no point of it.
    """
    space = SPACES[architecture.space].at_version(architecture.version)
    space.check(architecture)
    return space
