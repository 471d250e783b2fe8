"""Video files, read and written by OpenCV."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from nas.inference.results import write_image
from search_spaces.errors import InputError

SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"})
MAX_LOST = 1000
"""Frames in a row that cannot be decoded after which the rest of a video is given up."""
_FPS = 25.0
"""Frame rate of a file that states none."""


class Video:
    """The frames of a file.

    Attributes:
        path: The file.
        fps: Frames per second.
        count: Number of frames that the file states; it may be wrong, or 0.
        lost: Frames that could not be decoded, once the video has been iterated.

    Raises:
        InputError: The path is no regular file or no video that OpenCV decodes.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such video")
        self.path = path
        with self._opened() as capture:
            self.fps = capture.get(cv2.CAP_PROP_FPS) or _FPS
            self.count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.lost = 0

    @contextlib.contextmanager
    def _opened(self) -> Iterator[cv2.VideoCapture]:
        with _encodable(self.path) as name:
            capture = cv2.VideoCapture(name)
        try:
            if not capture.isOpened():
                raise InputError(
                    f"{self.path}: cannot be read as a video", "a kind that this OpenCV decodes", "convert it to mp4"
                )
            yield capture
        finally:
            capture.release()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames from the start, uint8 [H, W, 3] RGB; those that cannot be decoded are counted in ``lost``."""
        for _, frame in self.numbered():
            yield frame

    def numbered(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (index, frame) from the start; indices count the frames that could not be decoded too."""
        self.lost = index = failed = 0
        with self._opened() as capture:
            while True:
                there, frame = capture.read()
                if there:
                    self.lost, failed = self.lost + failed, 0
                    yield index, np.ascontiguousarray(frame[:, :, ::-1], np.uint8)
                else:
                    failed += 1
                index += 1
                if failed > MAX_LOST or (failed and index >= self.count):
                    break
        self.lost += max(0, self.count - (index - failed))


class VideoWriter:
    """Writes frames to ``folder/name.mp4`` (MPEG-4), or to JPEG files in ``folder/name-frames`` without a codec.

    A context: the file takes its name when the block is left, with the frames written until then, so that the video of
    an interrupted run can be played.

    Raises:
        InputError: When the block is left, if the file cannot be read again with all its frames (a full disk); OpenCV
            itself does not report that.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self.path = folder / f"{name}.mp4"
        self._frames = folder / f"{name}-frames"
        self._temporary = folder / f".{os.getpid()}.part.mp4"
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._count = 0

    def write(self, rgb: NDArray[np.uint8]) -> None:
        """Write one more frame, uint8 [H, W, 3] RGB, all of one size."""
        if not self._count:
            self._start(rgb.shape[1], rgb.shape[0])
        self._count += 1
        if self._writer is None:
            write_image(self._frames / f"{self._count:06d}.jpg", rgb)
        else:
            self._writer.write(np.ascontiguousarray(rgb[:, :, ::-1]))

    def _start(self, width: int, height: int) -> None:
        with _encodable(self._temporary) as path:
            writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
        if writer.isOpened():
            self._writer = writer
        else:
            self._temporary.unlink(missing_ok=True)
            self.path = self._frames

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        readable = _readable_frames(self._temporary)
        if readable < self._count and kind is None:
            self._temporary.unlink(missing_ok=True)
            raise InputError(
                f"cannot write {self.path}: {readable} of {self._count} frames can be read again",
                hint="free some space on that disk and run the command again",
            )
        os.replace(self._temporary, self.path)


def _readable_frames(path: Path) -> int:
    """Number of frames that the file states, 0 if the last of them cannot be decoded."""
    try:
        video = Video(path)
    except InputError:
        return 0
    with video._opened() as capture:
        capture.set(cv2.CAP_PROP_POS_FRAMES, max(0, video.count - 1))
        return video.count if capture.read()[0] else 0


@contextlib.contextmanager
def _encodable(path: Path) -> Iterator[str]:
    """A name of the file that OpenCV takes: its own, or that of a temporary link if its own is not UTF-8.

    OpenCV ends the process with a segmentation fault when it is given a name that is not.
    """
    name = str(path)
    if not any("\ud800" <= character <= "\udfff" for character in name):
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="nas-") as folder:
        link = Path(folder) / f"video{path.suffix}"
        link.symlink_to(path.absolute())
        yield str(link)
