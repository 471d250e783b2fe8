"""What ``nas predict --save`` writes: drawn images, JSON, COCO, YOLO labels. One class for each, in
:data:`WRITERS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from nas.core.atomic import atomic_write
from nas.data.coco_writer import CocoWriter
from nas.inference.results import Result, write_image
from search_spaces.text import json_text, printable


class ResultWriter(ABC):
    """Takes results one by one and writes below ``folder``."""

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        self.folder = folder
        self.classes = classes

    @abstractmethod
    def add(self, name: str, result: Result, frame: int | None = None) -> Path | None:
        """Add the result of an image, or of a frame (from 0) of a video, named ``name``.

        Return its file, or None if results share one file.
        """

    def close(self) -> list[Path]:
        """Write the files that results share, also after an interruption, and return them."""
        return []


class DrawnResults(ResultWriter):
    """``NAME.png``. The frames of a video go into a video: :class:`nas.inference.video.VideoWriter`."""

    def add(self, name: str, result: Result, frame: int | None = None) -> Path | None:
        """Write the image with its boxes as PNG; frames of a video are left to the video."""
        return None if frame is not None else write_image(self.folder / f"{name}.png", result.draw())


class JsonResults(ResultWriter):
    """``predictions.json``: what :meth:`nas.inference.results.Result.to_dict` says of each, and the frame."""

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        super().__init__(folder, classes)
        self._results: list[dict[str, Any]] = []

    def add(self, name: str, result: Result, frame: int | None = None) -> Path | None:
        """Keep the result for ``predictions.json``."""
        self._results.append({**result.to_dict(), **({} if frame is None else {"frame": frame})})
        return None

    def close(self) -> list[Path]:
        """Write ``predictions.json``."""
        content = {"classes": list(self.classes), "results": self._results}
        return [atomic_write(self.folder / "predictions.json", json_text(content, indent=1) + "\n")]


class CocoResults(ResultWriter):
    """``predictions.coco.json``: a COCO object whose annotations have a score, so that they are what COCO calls
    results, too. Category = label + 1."""

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        super().__init__(folder, classes)
        self._coco = CocoWriter(classes)

    def add(self, name: str, result: Result, frame: int | None = None) -> Path | None:
        """Keep the result for ``predictions.coco.json``."""
        height, width = result.image.shape[:2]
        where = result.path.as_posix() if result.path and frame is None else f"{name}_{frame or 0:06d}"
        self._coco.add(where, (width, height), result.boxes, result.labels, scores=result.scores)
        return None

    def close(self) -> list[Path]:
        """Write ``predictions.coco.json``."""
        return [atomic_write(self.folder / "predictions.coco.json", self._coco.text())]


class YoloResults(ResultWriter):
    """``labels/NAME.txt`` with lines ``class centre-x centre-y width height``, relative to the image and without
    score, as training reads them, and ``classes.txt``."""

    def add(self, name: str, result: Result, frame: int | None = None) -> Path | None:
        """Write the label file of the image or frame."""
        height, width = result.image.shape[:2]
        lines = []
        for (x1, y1, x2, y2), label in zip(result.boxes.astype(float).tolist(), result.labels.tolist(), strict=True):
            place = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join([str(label), *(f"{value:.6f}" for value in place)]) + "\n")
        stem = name if frame is None else f"{name}_{frame:06d}"
        return atomic_write(self.folder / "labels" / f"{stem}.txt", "".join(lines))

    def close(self) -> list[Path]:
        """Write ``classes.txt``."""
        return [atomic_write(self.folder / "classes.txt", "".join(f"{printable(name)}\n" for name in self.classes))]


WRITERS: dict[str, type[ResultWriter]] = {
    "drawn": DrawnResults,
    "json": JsonResults,
    "coco": CocoResults,
    "yolo": YoloResults,
}
