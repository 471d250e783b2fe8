"""What was found in one image, ready to be looked at, saved or passed on."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.core.atomic import atomic_write
from nas.inference.draw import draw, fitted
from nas.inference.nms import Detections
from search_spaces.errors import InputError
from search_spaces.text import json_text, printable

_SHOWN_PX = 1600
"""Longest side of an image in a window or notebook."""


@dataclass(frozen=True, eq=False)
class Result:
    """One image, ``image`` uint8 [H, W, 3] RGB, and what is in it; ``path`` is where it was read, None for an array
    or a frame of a video."""

    image: NDArray[np.uint8]
    detections: Detections
    classes: tuple[str, ...]
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """float32 [n, 4] xyxy in pixels of the image, surest first."""
        return self.detections.boxes

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 [n] in 0..1."""
        return self.detections.scores

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [n], indices of ``classes``."""
        return self.detections.labels

    @property
    def names(self) -> list[str]:
        """The class of each box by name."""
        return [self.classes[label] for label in self.labels]

    def draw(self) -> NDArray[np.uint8]:
        """Draw the boxes and return the image, uint8 [H, W, 3] RGB; a small image is enlarged, so that tags are
        readable."""
        return draw(self.image, self.boxes, self.scores, self.labels, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: path, width, height and the objects, each with its name, label, score and box (xyxy, pixels)."""
        rows = zip(self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        return {
            "path": None if self.path is None else str(self.path),
            "width": self.image.shape[1],
            "height": self.image.shape[0],
            "objects": [{"name": name, "label": label, "score": score, "box": box} for name, label, score, box in rows],
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawn image (``.png``, ``.jpg``, ``.webp``, …), or with ``.json`` what :meth:`to_dict` says."""
        if Path(path).suffix == ".json":
            return atomic_write(path, json_text(self.to_dict(), indent=2) + "\n")
        return write_image(path, self.draw())

    def show(self) -> None:
        """In a notebook inline; in a window where there is a display, until it is closed; else in a file, whose name
        is printed."""
        if _in_notebook():
            from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

            display(self)
        elif not _window(fitted(self.draw(), _SHOWN_PX)[0], str(self.path or "image")):
            name = self.path.stem if self.path else "image"
            where = self.save(Path(tempfile.mkdtemp(prefix="nas-")) / f"{name}.png")
            sys.stdout.write(f"no display: drawn in {printable(where)}\n")

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        return encode(".png", fitted(self.draw(), _SHOWN_PX)[0])

    def __repr__(self) -> str:
        found = ", ".join(
            f"{name} {score:.2f}" for name, score in zip(map(printable, self.names), self.scores, strict=True)
        )
        return f"<{printable(self.path or 'image')} {self.image.shape[1]}x{self.image.shape[0]}: {found or 'nothing'}>"


def encode(suffix: str, rgb: NDArray[np.uint8]) -> bytes:
    """Encode an image, uint8 [H, W, 3] RGB, as a file of that kind. Raises InputError if OpenCV cannot."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix in (".jpg", ".jpeg") else []
    try:
        done, encoded = cv2.imencode(suffix, rgb[:, :, ::-1], options)
    except cv2.error:
        done = False
    if not done:
        raise InputError(
            f"images as {suffix or 'a file without a suffix'}", ".png, .jpg or another kind that OpenCV writes"
        )
    return bytes(encoded.tobytes())


def write_image(path: str | os.PathLike[str], rgb: NDArray[np.uint8]) -> Path:
    """Write an image, uint8 [H, W, 3] RGB, to a file, whole or not at all, and return its path."""
    return atomic_write(path, encode(Path(path).suffix.lower(), rgb))


def _in_notebook() -> bool:
    """Whether a kernel would show what is displayed."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def _window(rgb: NDArray[np.uint8], title: str) -> bool:
    """Show it until it is closed; False where there is no display, or no toolkit that could open a window on it."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import matplotlib.pyplot as plt

    figure = plt.figure(title, figsize=(rgb.shape[1] / 100, rgb.shape[0] / 100), frameon=False)
    if figure.canvas.required_interactive_framework is None:  # matplotlib found no toolkit and draws into memory
        plt.close(figure)
        return False
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(rgb)
    axes.set_axis_off()
    plt.show()
    return True
