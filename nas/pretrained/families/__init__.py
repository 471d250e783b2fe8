"""Name maps of the families whose published weights can be imported.

A new family is one module with a subclass of :class:`nas.pretrained.families.base.WeightMap`, and one line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.registry import Registry

if TYPE_CHECKING:
    from nas.pretrained.families.base import WeightMap

WEIGHT_MAPS: Registry[type[WeightMap]] = Registry(
    "nas.weight_maps",
    {
        "ultralytics": "nas.pretrained.families.ultralytics:Ultralytics",
        "yolov5": "nas.pretrained.families.ultralytics:AnchorYolov5",
        "yolo-nas": "nas.pretrained.families.yolo_nas:YoloNas",
        "yolov6": "nas.pretrained.families.yolov6:Yolov6",
        "yolov7": "nas.pretrained.families.yolov7:Yolov7",
        "yolov9": "nas.pretrained.families.yolov9:Yolov9",
    },
)
"""Name -> class of the name map."""
