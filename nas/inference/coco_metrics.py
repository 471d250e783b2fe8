"""Average precision as COCO defines it, by faster-coco-eval (equal to pycocotools in all 12 numbers, ten times as
fast)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import DetectionDataset
from nas.inference.nms import Detections
from search_spaces.errors import InputError
from search_spaces.json_checks import JsonObject

__all__ = ["Detections", "Metrics", "evaluate"]

NAMES = (
    *("map", "map50", "map75", "map_small", "map_medium", "map_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""COCO's numbers in the order of the evaluator's table."""


@dataclass(frozen=True)
class Metrics:
    """The 12 numbers of COCO (cocodataset.org, detection-eval), each 0..1, and the AP of each class.

    ``map``: mean over IoU 0.50:0.95 and classes, at most 100 detections an image; ``map50``, ``map75``: at one IoU;
    small/medium/large: objects of area under 32², under 96², and over. ``ar1``, ``ar10``, ``ar100``: mean recall with
    so many detections an image. None: no such object to find.
    """

    map: float
    map50: float
    map75: float
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    ar1: float
    ar10: float
    ar100: float
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: tuple[tuple[str, float | None], ...]
    map_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, ``per_class`` as name: AP; ``map_interval`` only where it was computed."""
        numbers = asdict(self)
        interval = numbers.pop("map_interval")
        return {
            **numbers,
            "per_class": dict(self.per_class),
            **({} if interval is None else {"map_interval": list(interval)}),
        }

    @classmethod
    def from_dict(cls, data: object, where: str = "metrics") -> Metrics:
        """Inverse of :meth:`to_dict`; ``where`` names the place that ``data`` was read from.

        Raises InputError if a number is missing, not finite or not in 0..1, or if an interval is not two such numbers.
        """
        given = JsonObject.of(data, where)
        by_class = given.object("per_class")
        numbers: dict[str, Any] = {}
        for name in NAMES:
            optional = name.rpartition("_")[2] in ("small", "medium", "large") and not given.has(name)
            numbers[name] = None if optional else given.number(name, 0, 1)
        classes = [(name, by_class.number(name, 0, 1) if by_class.has(name) else None) for name in by_class.entries]
        return cls(**numbers, per_class=tuple(classes), map_interval=interval_of(given))


def interval_of(metrics: JsonObject) -> tuple[float, float] | None:
    """Return the 95 % interval of mAP, low and high in 0..1, that metrics hold; None if they hold none.

    Raises InputError unless it is two finite numbers in 0..1, the lower one first.
    """
    if not metrics.has("map_interval"):
        return None
    ends = dict(zip(("low", "high"), metrics.array("map_interval"), strict=False))
    checked = JsonObject(ends, f"{metrics.where}: map_interval")
    low, high = checked.number("low", 0, 1), checked.number("high", 0, 1)
    if len(metrics.array("map_interval")) != 2 or low > high:
        raise InputError(f"{metrics.where}: map_interval is {metrics.array('map_interval')!r:.80}", "low and high")
    return low, high


def evaluate(dataset: DetectionDataset, detections: Mapping[int, Detections]) -> Metrics:
    """Compute the COCO metrics of ``detections``: image id -> boxes in pixels of the original image.

    An image that is missing counts as one without detections. Crowds are ignored regions, as COCO defines them. Ids may
    be any integers: the evaluator, which stores ids as float64, receives the numbers 1, 2, … in the order of the ids.

    Raises InputError if the data set has no object (its AP is undefined, not 0), or if a detection is of an image that
    the data set lacks, is not finite, or has a label without a class.
    """
    if not any((~s.crowd).any() for s in dataset.samples):
        raise InputError(
            f"the {dataset.split} split of {dataset.name} has no object to find", "at least one that is not a crowd"
        )
    numbered = {id: number for number, id in enumerate(sorted(s.id for s in dataset.samples), 1)}
    rows = _rows(dataset, detections, numbered)
    # an import of 0.2 s that only an evaluation needs
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(dataset.coco(numbers=numbered).content(), print_function=_silent)
    found = truth.loadRes(rows if len(rows) else [])
    evaluator = COCOeval_faster(truth, found, iouType="bbox", print_function=_silent)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    numbers: dict[str, Any] = {
        name: _defined(value) for name, value in zip(NAMES, evaluator.stats[: len(NAMES)], strict=True)
    }
    return Metrics(**numbers, per_class=_per_class(dataset.classes, evaluator.eval["precision"]))


def _rows(
    dataset: DetectionDataset, detections: Mapping[int, Detections], numbered: Mapping[int, int]
) -> NDArray[np.float64]:
    """All detections as [N, 7]: number of the image, x, y, width, height, score, category id. Checked: a NaN score would
    silently be sorted first."""
    blocks = [np.zeros((0, 7))]
    for id, found in detections.items():
        if id not in numbered:
            raise InputError(
                f"detections for image {id}", f"one of the {len(numbered)} images of {dataset.name}/{dataset.split}"
            )
        boxes = found.boxes.astype(np.float64)
        if not (np.isfinite(boxes).all() and np.isfinite(found.scores).all()):
            raise InputError(
                f"a box or score of image {id} is not finite",
                "numbers",
                "the network has diverged, or its output was decoded wrongly",
            )
        if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(dataset.classes):
            raise InputError(
                f"labels {found.labels.min()}..{found.labels.max()} in image {id}", f"0..{len(dataset.classes) - 1}"
            )
        sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
        blocks.append(
            np.column_stack([np.full(len(found), numbered[id]), boxes[:, :2], sides, found.scores, found.labels + 1])
        )
    return np.concatenate(blocks)


def _per_class(classes: tuple[str, ...], precision: NDArray[np.float64]) -> tuple[tuple[str, float | None], ...]:
    """AP of each class from the evaluator's table [IoU, recall, class, area, detections]: all areas, most detections;
    -1 marks no such object."""
    tables = [precision[:, :, i, 0, -1] for i in range(len(classes))]
    values = [float(t[t > -1].mean()) if (t > -1).any() else None for t in tables]
    return tuple(zip(classes, values, strict=True))


def _defined(value: float) -> float | None:
    """The library's -1 says that there is nothing to find."""
    return None if value < 0 else float(value)


def _silent(*_: object) -> None:
    """Where the library would print."""
