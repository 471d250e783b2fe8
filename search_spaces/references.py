"""The reference YOLOs: published networks as points of their families' spaces, with what their authors say of them.
No torch here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.registry import Registry, unknown
from search_spaces.space import SearchSpace

FAMILIES: Registry[Mapping[str, Architecture]] = Registry(
    "nas.references",
    {
        "YOLOv5": "search_spaces.yolov5:REFERENCES",
        "YOLOv5u": "search_spaces.yolov5:REFERENCES_U",
        "YOLOv6": "search_spaces.yolov6:REFERENCES",
        "YOLOX": "search_spaces.yolox:REFERENCES",
        "YOLOv7": "search_spaces.yolov7:REFERENCES",
        "YOLOv8": "search_spaces.yolov8:REFERENCES",
        "YOLOv9": "search_spaces.yolov9:REFERENCES",
        "YOLO-NAS": "search_spaces.yolo_nas:REFERENCES",
        "YOLO11": "search_spaces.yolo11:REFERENCES",
        "YOLO12": "search_spaces.yolo12:REFERENCES",
        "YOLO26": "search_spaces.yolo26:REFERENCES",
    },
)
"""Family -> its networks by name. A new family is its space's file, a table ``REFERENCES`` in it, and one line here."""


LIKE: Registry[Mapping[str, Architecture]] = Registry(
    "nas.likes",
    {
        "yolo-universal": "search_spaces.yolo_universal:LIKE",
        "yolo-universal-nano": "search_spaces.yolo_universal:LIKE_NANO",
    },
)
"""Space -> the references that it holds besides their own family's space, as its points."""


@dataclass(frozen=True)
class Published:
    """What a reference's authors published at the reference's image size: COCO val2017 mAP50-95 in percent, parameters in millions,
    GFLOPs (2 per MAC), and where it stands.

    None where they give no figure. ``cpu_onnxruntime_ms``: their latency of ONNX Runtime on a CPU. Where a family has
    a head with and one without non-maximum suppression, mAP is that of the head that needs none, which is what is
    deployed here.
    """

    map50_95: float
    params_m: float | None
    gflops: float | None
    cpu_onnxruntime_ms: float | None
    source: str


@dataclass(frozen=True)
class Reference:
    """A published network by the name people know it by (``yolov8n``); ``published`` is None where nothing is on
    record."""

    name: str
    family: str
    architecture: Architecture
    published: Published | None = None


@cache
def references() -> Mapping[str, Reference]:
    """Return all references by name, family by family, smallest first."""
    figures = published()
    return {
        name: Reference(name, family, a, figures.get(name))
        for family in FAMILIES
        for name, a in FAMILIES[family].items()
    }


def reference(name: str) -> Reference:
    """Return the reference of a name. Raises InputError that lists the known names and the nearest."""
    known = references()
    if name not in known:
        raise unknown("reference", name, known)
    return known[name]


def point_of(space: SearchSpace, name: str) -> Architecture:
    """Return the reference of a name as a point of a space, or of a restriction of one.

    The image size is the nearest that the space allows. Raises InputError if the name is unknown or the space does not
    hold the reference.
    """
    own = reference(name).architecture
    known = {n: r.architecture for n, r in references().items() if r.architecture.space == space.name}
    known |= dict(LIKE[space.name]) if space.name in LIKE else {}
    if name not in known:
        raise InputError(
            f"{name} is no point of {space.name}",
            f"one of {', '.join(known)}" if known else "a space that holds references",
        )
    point = known[name].replace(image_size=space.nearest_size(own.image_size).value)
    try:
        return space.check(point)
    except InputError as error:
        raise InputError(
            f"{name} is no point of the search: {error}", hint="allow its values with --fix, or leave it out"
        ) from None


@cache
def published() -> Mapping[str, Published]:
    """Return the published figures by the reference's name (``published.csv``: facts, each with its source)."""
    text = (resources.files("search_spaces") / "published.csv").read_text(encoding="utf-8")

    def number(value: str) -> float | None:
        return float(value) if value else None

    return {
        row["name"]: Published(
            float(row["map50_95"]),
            number(row["params_m"]),
            number(row["gflops"]),
            number(row["cpu_onnxruntime_ms"]),
            row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    }
