"""Video files, read and written by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.inference.results import write_image
from search_spaces.errors import InputError

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
_FPS = 25.0
"""For a file that does not say."""


class Video:
    """The frames of a file, uint8 [H, W, 3] RGB; iterating reads it from the start. ``count`` is what the file says,
    which may be wrong or 0."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such video")
        self.path = path
        capture = self._open()
        self.fps = capture.get(cv2.CAP_PROP_FPS) or _FPS
        self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        capture.release()

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise InputError(
                f"{self.path}: cannot be read as a video", "a kind that this OpenCV decodes", "convert it to mp4"
            )
        return capture

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        capture = self._open()
        try:
            while True:
                there, frame = capture.read()
                if not there:
                    return
                yield np.ascontiguousarray(frame[:, :, ::-1], np.uint8)
        finally:
            capture.release()


class VideoWriter:
    """Frames into ``folder/name.mp4`` (MPEG-4); where this OpenCV has no codec for it, into JPEG files in
    ``folder/name-frames``.

    A context: the file has its name when the block is left, with what was written until then, so that an interrupted
    video can be played too.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self.path = folder / f"{name}.mp4"
        self._frames = folder / f"{name}-frames"
        self._temporary = folder / f".{name}.{os.getpid()}.part.mp4"
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, rgb: NDArray[np.uint8]) -> None:
        """One more frame, uint8 [H, W, 3], all of one size."""
        if not self._count:
            self._start(rgb.shape[1], rgb.shape[0])
        self._count += 1
        if self._writer is None:
            write_image(self._frames / f"{self._count:06d}.jpg", rgb)
        else:
            self._writer.write(np.ascontiguousarray(rgb[:, :, ::-1]))

    def _start(self, width: int, height: int) -> None:
        writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
        if writer.isOpened():
            self._writer = writer
        else:
            self._temporary.unlink(missing_ok=True)
            self.path = self._frames

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()
            os.replace(self._temporary, self.path)
